"""Batches from memory or from shards: every photo once an epoch, and on where it broke off."""

import dataclasses
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from checkpointed_training import settings
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.data.shards import load_photos
from ddm_core.data_parallel import ALONE, Ranks
from ddm_core.errors import DdmError
from ddm_core.loss_watch import LossWatch
from ddm_core.stages import train
from ddm_core.storage import upload
from ddm_core.training_photos import EpochBatches, PhotosInMemory, StreamedPhotos

PROGRAM = Path(__file__).with_name("streamed_training.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
DEADLINE_SECONDS = 240
DRAWS = torch.Generator()


def keys_of(prepared):
    return load_photos(prepared, split="train").keys


def batches(source, batch_size=8, ranks=ALONE, position=None):
    return source.batches(batch_size, DRAWS, ranks, "cpu", position or {})


# Epochs


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 5))
def test_every_process_makes_the_same_steps_and_every_photo_comes_once(photos, batch_size, world_size):
    if photos < world_size or batch_size < world_size:
        return
    plans = [EpochBatches(photos, batch_size, Ranks(rank, world_size)) for rank in range(world_size)]
    assert len({plan.steps for plan in plans}) == 1
    total = 0
    for step in range(plans[0].steps):
        parts = [plan.part(step) for plan in plans]
        assert [part.first for part in parts] == [0, *(part.last for part in parts[:-1])]
        assert {part.whole for part in parts} == {parts[-1].last}
        assert all(part.photos > 0 for part in parts)
        assert sum(part.share for part in parts) == pytest.approx(1)
        total += parts[0].whole
    assert total == photos
    wholes = [plans[0].part(step).whole for step in range(plans[0].steps)]
    assert max(wholes) - min(wholes) <= world_size
    if photos >= world_size * batch_size:
        assert max(wholes) <= batch_size + world_size


def test_fewer_photos_than_processes_are_refused():
    with pytest.raises(DdmError, match="2 photos are too few for 3 processes"):
        EpochBatches(2, 8, Ranks(0, 3))


@pytest.mark.parametrize(("batch_size", "world_size"), [(8, 1), (7, 1), (8, 2), (7, 2), (5, 3)])
def test_each_photo_of_the_split_comes_once_an_epoch_in_one_of_the_processes(
    prepared, batch_size, world_size
):
    everyone = Counter()
    source = StreamedPhotos(prepared, seed=0)
    for rank in range(world_size):
        ranks = Ranks(rank, world_size)
        steps = EpochBatches(len(keys_of(prepared)), batch_size, ranks).steps
        stream = batches(source, batch_size, ranks)
        for batch in islice(stream, 2 * steps):
            assert batch.images.dtype == torch.uint8
            assert len(batch.images) == batch.part.photos == len(batch.names())
            everyone.update(batch.names())
        stream.close()
    assert everyone == dict.fromkeys(keys_of(prepared), 2)


def test_streamed_photos_are_those_in_memory(prepared):
    loaded = load_photos(prepared, split="train")
    image_of = dict(zip(loaded.keys, loaded.images, strict=True))
    stream = batches(StreamedPhotos(prepared, seed=0))
    for batch in islice(stream, 4):
        for key, image in zip(batch.names(), batch.images, strict=True):
            assert image.equal(image_of[key])
    stream.close()


def test_a_stream_goes_on_from_any_batch(prepared):
    source = StreamedPhotos(prepared, seed=0)
    whole = list(islice(batches(source), 11))
    for at in (1, 4, 5, 10):
        position = json.loads(json.dumps(whole[at - 1].position))
        rest = list(islice(batches(source, position=position), 11 - at))
        assert [batch.names() for batch in rest] == [batch.names() for batch in whole[at:]]


def test_another_number_of_processes_begins_the_epoch_anew_and_says_so(prepared, capsys):
    source = StreamedPhotos(prepared, seed=0)
    (*_, last) = islice(batches(source), 6)
    assert last.position["epoch"] == 1
    first = next(batches(source, ranks=Ranks(0, 2), position=last.position))
    fresh = next(batches(source, ranks=Ranks(0, 2), position={"epoch": 1, "step": 0, "ranks": 2}))
    assert first.names() == fresh.names()
    said = capsys.readouterr().err
    assert "read by 1 processes before, by 2 now: epoch 1 begins anew; some photos come twice" in said


def test_a_process_names_what_it_read_of_a_batch_whose_loss_is_not_finite_and_counts_the_rest(prepared):
    batch = next(batches(StreamedPhotos(prepared, seed=0), 8, Ranks(0, 2)))
    watch = LossWatch("tests", lambda: "there is no checkpoint")
    others = batch.part.whole - batch.part.photos
    assert others > 0
    read = f"batch {', '.join(batch.names())} and {others} that other processes read;"
    with pytest.raises(DdmError, match=re.escape(read)):
        watch.look(3, batch.names, batch.part.whole, torch.tensor(math.nan))


