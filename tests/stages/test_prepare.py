"""prepare turns raw photos into a verified dataset, all of it or nothing."""

import dataclasses
import hashlib
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy
import pytest
from folders import names, tree
from PIL import Image

from ddm_core.data.manifest import read_manifest
from ddm_core.data.shards import load_photos
from ddm_core.errors import DdmError
from ddm_core.params import FetchParams, PrepareParams
from ddm_core.stages import fetch, prepare

ORL_PARAMS = PrepareParams(
    image_size=64,
    channels=1,
    square="crop",
    test_fraction=0.2,
    identity_test_fraction=0.2,
    max_bad_fraction=0.01,
    shard_megabytes=256,
    seed=0,
)


@pytest.fixture
def raw(photo_folder, tmp_path):
    return shutil.copytree(photo_folder, tmp_path / "raw")


def test_orl_gives_400_photos_of_40_people_320_for_train_and_80_for_test(tmp_path):
    fetch.run(FetchParams("orl"), raw=tmp_path / "raw")
    result = prepare.run(ORL_PARAMS, raw=tmp_path / "raw", prepared=tmp_path / "prepared")
    counts = result.counts
    assert (counts.found, counts.read, counts.quarantined, counts.identities) == (400, 400, 0, 40)
    assert (counts.train, counts.test, counts.identity_train, counts.identity_test) == (320, 80, 32, 8)
    test = load_photos(tmp_path / "prepared", split="test")
    assert test.images.shape == (80, 1, 64, 64)
    assert test.labels.bincount().tolist() == [2] * 40
    assert "AT&T" in read_manifest(tmp_path / "prepared").metadata["credit"]


def test_two_runs_give_the_same_bytes(raw, prepare_params, tmp_path):
    results = [
        prepare.run(prepare_params, raw=raw, prepared=tmp_path / name / "prepared") for name in ("a", "b")
    ]
    assert results[0] == results[1]
    assert tree(tmp_path / "a/prepared") == tree(tmp_path / "b/prepared")


def test_the_manifest_says_where_every_photo_came_from(prepared, photo_folder):
    manifest = read_manifest(prepared)
    assert [photo.source for photo in manifest.photos] == sorted(tree(photo_folder))
    for photo in manifest.photos:
        assert hashlib.sha256((photo_folder / photo.source).read_bytes()).hexdigest() == photo.source_sha256
        assert photo.source.startswith(photo.identity + "/")
    for shard in manifest.shards:
        assert hashlib.sha256((prepared / shard.name).read_bytes()).hexdigest() == shard.sha256


def test_the_dataset_digest_changes_with_pixels_names_splits_and_size_only(raw, prepare_params, tmp_path):
    def digest(**changes):
        params = dataclasses.replace(prepare_params, **changes)
        return prepare.run(params, raw=raw, prepared=tmp_path / "prepared").dataset_digest

    first = digest()
    assert digest(shard_megabytes=2) == digest(max_bad_fraction=0.5) == first
    others = [digest(image_size=16), digest(channels=3), digest(seed=1), digest(square="pad")]
    photo = raw / "zoe/photo 0.png"
    with Image.open(photo) as image:
        image.save(photo.with_suffix(".bmp"))  # the same pixels in another format at the same place
    photo.unlink()
    photo.with_suffix(".bmp").rename(photo)
    assert digest() == first
    photo.rename(raw / "José/photo 9.png")
    others.append(digest())
    assert len({first, *others}) == 6


def test_the_split_does_not_depend_on_the_image_size(raw, prepare_params, tmp_path):
    def test_photos(size):
        params = dataclasses.replace(prepare_params, image_size=size)
        prepare.run(params, raw=raw, prepared=tmp_path / "prepared")
        return load_photos(tmp_path / "prepared", split="test").keys

    assert test_photos(16) == test_photos(64)


def test_copies_of_a_photo_stay_on_one_side_of_both_splits(raw, prepare_params, tmp_path):
    for number in range(6, 12):
        shutil.copy(raw / "zoe/photo 0.png", raw / f"zoe/photo {number}.png")
    shutil.copy(raw / "José/photo 1.png", raw / "Björn/photo 7.png")
    for seed in range(5):
        params = dataclasses.replace(prepare_params, seed=seed, test_fraction=0.5, identity_test_fraction=0.5)
        prepare.run(params, raw=raw, prepared=tmp_path / "prepared")
        for split in ("split", "identity_split"):
            sides = {"train": set(), "test": set()}
            for photo in read_manifest(tmp_path / "prepared").photos:
                sides[getattr(photo, split)].add(photo.pixel_sha256)
            assert sides["train"] and sides["test"]
            assert not sides["train"] & sides["test"]


def test_unreadable_files_are_quarantined_with_their_reason_and_named_on_screen(
    raw, prepare_params, tmp_path, capsys
):
    whole = (raw / "zoe/photo 0.png").read_bytes()
    (raw / "zoe/empty.jpg").write_bytes(b"")
    (raw / "zoe/cut.png").write_bytes(whole[:-50])
    (raw / "zoe/prose.bmp").write_text("This is not a photo.")
    (raw / "zoe/gone.png").symlink_to("nowhere.png")
    (raw / "zoe/really a png.jpg").write_bytes((raw / "José/photo 0.png").read_bytes())
    params = dataclasses.replace(prepare_params, max_bad_fraction=0.2)
    counts = prepare.run(params, raw=raw, prepared=tmp_path / "prepared").counts
    assert (counts.found, counts.read, counts.quarantined) == (35, 31, 4)
    quarantined = {file.source: file.reason for file in read_manifest(tmp_path / "prepared").quarantined}
    assert sorted(quarantined) == ["zoe/cut.png", "zoe/empty.jpg", "zoe/gone.png", "zoe/prose.bmp"]
    assert "empty" in quarantined["zoe/empty.jpg"]
    assert "truncated" in quarantined["zoe/cut.png"]
    assert "not an image" in quarantined["zoe/prose.bmp"]
    assert "leads nowhere" in quarantined["zoe/gone.png"]
    screen = capsys.readouterr().err
    for source, reason in quarantined.items():
        assert f"quarantined {source}: {reason}\n" in screen


