"""A stream gives every photo once an epoch, whoever reads it, and goes on where it was."""

import io
import json
import shutil
import threading
from itertools import islice
from pathlib import Path

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddm_core.data import ahead, stream
from ddm_core.data.imaging import encode_png
from ddm_core.data.manifest import ShardRecord, make_summary, read_manifest, write_summary
from ddm_core.data.order import Reader, shuffled
from ddm_core.data.photo_table import Tally
from ddm_core.data.shards import load_photos
from ddm_core.data.stream import PhotoStream
from ddm_core.data.tar_shards import ShardWriter, tar_member
from ddm_core.errors import DdmError
from ddm_core.params import PrepareParams
from ddm_core.seeding import numpy_generator
from ddm_core.storage import upload

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)
PIXELS = encode_png(numpy.zeros((1, 2, 2), numpy.uint8))


def write_dataset(folder, sizes):
    """Write shards of so many photos each; their photos are named by number."""
    records, number = [], 0
    for place, size in enumerate(sizes):
        with ShardWriter(folder, f"train-{place}", 1) as writer:
            for key in range(number, number + size):
                about = json.dumps({"label": key, "identity": f"person {key}", "source": f"{key}.jpg"})
                members = tar_member(f"{key:08}.json", about.encode()) + tar_member(f"{key:08}.png", PIXELS)
                writer.add(members)
        records += writer.records
        number += size
    params = PrepareParams(16, 1, "crop", 0.2, 0.2, 0.01, 1, 0)
    summary = make_summary(params, None, Tally(params), (), tuple(records), found=0, protocol={})
    write_summary(folder, summary)
    return folder


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Return the dataset of given shard sizes; each is written once."""
    known = {}

    def dataset(sizes):
        if tuple(sizes) not in known:
            known[tuple(sizes)] = write_dataset(tmp_path_factory.mktemp("prepared"), sizes)
        return known[tuple(sizes)]

    return dataset


@st.composite
def readers(draw):
    ranks, workers = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return [Reader(rank, ranks, worker, workers) for rank in range(ranks) for worker in range(workers)]


def labels(photos):
    return [photo.label for photo in photos]


@given(sizes=SIZES, everyone=readers(), buffer=st.integers(1, 60), seed=st.integers(0, 99))
def test_all_readers_together_see_every_photo_once_an_epoch(datasets, sizes, everyone, buffer, seed):
    folder = datasets(sizes)
    streams = [PhotoStream(folder, split="train", seed=seed, buffer=buffer, reader=each) for each in everyone]
    for _ in range(2):
        seen = [labels(each) for each in streams]
        assert sorted(label for part in seen for label in part) == list(range(sum(sizes)))
        assert max(map(len, seen)) - min(map(len, seen)) <= 1
        assert list(map(len, streams)) == list(map(len, seen))


@given(
    sizes=SIZES,
    everyone=readers(),
    buffer=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 60), min_size=1, max_size=4),
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_stream_goes_on_from_a_saved_position_as_if_it_had_never_stopped(
    datasets, sizes, everyone, buffer, cuts
):
    def new():
        return PhotoStream(datasets(sizes), split="train", seed=5, buffer=buffer, reader=everyone[-1])

    whole = new()
    expected = [photo.key for _ in range(3) for photo in whole]
    position, seen = new().position(), []
    for cut in cuts:
        one = new()
        one.restore(json.loads(json.dumps(position)))
        seen += [photo.key for photo in islice(one, cut)]
        position = one.position()
    last = new()
    last.restore(position)
    while len(seen) < len(expected):
        seen += [photo.key for photo in last]
    assert seen[: len(expected)] == expected


@given(count=st.integers(0, 300), buffer=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_shuffled_order_is_a_permutation_that_never_needs_more_than_the_buffer(count, buffer, seed):
    order = shuffled(count, buffer, numpy_generator(seed, "tests/stream"))
    assert sorted(order) == list(range(count))
    assert all(number < place + buffer for place, number in enumerate(order))


def test_epochs_and_seeds_differ_in_order_and_the_same_seed_repeats_it(datasets):
    def epochs(seed):
        photos = PhotoStream(datasets([9] * 6), split="train", seed=seed, buffer=10)
        return [tuple(labels(photos)) for _ in range(3)]

    assert epochs(0) == epochs(0)
    assert len({*epochs(0), *epochs(1), tuple(range(54))}) == 7


def test_streamed_photos_are_those_that_load_photos_gives(prepared):
    loaded = load_photos(prepared, split="train")
    place = {key: number for number, key in enumerate(loaded.keys)}
    source = {photo.key: photo.source for photo in read_manifest(prepared).photos}
    photos = list(PhotoStream(prepared, split="train", seed=0))
    assert sorted(photo.key for photo in photos) == sorted(loaded.keys)
    for photo in photos:
        number = place[photo.key]
        assert photo.image.dtype == numpy.uint8
        assert photo.image.flags.c_contiguous
        assert (photo.image == loaded.images[number].numpy()).all()
        assert photo.label == loaded.labels[number]
        assert photo.identity == loaded.identities[photo.label]
        assert photo.source == source[photo.key]


def test_a_restored_stream_opens_only_shards_that_it_still_needs(datasets):
    opened = []

    def opener(address):
        opened.append(Path(address).name)
        return stream.open_file(address)

    folder = datasets([9] * 6)
    one = PhotoStream(folder, split="train", seed=0, buffer=2)
    list(islice(one, 50))
    other = PhotoStream(folder, split="train", seed=0, buffer=2, opener=opener)
    other.restore(one.position())
    assert len(list(other)) == 4
    assert len(opened) <= 3  # the manifest, the last shard, and one that a straggler may be in


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 1, this stream's is 0"),
        ({"ranks": 2}, "ranks is 2, this stream's is 1"),
        ({"dataset_digest": "x"}, "dataset_digest is 'x'"),
        ({"passed": 26}, "photo 26 of 25 is no place"),
        ({"passed": -1}, "photo -1 of 25 is no place"),
        ({"epoch": "0"}, "epoch '0'"),
        ({"epoch": True}, "epoch True"),
        ({"rnak": 1}, "expected dataset_digest, split, seed"),
    ],
)
def test_a_position_of_something_else_is_refused(prepared, change, message):
    one = PhotoStream(prepared, split="train", seed=0)
    with pytest.raises(DdmError, match=message) as caught:
        one.restore(one.position() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [(1, 1, 0, 1), (-1, 1, 0, 1), (0, 1, 2, 2), (0, 0, 0, 1)])
def test_a_reader_that_does_not_exist_is_refused(reader):
    with pytest.raises(DdmError, match="count from 0"):
        Reader(*reader)


def test_a_buffer_without_room_is_refused(prepared):
    with pytest.raises(DdmError, match="a buffer of 0 photos"):
        PhotoStream(prepared, split="train", seed=0, buffer=0)


@pytest.mark.parametrize("damage", [lambda old: old[:-3000], lambda old: old.replace(b"Anna", b"Anne", 1)])
def test_a_damaged_shard_ends_the_stream_with_its_name(prepared, tmp_path, damage):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    shard = copy / "train-000000.tar"
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(DdmError, match=r"train-000000\.tar: damaged"):
        list(PhotoStream(copy, split="train", seed=0))


def test_a_missing_shard_or_manifest_is_named(prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    (copy / "train-000000.tar").unlink()
    with pytest.raises(DdmError, match=r"train-000000\.tar: not found; run ddm prepare"):
        list(PhotoStream(copy, split="train", seed=0))
    (copy / "manifest.json").write_text("{")
    with pytest.raises(DdmError, match=r"manifest\.json: not valid JSON"):
        PhotoStream(copy, split="train", seed=0)
    (copy / "manifest.json").unlink()
    with pytest.raises(DdmError, match=r"manifest\.json: not found; run ddm prepare"):
        PhotoStream(copy, split="train", seed=0)


def test_reading_ahead_is_bounded_and_ends_with_the_iterator(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "ITEMS_AT_A_TIME", 2)
    read = []

    class Counting(io.BytesIO):
        def read(self, size=-1):
            content = super().read(size)
            read.append(len(content))
            return content

    folder = write_dataset(tmp_path, [1] * 100)
    one = PhotoStream(
        folder, split="train", seed=0, buffer=1, opener=lambda address: Counting(Path(address).read_bytes())
    )
    photos = iter(one)
    next(photos)
    photos.close()
    shard = (folder / "train-0-000000.tar").stat().st_size
    assert sum(read) <= (folder / "manifest.json").stat().st_size + 21 * shard
    assert not [thread for thread in threading.enumerate() if "ahead" in thread.name]


def test_a_stream_from_s3_is_the_stream_from_disk(prepared, s3):
    for path in prepared.iterdir():
        upload(path, f"s3://faces/sets/{path.name}")
    local, remote = (
        PhotoStream(place, split="train", seed=3, buffer=7) for place in (prepared, "s3://faces/sets/")
    )
    for _ in range(2):
        pairs = list(zip(local, remote, strict=True))
        assert len(pairs) == 25
        assert all(one.key == other.key and (one.image == other.image).all() for one, other in pairs)


def test_shard_records_of_other_splits_are_left_alone(prepared):
    test = PhotoStream(prepared, split="test", seed=0)
    assert len(test) == 5
    assert all(isinstance(shard, ShardRecord) for shard in test.summary.shards)
    assert {photo.key for photo in test} == set(load_photos(prepared, split="test").keys)
