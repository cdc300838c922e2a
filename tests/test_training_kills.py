"""Processes that are killed, told to end, or run out of space: the same command ends in the same bits."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from checkpointed_training import NAME, settings, trained
from safetensors.torch import load_file

PROGRAM = Path(__file__).with_name("checkpointed_training.py")
STEPS = 150
DEADLINE_SECONDS = 120


def start(method, folder, every):
    """Start the training as a command of its own."""
    return subprocess.Popen(
        [sys.executable, PROGRAM, method, folder, str(STEPS), every],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def checkpoints(folder):
    return sorted((folder / NAME).glob("step-*"))


def finish(method, folder, every):
    """Run the command to its end; return what it said on stderr."""
    process = start(method, folder, every)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, said
    return said


@cache
def uninterrupted(method):
    return trained(settings(method, STEPS))


def require_the_bits_of_an_uninterrupted_training(method, folder):
    networks, history = uninterrupted(method)
    weights = load_file(f"{folder}.safetensors")
    assert weights.keys() == networks.state_dict().keys()
    for name, tensor in networks.state_dict().items():
        assert tensor.equal(weights[name]), name
    assert json.loads(Path(f"{folder}.json").read_text()) == history


@pytest.mark.parametrize("method", ["ddm", "keyed_ddm"])
def test_killed_at_random_moments_a_training_ends_in_the_same_bits(method, tmp_path):
    folder, seed = tmp_path / "checkpoints", time.time_ns()
    print(f"moments of seed {seed}")  # pytest shows it when the test fails
    moments = random.Random(seed)
    for _ in range(3):
        before = checkpoints(folder)
        process = start(method, folder, "5")
        wait_for(
            lambda process=process, before=before: checkpoints(folder) != before or process.poll() is not None
        )
        time.sleep(moments.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode in (-signal.SIGKILL, 0)
    assert "going on after step" in finish(method, folder, "5")
    require_the_bits_of_an_uninterrupted_training(method, folder)


def test_sigterm_saves_a_checkpoint_and_ends_with_the_status_of_a_terminated_process(tmp_path):
    folder = tmp_path / "checkpoints"
    process = start("ddm", folder, "100000")
    assert process.stdout.readline() == "25\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 143
    (saved,) = checkpoints(folder)
    (line,) = [line for line in said.splitlines() if "SIGTERM" in line]
    assert line == f"train {NAME}: told to end by SIGTERM; the last good checkpoint is {saved}"
    assert "Traceback" not in said
    reached = int(saved.name.removeprefix("step-"))
    assert 25 <= reached < STEPS
    assert f"going on after step {reached}\n" in finish("ddm", folder, "100000")
    require_the_bits_of_an_uninterrupted_training("ddm", folder)


def test_a_file_that_grows_too_large_is_one_clear_error_and_the_last_good_checkpoint_stays(tmp_path):
    folder = tmp_path / "checkpoints"
    process = start("ddm", folder, "5")
    wait_for(lambda: checkpoints(folder))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    require_a_clear_end(process, folder, "File too large")


@pytest.fixture
def small_disk(tmp_path):
    """A file system that some checkpoints of the training fit on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_one_clear_error_and_the_last_good_checkpoint_stays(small_disk):
    folder = small_disk / "checkpoints"
    process = start("ddm", folder, "5")
    wait_for(lambda: checkpoints(folder))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    require_a_clear_end(process, folder, "No space left on device", filler.unlink)


def require_a_clear_end(process, folder, reason, mend=lambda: None):
    """The training ends with one line for people, and goes on once that is mended."""
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    error = said.splitlines()[-1]
    assert f"DdmError: {folder}/{NAME}: the checkpoint of step " in error
    assert f"cannot be written ({reason}); make room there" in error
    last = checkpoints(folder)[-1]
    assert error.endswith(f"; the last good checkpoint is {last}")
    mend()
    later = finish("ddm", folder, "5")
    assert "damaged" not in later
    assert f"going on after step {int(last.name.removeprefix('step-'))}\n" in later
    require_the_bits_of_an_uninterrupted_training("ddm", folder)