def test_too_many_unreadable_files_fail_the_stage_and_leave_the_earlier_dataset(
    raw, prepare_params, tmp_path
):
    target = tmp_path / "prepared"
    prepare.run(prepare_params, raw=raw, prepared=target)
    before = tree(target)
    (raw / "zoe/photo 0.png").write_bytes(b"")
    with pytest.raises(DdmError) as caught:
        prepare.run(prepare_params, raw=raw, prepared=target)
    for part in ("1 of 30", "3.33%", "max_bad_fraction 1.00%", "zoe/photo 0.png: the file is empty"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(target) == before
    assert names(tmp_path) == ["prepared", "prepared.parts", "raw"]  # what was decoded is kept


def test_the_bound_itself_is_allowed(raw, prepare_params, tmp_path):
    (raw / "zoe/photo 0.png").write_bytes(b"")
    params = dataclasses.replace(prepare_params, max_bad_fraction=1 / 30)
    assert prepare.run(params, raw=raw, prepared=tmp_path / "prepared").counts.quarantined == 1


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        ({}, "no photo in it"),
        ({"anna/1.png": 1, "anna/2.png": 2}, r"photos of 1 people \['anna'\], at least 2 are needed"),
        ({"anna/1.png": 1, "ben/1.png": 2}, "no person has enough different photos"),
        (
            {f"{p}/{n}.png": n for p in ("anna", "ben") for n in range(9)},
            "no person has enough different photos",
        ),
        (
            {f"{p}/{n}.png": n * (1 + 10 * (p == "ben")) for p in ("anna", "ben") for n in range(9)},
            "too many people share the same photos",
        ),
    ],
)
def test_too_few_people_or_photos_for_a_split_are_errors(prepare_params, tmp_path, photos, message):
    (tmp_path / "raw").mkdir()
    for relative, shade in photos.items():
        (tmp_path / "raw" / relative).parent.mkdir(exist_ok=True)
        Image.fromarray(numpy.full((8, 8), shade, numpy.uint8)).save(tmp_path / "raw" / relative)
    with pytest.raises(DdmError, match=message):
        prepare.run(prepare_params, raw=tmp_path / "raw", prepared=tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def run_script(script):
    """Run Python in a child process."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )


def start_prepare(raw, prepared, sentence):
    """Run prepare in a child process that runs `sentence` when the first shard is on disk."""
    return run_script(f"""
        import os, resource, signal, sys
        from pathlib import Path
        from ddm_core.params import PrepareParams
        from ddm_core.stages import prepare

        def watch(event, arguments):
            if event == "open" and str(arguments[0]).endswith("test-000000.tar"):
                {sentence}

        sys.addaudithook(watch)
        prepare.run({ORL_PARAMS!r}, raw=Path({str(raw)!r}), prepared=Path({str(prepared)!r}))
    """)


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
FULL_DISK = (
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))"
)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_kill_between_two_shards_leaves_no_half_written_dataset(raw, prepare_params, tmp_path, earlier):
    target = tmp_path / "data/prepared"
    if earlier:
        prepare.run(prepare_params, raw=raw, prepared=target)
    before = tree(target)
    process = start_prepare(raw, target, KILL)
    assert process.returncode == -signal.SIGKILL
    assert list((tmp_path / "data").glob(".prepared.*/train-000000.tar")), (
        "killed too early to prove anything"
    )
    assert target.exists() == earlier
    assert tree(target) == before
    result = prepare.run(prepare_params, raw=raw, prepared=target)
    assert read_manifest(target).dataset_digest == result.dataset_digest
    assert names(tmp_path / "data") == ["prepared"]


def test_a_disk_that_fills_up_leaves_the_earlier_dataset_and_finished_parts_alone(
    raw, prepare_params, tmp_path
):
    target = tmp_path / "data/prepared"
    prepare.run(prepare_params, raw=raw, prepared=target)
    before = tree(target)
    process = start_prepare(raw, target, FULL_DISK)
    assert process.returncode != 0
    assert "File too large" in process.stderr
    assert tree(target) == before
    assert names(tmp_path / "data") == ["prepared", "prepared.parts"]


def test_fetch_and_prepare_never_load_torch(tmp_path):
    raw, prepared = tmp_path / "raw", tmp_path / "prepared"
    process = run_script(f"""
        import sys
        from pathlib import Path
        from ddm_core.params import FetchParams, PrepareParams
        from ddm_core.stages import fetch, prepare

        print("at import:", {{"numpy", "PIL", "tqdm", "torch"}} & sys.modules.keys())
        fetch.run(FetchParams("orl"), raw=Path({str(raw)!r}))
        prepare.run({ORL_PARAMS!r}, raw=Path({str(raw)!r}), prepared=Path({str(prepared)!r}))
        print("after both:", "torch" in sys.modules)
    """)
    assert process.stdout == "at import: set()\nafter both: False\n", process.stderr
