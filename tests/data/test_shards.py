"""What load_photos gives is what prepare stored, or an error that names the shard."""

import hashlib
import io
import json
import shutil
import tarfile

import numpy
import pytest
import torch

from ddm_core.data.imaging import encode_png
from ddm_core.data.manifest import read_manifest
from ddm_core.data.shards import load_photos, write_shards
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


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(schema_version=99), "schema version 99, expected 1"),
        (lambda m: m["photos"][0].update(identity="somebody else"), "do not fit dataset_digest"),
        (lambda m: m["photos"][0].update(idenity="x"), "unknown key 'idenity'; did you mean 'identity'"),
        (lambda m: m.pop("shards"), "missing key 'shards'"),
    ],
)
def test_an_edited_manifest_is_refused(copy, edit, message):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(DdmError, match=message):
        load_photos(copy, split="test")


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


def test_a_new_shard_begins_where_the_old_one_would_grow_too_large(tmp_path):
    noise = numpy.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=numpy.uint8)
    png = encode_png(noise)  # about 0.2 MB
    shard_of = write_shards(((f"{n:08}", png, {"n": n}) for n in range(12)), tmp_path, "train", 1)
    shards = dict.fromkeys(shard_of.values())
    assert [shard.name for shard in shards] == [f"train-{n:06}.tar" for n in range(len(shards))]
    assert len(shards) > 1
    assert sum(shard.photos for shard in shards) == 12
    for shard in shards:
        content = (tmp_path / shard.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.bytes, shard.sha256)
        assert shard.bytes <= 10**6 + 10 * 1024  # tar pads its end to 10 KiB
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            assert len(tar.getnames()) == 2 * shard.photos


def test_a_photo_larger_than_a_shard_gets_one_of_its_own(tmp_path):
    photos = [("a", bytes(2 * 10**6), {}), ("b", b"small", {})]
    assert [shard.photos for shard in write_shards(photos, tmp_path, "x", 1).values()] == [1, 1]
