"""prepare works in parts: by many processes or machines, resumed after a kill, always with one outcome."""

import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import numpy
import pytest
import yaml
from folders import names, tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddm_core import cli
from ddm_core.data import parts_folder
from ddm_core.data.manifest import read_manifest
from ddm_core.data.parts_folder import Share, parse_share
from ddm_core.data.raw import Region, Rejected
from ddm_core.data.regions import write_regions, write_rejected
from ddm_core.data.shards import load_photos
from ddm_core.data.workers import outcomes
from ddm_core.errors import DdmError
from ddm_core.stages import prepare

CHECKOUT = Path(__file__).parents[2]
FILES_A_PART = 4


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Thirty photos are eight parts here."""
    monkeypatch.setattr(parts_folder, "FILES_A_PART", FILES_A_PART)


@pytest.fixture
def raw(photo_folder, tmp_path):
    return shutil.copytree(photo_folder, tmp_path / "raw")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data/prepared"


def written_at(folder):
    """Return when each part was written, by its number."""
    return {part.name: part.stat().st_mtime_ns for part in folder.glob("[0-9]*")}


@pytest.mark.parametrize("workers", [1, 3])
def test_the_outcome_does_not_depend_on_the_number_of_workers(raw, prepared, prepare_params, target, workers):
    prepare.run(prepare_params, raw=raw, prepared=target, workers=workers)
    assert tree(target) == tree(prepared)
    assert names(target.parent) == ["prepared"]


@pytest.mark.parametrize("count", [1, 3, 11])
def test_shares_made_one_by_one_and_merged_give_the_same_bytes(raw, prepared, prepare_params, target, count):
    results = [
        prepare.run_share(prepare_params, share=Share(index, count), raw=raw, prepared=target, workers=1)
        for index in reversed(range(count))
    ]
    assert {result.total for result in results} == {8}
    assert sum(result.parts for result in results) == 8
    assert not target.exists()
    prepare.merge(prepare_params, raw=raw, prepared=target, workers=1)
    assert tree(target) == tree(prepared)
    assert names(target.parent) == ["prepared"]


@given(count=st.integers(1, 12), parts=st.integers(0, 30))
def test_shares_cover_every_part_once(count, parts):
    made = [part for index in range(count) for part in Share(index, count).of(range(parts))]
    assert sorted(made) == list(range(parts))


def test_the_command_line_makes_shares_in_a_folder_of_choice_and_merges_them(
    raw, prepared, prepare_params, tmp_path, capsys
):
    target = tmp_path / "prepared"
    parts, params = tmp_path / "parts", tmp_path / "params.yaml"
    content = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    params.write_text(yaml.safe_dump(content | {"prepare": dataclasses.asdict(prepare_params)}))
    common = ["prepare", "--params", params, "--raw", raw, "--prepared", target, "--parts", parts]

    def ddm(*options):
        status = cli.main(list(map(str, [*common, "--workers", "1", *options])))
        return status, capsys.readouterr()

    assert ddm("--shard", "1/2")[0] == 0
    status, screen = ddm("--merge")
    assert status == 1
    assert "4 of 8 parts are missing or made of other files or params: 0, 2, 4, 6;" in screen.err
    status, screen = ddm("--shard", "0/2")
    assert (status, screen.out) == (0, f"{parts}: share 0/2 is there, 4 of 8 parts\n")
    assert ddm("--merge")[0] == 0
    assert tree(target) == tree(prepared)
    assert not parts.exists()
    assert ddm("--shard", "2/2")[0] == 1


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "0/0", "a/b", "1/2/3", "0/1 "])
def test_a_share_that_does_not_exist_is_refused(text):
    with pytest.raises(DdmError, match="expected INDEX/COUNT"):
        parse_share(text)


def test_no_workers_are_refused(raw, prepare_params, target):
    with pytest.raises(DdmError, match="0 workers"):
        prepare.run(prepare_params, raw=raw, prepared=target, workers=0)


def share_all(params, raw, target, workers=1):
    prepare.run_share(params, share=Share(), raw=raw, prepared=target, workers=workers)
    return target.with_name("prepared.parts")


def test_finished_parts_are_kept_and_only_stale_ones_are_made_again(raw, prepare_params, target):
    folder = share_all(prepare_params, raw, target)
    before = written_at(folder)
    (raw / "Björn/photo 3.png").write_bytes((raw / "zoe/photo 0.png").read_bytes())
    share_all(prepare_params, raw, target)
    after = written_at(folder)
    changed = 9 // FILES_A_PART  # the tenth file, in sorted order
    assert {part for part in before if before[part] != after[part]} == {f"{changed:06}"}
    share_all(dataclasses.replace(prepare_params, seed=9, shard_megabytes=7), raw, target)
    assert written_at(folder) == after
    share_all(dataclasses.replace(prepare_params, image_size=16), raw, target)
    assert not set(written_at(folder).values()) & set(after.values())


def test_a_touched_or_copied_file_is_no_other_file(raw, prepare_params, target, tmp_path):
    folder = share_all(prepare_params, raw, target)
    before = written_at(folder)
    moved = shutil.copytree(raw, tmp_path / "moved", copy_function=shutil.copyfile)
    share_all(prepare_params, moved, target)
    assert written_at(folder) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda part: (part / "photos.tar").write_bytes(b""),
        lambda part: (part / "photos.tar").unlink(),
        lambda part: (part / "part.json").write_text("{"),
        lambda part: (part / "part.json").write_text("[]"),
        lambda part: (part / "part.json").unlink(),
    ],
)
def test_a_damaged_part_is_refused_by_the_merge_and_made_again_by_a_run(
    raw, prepared, prepare_params, target, damage
):
    damage(share_all(prepare_params, raw, target) / "000003")
    with pytest.raises(DdmError, match="1 of 8 parts are missing or made of other files or params: 3;"):
        prepare.merge(prepare_params, raw=raw, prepared=target, workers=1)
    prepare.run(prepare_params, raw=raw, prepared=target, workers=1)
    assert tree(target) == tree(prepared)


def test_parts_of_files_that_are_gone_leave_no_trace(raw, prepare_params, target, tmp_path):
    share_all(prepare_params, raw, target)
    shutil.rmtree(raw / "王芳")
    prepare.run(prepare_params, raw=raw, prepared=target, workers=1)
    prepare.run(prepare_params, raw=raw, prepared=tmp_path / "fresh/prepared", workers=1)
    assert tree(target) == tree(tmp_path / "fresh/prepared")
    assert names(target.parent) == ["prepared"]


def test_a_folder_of_somebody_else_is_not_taken_for_parts(raw, prepare_params, target):
    mine = target.with_name("prepared.parts")
    mine.mkdir(parents=True)
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(DdmError, match="holds files that ddm did not write"):
        prepare.run(prepare_params, raw=raw, prepared=target)
    assert names(mine) == ["letter.txt"]


def test_what_somebody_puts_beside_the_parts_stays(raw, prepare_params, target):
    folder = share_all(prepare_params, raw, target)
    (folder / "letter.txt").write_text("dear")
    prepare.merge(prepare_params, raw=raw, prepared=target, workers=1)
    assert names(folder) == ["letter.txt"]


def test_a_part_holds_plain_files(raw, prepare_params, target):
    part = share_all(prepare_params, raw, target) / "000000"
    assert names(part) == ["part.json", "photos.jsonl", "photos.tar", "quarantined.jsonl"]
    with tarfile.open(fileobj=io.BytesIO((part / "photos.tar").read_bytes() + bytes(1024))) as tar:
        assert tar.getnames() == [f"{number:08}.png" for number in range(FILES_A_PART)]


def test_bad_files_are_accounted_for_whoever_finds_them(raw, prepare_params, target):
    (raw / "zoe/cut.png").write_bytes((raw / "zoe/photo 0.png").read_bytes()[:-50])
    (raw / "zoe/loop.png").symlink_to("loop.png")
    os.mkfifo(raw / "zoe/pipe.png")
    write_rejected(raw, [Rejected("gone/1.jpg", "dead link; nothing to mend")])
    params = dataclasses.replace(prepare_params, max_bad_fraction=0.1)
    counts = prepare.run(params, raw=raw, prepared=target, workers=2).counts
    assert (counts.found, counts.read, counts.quarantined) == (34, 30, 4)
    quarantined = [file.source for file in read_manifest(target).quarantined]
    assert quarantined == ["gone/1.jpg", "zoe/cut.png", "zoe/loop.png", "zoe/pipe.png"]


def test_names_in_any_script_and_with_separators_of_lines_pass_unharmed(raw, prepare_params, target):
    for name in ("İpek", "नेहा", "a,b \"c\" 'd'", "x\\y"):
        shutil.copytree(raw / "zoe", raw / name)
        for number, path in enumerate(sorted((raw / name).iterdir())):
            pixels = numpy.random.default_rng([number, len(name)]).integers(0, 256, (20, 20), numpy.uint8)
            Image.fromarray(pixels).save(path)
    prepare.run(prepare_params, raw=raw, prepared=target, workers=1)
    people = {photo.identity for photo in read_manifest(target).photos}
    assert people == {path.name for path in raw.iterdir()}


def test_photos_are_cut_to_their_regions(raw, prepare_params, target):
    write_regions(raw, {"zoe/photo 0.png": Region(box=(10.0, 10.0, 30.0, 30.0))})
    folder = share_all(prepare_params, raw, target)
    before = written_at(folder)
    write_regions(raw, {"zoe/photo 0.png": Region(box=(10.0, 10.0, 31.0, 31.0))})
    share_all(prepare_params, raw, target)
    after = written_at(folder)
    assert len({part for part in before if before[part] != after[part]}) == 1
    write_regions(raw, {"zoe/photo 0.png": Region(box=(10.0, 10.0, 30.0, 30.0))})
    prepare.run(prepare_params, raw=raw, prepared=target, workers=1)
    key = next(photo.key for photo in read_manifest(target).photos if photo.source == "zoe/photo 0.png")
    with Image.open(raw / "zoe/photo 0.png") as image:
        expected = image.crop((10, 10, 30, 30)).resize((32, 32), Image.Resampling.LANCZOS)
    for split in ("train", "test"):
        photos = load_photos(target, split=split)
        if key in photos.keys:
            assert (photos.images[photos.keys.index(key)][0].numpy() == numpy.asarray(expected)).all()
            return
    pytest.fail("the photo is in neither split")


def start(raw, target, params, *, at=None, action="pass", workers=1):
    """Start prepare in a process of its own, in which `action` happens when it begins its `at`-th part."""
    script = f"""
        import os, signal, sys, time
        from pathlib import Path
        from ddm_core.data import parts_folder
        from ddm_core.params import PrepareParams
        from ddm_core.stages import prepare
        from ddm_core.errors import DdmError

        parts_folder.FILES_A_PART = {FILES_A_PART}
        begun = 0

        def watch(event, arguments):
            global begun
            if event == "open" and str(arguments[0]).endswith("photos.tar") and "w" in str(arguments[1]):
                begun += 1
                if begun == {at}:
                    {action}

        sys.addaudithook(watch)
        try:
            prepare.run(
                {params!r}, raw=Path({str(raw)!r}), prepared=Path({str(target)!r}), workers={workers}
            )
        except DdmError as error:
            sys.exit(f"error: {{error}}")
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE, text=True
    )


