"""Several processes train as one: the same curve, nothing lost, one writes, and none outlives another."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ddm_core.data_parallel import ALONE, Ranks
from ddm_core.errors import DdmError
from ddm_core.tracking import EXPERIMENT, connect, experiment_id

PROGRAM = Path(__file__).with_name("data_parallel_training.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
STEPS = 22
DEADLINE_SECONDS = 240
LOSSES = ("loss", "reconstruction_l1", "discriminator_bce", "psnr_db", "learning_rate")


def start(launcher, *arguments):
    command = [*launcher, *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(launcher, *arguments):
    """Return the exit status and what was said on stderr."""
    process = start(launcher, *arguments)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, said


def seen(folder, rank):
    return json.loads((folder / f"{rank}.json").read_text())


def require_nearly_the_same_weights(first, second):
    weights, others = load_file(first), load_file(second)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert torch.allclose(weight, others[name], rtol=0, atol=1e-4), name


# The same training


@pytest.mark.parametrize(("method", "batch_size", "shares"), [("ddm", 8, (4, 4)), ("keyed_ddm", 5, (2, 3))])
def test_two_processes_follow_the_curve_of_one_and_no_photo_of_a_batch_is_lost(
    tmp_path, method, batch_size, shares
):
    """Two times four photos, and two and three, against one process with all of them."""
    for name, launcher in (("alone", (sys.executable,)), ("together", TORCHRUN)):
        (tmp_path / name).mkdir()
        status, said = run(launcher, PROGRAM, method, batch_size, STEPS, tmp_path / name)
        assert status == 0, said
    alone, first, second = (
        seen(tmp_path / "alone", 0),
        *(seen(tmp_path / "together", rank) for rank in (0, 1)),
    )
    assert alone["photos"] == [batch_size] * STEPS
    assert (first["photos"], second["photos"]) == ([shares[0]] * STEPS, [shares[1]] * STEPS)
    assert first["history"] == second["history"], "metrics are those of the whole batch in every process"
    assert [line["step"] for line in first["history"]] == list(range(1, STEPS + 1))
    for whole, shared in zip(alone["history"], first["history"], strict=True):
        for loss in LOSSES:
            assert shared[loss] == pytest.approx(whole[loss], rel=0, abs=1e-5), (whole["step"], loss)
    weights = [load_file(tmp_path / "together" / f"{rank}.safetensors") for rank in (0, 1)]
    assert all(weight.equal(weights[1][name]) for name, weight in weights[0].items())


@pytest.mark.parametrize(("batch_size", "world_size"), [(8, 2), (5, 2), (7, 3), (3, 3), (1, 1)])
def test_the_parts_of_a_batch_are_all_of_it_once_and_nearly_equal(batch_size, world_size):
    parts = [Ranks(rank, world_size).part(batch_size) for rank in range(world_size)]
    photos = torch.arange(batch_size)
    assert torch.cat([part.of(photos) for part in parts]).equal(photos)
    sizes = [len(part.of(photos)) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sum(part.share for part in parts) == pytest.approx(1)


def test_fewer_photos_than_processes_are_refused():
    with pytest.raises(DdmError, match="batch_size 2 is less than a photo for each of 3 processes"):
        Ranks(0, 3).part(2)


def test_a_process_alone_has_nothing_to_exchange():
    values = torch.tensor([1.0, 2.0])
    ALONE.mean([values], ALONE.part(4))
    assert values.tolist() == [1, 2]
    assert [ALONE.any(flag) for flag in (True, False)] == [True, False]
    assert ALONE.from_leader(b"checkpoint") == b"checkpoint"


# The end of one is the end of all


@pytest.mark.parametrize(
    ("failure", "sign"), [("raise", "the photos of rank 1 are gone"), ("kill", "SIGKILL")]
)
def test_a_process_that_dies_ends_the_others_within_half_a_minute_and_says_why(tmp_path, failure, sign):
    process = start(TORCHRUN, PROGRAM, "ddm", 4, 100_000, tmp_path, "1000", failure)
    while process.stdout.readline() != "1 4\n":
        assert process.poll() is None
    died = time.monotonic()
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert time.monotonic() - died < 30
    assert process.returncode == 1
    assert sign in said
    assert "Traceback" in said
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_loss_that_is_not_finite_anywhere_is_told_once_by_rank_0(tmp_path):
    # One checkpoint falls due before step 5: a second would be left out while the first is being written.
    status, said = run(TORCHRUN, PROGRAM, "ddm", 4, STEPS, tmp_path, "4", "nan")
    assert status == 1
    (line,) = [line for line in said.splitlines() if "not finite" in line]
    assert re.search(r"rank 0 of 2: train tests: .* not finite at step 5, batch (\d+, ){3}\d+;", line)
    assert line.endswith(f"the last good checkpoint is {tmp_path}/checkpoints/tests/step-000000004")


def test_sigterm_leaves_one_checkpoint_that_any_number_of_processes_goes_on_from(tmp_path):
    together, stopped, alone = (tmp_path / name for name in ("together", "stopped", "alone"))
    together.mkdir()
    status, said = run(TORCHRUN, PROGRAM, "keyed_ddm", 4, 40, together)
    assert status == 0, said
    stopped.mkdir()
    process = start(TORCHRUN, PROGRAM, "keyed_ddm", 4, 40, stopped, "1000", "slow")
    while process.stdout.readline() != "1 5\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    (checkpoint,) = (stopped / "checkpoints" / "tests").glob("step-*")
    assert f"train tests: told to end by SIGTERM; the last good checkpoint is {checkpoint}\n" in said
    assert "lost touch" not in said
    reached = int(checkpoint.name.removeprefix("step-"))
    assert 5 <= reached < 40
    shutil.copytree(stopped, alone)
    for launcher, folder, ranks in ((TORCHRUN, stopped, (0, 1)), ((sys.executable,), alone, (0,))):
        status, said = run(launcher, PROGRAM, "keyed_ddm", 4, 40, folder, "1000")
        assert status == 0, said
        assert f"going on after step {reached}\n" in said
        for rank in ranks:
            assert [line["step"] for line in seen(folder, rank)["history"]] == list(range(1, 41))
            assert len(seen(folder, rank)["photos"]) == 40 - reached
    for rank in (0, 1):
        weights = f"{rank}.safetensors"
        assert (stopped / weights).read_bytes() == (together / weights).read_bytes()


# The command


def test_ddm_train_in_two_processes_writes_one_model_one_history_and_one_run(
    tmp_path, monkeypatch, prepared, empty_store
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    params = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    small = {"steps": 3, "warmup_steps": 1, "batch_size": 5, "precision": "fp32", "threads": 1, "width": 8}
    params["train"]["keyed_ddm"] |= small
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = ("-m", "ddm_core.cli", "train", "keyed_ddm", "--prepared", prepared)
    process = start(TORCHRUN, *command)
    printed, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, said
    (line,) = [line for line in printed.splitlines() if line]
    assert line.startswith("models/keyed_ddm: ready after ")
    assert said.count("| 0/3 ") == 1, "one progress bar"
    assert len((tmp_path / "results/history/keyed_ddm/history.csv").read_text().splitlines()) == 2
    client = connect()
    assert len(client.search_runs([experiment_id(client, EXPERIMENT)])) == 1
    status, said = run((sys.executable,), *command, "--models", "alone", "--histories", "alone/history")
    assert status == 0, said
    weights = "keyed_ddm/weights.safetensors"
    require_nearly_the_same_weights(tmp_path / "models" / weights, tmp_path / "alone" / weights)