def test_photos_in_memory_are_drawn_as_the_generator_says():
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1)
    source = PhotosInMemory(images, [f"photo {number}" for number in range(12)])
    stream = source.batches(5, torch.Generator().manual_seed(3), Ranks(1, 2), "cpu", {})
    chosen = torch.randint(0, 12, (5,), generator=torch.Generator().manual_seed(3))
    batch = next(stream)
    assert batch.images.flatten().tolist() == chosen[2:].tolist()
    assert batch.names() == [f"photo {number}" for number in chosen.tolist()]


# Which of them


@pytest.mark.parametrize(("most", "chosen"), [(12, range(12)), (50, range(12)), (4, (0, 3, 6, 9)), (1, (0,))])
def test_networks_are_set_up_by_at_most_so_many_photos_from_all_over_the_set(most, chosen):
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 16, 16)
    assert PhotosInMemory(images).sample(most)[:, 0, 0, 0].tolist() == list(chosen)


def test_what_is_too_large_for_memory_is_streamed(prepared, monkeypatch):
    params = settings("ddm", 5)
    assert isinstance(train._photos(params, prepared), PhotosInMemory)
    monkeypatch.setattr("ddm_core.training_photos.MOST_BYTES_IN_MEMORY", 1000)
    assert isinstance(train._photos(params, prepared), StreamedPhotos)
    kept = dataclasses.replace(params, data="memory")
    assert isinstance(train._photos(kept, prepared), PhotosInMemory)
    by_person = dataclasses.replace(params, split="identity")
    assert isinstance(train._photos(by_person, prepared), PhotosInMemory)


def test_a_stream_by_person_is_refused():
    with pytest.raises(ValueError, match="data is stream, which the shards allow with split: image alone"):
        dataclasses.replace(settings("ddm", 5), split="identity", data="stream")


def test_memory_from_s3_is_refused_in_one_line(prepared, s3):
    address = on_s3(prepared)
    with pytest.raises(
        DdmError, match=r"this training needs a folder \(data: memory, split: identity\); copy it"
    ):
        train._photos(dataclasses.replace(settings("ddm", 5), data="memory"), address)
    assert isinstance(train._photos(settings("ddm", 5), address), StreamedPhotos)


# Trainings


def on_s3(prepared):
    for path in prepared.iterdir():
        if path.is_file():
            upload(path, f"s3://faces/prepared/{path.name}")
    return "s3://faces/prepared"


def start(launcher, *arguments):
    command = [*launcher, PROGRAM, *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(launcher, *arguments):
    process = start(launcher, *arguments)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, said
    return said


def weights(folder):
    return (folder / "model/weights.safetensors").read_bytes()


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_killed_and_started_again_a_streamed_training_ends_in_the_same_bits(
    tmp_path, prepared, place, request
):
    address = prepared
    if place == "s3":
        request.getfixturevalue("s3")
        address = on_s3(prepared)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    run((sys.executable,), address, whole, 30)
    process = start((sys.executable,), address, killed, 30)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(killed.glob("checkpoints/ddm-*/step-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    said = run((sys.executable,), address, killed, 30)
    assert "going on after step" in said
    assert weights(killed) == weights(whole)
    assert (killed / "history/history.csv").read_text() == (whole / "history/history.csv").read_text()


def test_two_processes_share_the_shards_and_either_number_goes_on_from_a_checkpoint(tmp_path, prepared):
    together, again = tmp_path / "together", tmp_path / "again"
    together.mkdir()
    again.mkdir()
    run(TORCHRUN, prepared, together, 10)
    run(TORCHRUN, prepared, again, 10)
    assert weights(together) == weights(again), "the same every time"
    seen = [json.loads((together / f"{rank}.json").read_text()) for rank in (0, 1)]
    photos = len(keys_of(prepared))
    steps = EpochBatches(photos, 8, Ranks(0, 2)).steps
    for epoch in range(10 // steps):
        epochs = [numbers[epoch * steps : (epoch + 1) * steps] for numbers in seen]
        assert sum(map(sum, epochs)) == photos, "all photos once"


def test_two_machines_meet_on_one_address_and_train_as_one(tmp_path, prepared):
    """Two agents of torchrun, as two machines would start them, on loopback."""
    alone, folder = tmp_path / "alone", tmp_path / "agents"
    alone.mkdir()
    folder.mkdir()
    run(TORCHRUN, prepared, alone, 6)
    port = 29000 + hash(tmp_path) % 1000
    agents = [
        start(
            (
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--nnodes=2",
                "--nproc-per-node=1",
                f"--node-rank={rank}",
                "--master-addr=127.0.0.1",
                f"--master-port={port}",
            ),
            prepared,
            folder,
            6,
        )
        for rank in (0, 1)
    ]
    for agent in agents:
        _, said = agent.communicate(timeout=DEADLINE_SECONDS)
        assert agent.returncode == 0, said
    assert weights(folder) == weights(alone)