LINES = {signal.SIGKILL: "", signal.SIGTERM: "asked to end by SIGTERM"}


@pytest.mark.parametrize("number", LINES)
def test_a_run_that_is_ended_goes_on_with_the_part_that_it_was_at(
    raw, prepared, prepare_params, target, number
):
    process = start(raw, target, prepare_params, at=4, action=f"os.kill(os.getpid(), {int(number)})")
    _, screen = process.communicate()
    assert process.returncode != 0
    assert LINES[number] in screen
    folder = target.with_name("prepared.parts")
    before = written_at(folder)
    assert sorted(before) == ["000000", "000001", "000002"]
    assert not target.exists()
    share_all(prepare_params, raw, target)
    assert before.items() <= written_at(folder).items()
    assert list(folder.glob(".*.tmp")) == []
    prepare.merge(prepare_params, raw=raw, prepared=target, workers=1)
    assert tree(target) == tree(prepared)


def test_a_disk_that_fills_up_leaves_no_half_written_part(raw, prepare_params, target):
    action = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); __import__('resource').setrlimit(1, (512, 512))"
    process = start(raw, target, prepare_params, at=2, action=action)
    assert "File too large" in process.communicate()[1]
    assert names(target.with_name("prepared.parts")) == ["000000"]


def children(process):
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (outcome := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return outcome


def spawned(process):
    """Return the ids of the workers of a process, without multiprocessing's resource tracker."""
    return [
        child for child in children(process) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Photos for some seconds of work. Read only."""
    raw, ramp = tmp_path_factory.mktemp("many"), numpy.arange(1500 * 1500, dtype=numpy.uint32)
    for number in range(40):
        path = raw / f"person {number % 4}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = (ramp // (number + 1)).astype(numpy.uint8).reshape(1500, 1500)
        Image.fromarray(pixels).save(path, compress_level=1)
    return raw


def test_a_worker_that_is_killed_ends_the_run_in_one_line_and_the_next_goes_on(many, prepare_params, target):
    process = start(many, target, prepare_params, workers=2)
    folder = target.with_name("prepared.parts")
    wait_for(lambda: folder.is_dir() and written_at(folder))
    workers = spawned(process.pid)
    os.kill(workers[0], signal.SIGKILL)
    _, screen = process.communicate(timeout=60)
    assert process.returncode == 1
    assert screen.splitlines()[-1].startswith(
        "error: a worker process was killed, perhaps for want of memory"
    )
    wait_for(lambda: not any(map(alive, workers)))
    before = written_at(folder)
    assert before and not target.exists()
    share_all(prepare_params, many, target, workers=2)
    assert before.items() <= written_at(folder).items()
    assert prepare.merge(prepare_params, raw=many, prepared=target).counts.read == 40


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_run_that_started_them(many, prepare_params, target, number):
    process = start(many, target, prepare_params, workers=2)
    folder = target.with_name("prepared.parts")
    wait_for(lambda: folder.is_dir() and written_at(folder))
    workers = spawned(process.pid)
    assert workers
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: not any(map(alive, workers)))
    assert not target.exists()
    if number != signal.SIGKILL:
        assert list(folder.glob(".*.tmp")) == []


def fail(item, check):
    if item == 3:
        raise OSError(28, "No space left on device", "/somewhere")
    return item * 2


def test_outcomes_come_with_their_places_and_an_error_in_a_worker_is_raised_here():
    assert dict(outcomes(fail, [5, 6, 7], 2)) == {0: 10, 1: 12, 2: 14}
    for workers in (1, 2):
        with pytest.raises(OSError, match="No space left"):
            list(outcomes(fail, [1, 2, 3, 4], workers))


def test_prepare_runs_in_a_thread_too(raw, prepared, prepare_params, target):
    thread = threading.Thread(
        target=prepare.run, args=(prepare_params,), kwargs={"raw": raw, "prepared": target, "workers": 1}
    )
    thread.start()
    thread.join()
    assert tree(target) == tree(prepared)
