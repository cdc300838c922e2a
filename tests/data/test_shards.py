"""What load_photos gives is what prepare stored, or an error that names the shard."""

import hashlib
import io
import json
import shutil
import tarfile

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.data.imaging import encode_png
from ddm_core.data.manifest import read_manifest
from ddm_core.data.shards import load_photos
from ddm_core.data.tar_shards import ShardWriter, read_shard, tar_member
from ddm_core.errors import DdmError


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "copy")


def test_both_splits_cover_every_photo_once_in_the_order_of_keys(prepared):
    everything = [photo.key for photo in read_manifest(prepared).photos]
    for by in ("image", "identity"):
        train, test = (load_photos(prepared, split=split, by=by).keys for split in ("train", "test"))
        assert sorted(train + test) == everything
        assert (list(train), list(test)) == (sorted(train), sorted(test))


def test_images_and_labels_have_the_documented_types_and_shapes(prepared):
    photos = load_photos(prepared, split="train")
    assert (photos.images.shape, photos.images.dtype) == ((25, 1, 32, 32), torch.uint8)
    assert (photos.labels.shape, photos.labels.dtype) == ((25,), torch.int64)
    assert photos.identities == ("Anna Lee", "Björn", "José", "zoe", "王芳")


def test_loaded_pixels_and_labels_are_those_of_the_manifest(prepared):
    record_of = {photo.key: photo for photo in read_manifest(prepared).photos}
    photos = load_photos(prepared, split="test")
    for image, label, key in zip(photos.images, photos.labels, photos.keys, strict=True):
        assert hashlib.sha256(image.numpy().tobytes()).hexdigest() == record_of[key].pixel_sha256
        assert photos.identities[label] == record_of[key].identity


def test_a_label_means_the_same_person_in_every_split(prepared):
    train = load_photos(prepared, split="train", by="identity")
    test = load_photos(prepared, split="test", by="identity")
    assert train.identities == test.identities
    assert not set(train.labels.tolist()) & set(test.labels.tolist())
    assert len(set(test.labels.tolist())) == 1


def test_a_missing_shard_is_named(copy):
    (copy / "train-000000.tar").unlink()
    load_photos(copy, split="test")
    with pytest.raises(DdmError, match=r"train-000000\.tar: cannot be read .*run ddm prepare again"):
        load_photos(copy, split="train")


@pytest.mark.parametrize(
    "damage",
    [lambda old: old[:-1024], lambda old: old[:2000] + bytes([old[2000] ^ 1]) + old[2001:], lambda old: b""],
)
def test_a_damaged_shard_is_named(copy, damage):
    path = copy / "test-000000.tar"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DdmError, match=r"test-000000\.tar: damaged"):
        load_photos(copy, split="test")


def test_without_a_manifest_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(DdmError, match=r"manifest\.json: not found; run the stage"):
        load_photos(tmp_path, split="test")


def edit_summary(**changes):
    def edit(folder):
        path = folder / "manifest.json"
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return edit


def replace_text(old, new):
    def edit(folder):
        path = folder / "photos.jsonl"
        path.write_text(path.read_text().replace(old, new, 1))

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_summary(schema_version=99), r"manifest\.json: schema version 99, expected 2"),
        (edit_summary(shards=None), "missing key 'shards'"),
        (edit_summary(idenity="x"), "unknown key 'idenity'; did you mean 'identities'"),
        (edit_summary(dataset_digest="0" * 64), "do not fit dataset_digest"),
        (edit_summary(quarantined=[{"source": "a", "reason": "b"}]), "do not fit the manifest's counts"),
        (replace_text("Anna Lee", "somebody else"), r"photos\.jsonl: the photos do not fit dataset_digest"),
        (replace_text('"identity"', '"idenity"'), "unknown field 'idenity'; did you mean 'identity'"),
        (replace_text('"key",', ""), "the first line must name key, identity"),
        (replace_text('"00000000"', "0"), "not a table of photos"),
        (replace_text('"00000000",', ""), "not a table of photos"),
        (
            replace_text(
                "]",
                "",
            ),
            "not a table of photos",
        ),
        (lambda folder: (folder / "photos.jsonl").write_text(""), "not a table of photos"),
        (
            lambda folder: (folder / "photos.jsonl").unlink(),
            r"photos\.jsonl: not found; run ddm prepare again",
        ),
    ],
)
def test_an_edited_manifest_is_refused(copy, edit, message):
    edit(copy)
    with pytest.raises(DdmError, match=message) as caught:
        load_photos(copy, split="test")
    assert "\n" not in str(caught.value)


def test_photos_are_found_by_place_and_pass_in_the_order_of_keys(prepared):
    photos = read_manifest(prepared).photos
    assert [photos[place] for place in range(len(photos))] == list(photos)
    assert [photo.key for photo in photos] == [f"{place:08}" for place in range(30)]


def test_shards_are_plain_tar_files_of_png_and_json_pairs(prepared):
    with tarfile.open(prepared / "test-000000.tar") as tar:
        members = tar.getmembers()
        about = json.loads(tar.extractfile(members[0]).read())
        assert tar.extractfile(members[1]).read().startswith(b"\x89PNG")
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert members[1].name == members[0].name.replace(".json", ".png")
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert about == {
        "identity": "Anna Lee",
        "label": 0,
        "split": "test",
        "identity_split": about["identity_split"],
        "source": about["source"],
    }


def write_shards(photos, folder, megabytes):
    """Write (key, PNG) pairs as shards; return the records, and key -> name of its shard."""
    with ShardWriter(folder, "train", megabytes) as writer:
        shard_of = {
            key: writer.add(tar_member(f"{key}.json", b"{}") + tar_member(f"{key}.png", png))
            for key, png in photos
        }
    return writer.records, shard_of


def read_all(folder, shard):
    with (folder / shard.name).open("rb") as file:
        return list(read_shard(file, shard, shard.name))


def test_a_new_shard_begins_where_the_old_one_would_grow_too_large(tmp_path):
    noise = numpy.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=numpy.uint8)
    png = encode_png(noise)  # about 0.2 MB
    shards, shard_of = write_shards([(f"{n:08}", png) for n in range(12)], tmp_path, 1)
    assert [shard.name for shard in shards] == [f"train-{n:06}.tar" for n in range(len(shards))]
    assert len(shards) > 1
    assert sum(shard.photos for shard in shards) == 12
    for shard in shards:
        content = (tmp_path / shard.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.bytes, shard.sha256)
        assert shard.bytes <= 10**6 + 10 * 1024  # tar pads its end to 10 KiB
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            names = tar.getnames()
        assert names[1::2] == [f"{key}.png" for key, name in shard_of.items() if name == shard.name]


def test_a_photo_larger_than_a_shard_gets_one_of_its_own(tmp_path):
    shards, _ = write_shards([("a", bytes(2 * 10**6)), ("b", b"small")], tmp_path, 1)
    assert [shard.photos for shard in shards] == [1, 1]


def test_no_photos_make_no_shard(tmp_path):
    assert write_shards([], tmp_path, 1) == ([], {})
    assert list(tmp_path.iterdir()) == []


PHOTOS = st.lists(st.tuples(st.binary(max_size=3000), st.binary(max_size=3000)), min_size=1, max_size=20)


@given(PHOTOS)
def test_shards_hold_the_bytes_that_the_tar_library_writes_and_give_them_back(tmp_path_factory, photos):
    folder, expected = tmp_path_factory.mktemp("shards"), io.BytesIO()
    with ShardWriter(folder, "x", 1) as writer:
        for number, (description, png) in enumerate(photos):
            writer.add(tar_member(f"{number:08}.json", description) + tar_member(f"{number:08}.png", png))
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, pair in enumerate(photos):
            for suffix, content in zip(("json", "png"), pair, strict=True):
                member = tarfile.TarInfo(f"{number:08}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    assert (folder / "x-000000.tar").read_bytes() == expected.getvalue()
    stored = read_all(folder, writer.records[0])
    assert stored == [(f"{number:08}", *pair) for number, pair in enumerate(photos)]


@given(PHOTOS, st.data())
def test_a_changed_byte_or_a_cut_anywhere_in_a_shard_is_found(tmp_path_factory, photos, data):
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, "x", 1) as writer:
        for number, (description, png) in enumerate(photos):
            writer.add(tar_member(f"{number:08}.json", description) + tar_member(f"{number:08}.png", png))
    shard, path = writer.records[0], folder / "x-000000.tar"
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path.write_bytes(content)
    with pytest.raises(DdmError, match=r"x-000000\.tar: damaged"):
        read_all(folder, shard)
