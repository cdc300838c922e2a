"""A training of the Kubeflow graph that is stopped goes on from its checkpoint when the run is repeated."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from small_project import run, small_params, start, write_yaml

STEPS = 1500  # long enough to be stopped within
DEADLINE_SECONDS = 180

COMMAND = ("ddm", "pipeline", "run", "--local", "-o", "out", "--params-file", "params.yaml")


@pytest.fixture
def folder(tmp_path, photo_folder, monkeypatch):
    """A folder whose pipeline trains `ddm`, and keeps checkpoints beside the output."""
    shutil.copytree(photo_folder, tmp_path / "project/photos")
    params = small_params("photos")
    params["train"] = {"ddm": params["train"]["ddm"] | {"steps": STEPS}}
    params["report"]["headline"] = "ddm"
    params["register"]["models"] = {}
    write_yaml(tmp_path / "project/params.yaml", params)
    monkeypatch.setenv("DDM_CHECKPOINTS", str(tmp_path / "project/checkpoints"))
    return tmp_path / "project"


def wait_for(process, what):
    """Return what `what` finds, once it does; the process goes on."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := what()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def training_of(process):
    """The Python of the task train, among what `process` started; KFP has a shell around it."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode().split("\0")
            ours = os.getpgid(int(path.name)) == process.pid
        except (FileNotFoundError, ProcessLookupError):
            continue
        if ours and "python" in Path(words[0]).name and words[-3:-1] == ["--function_to_execute", "train"]:
            return int(path.name)
    return None


def log(folder):
    return (folder / "out/run.log").read_text() if (folder / "out/run.log").exists() else ""


def test_a_training_that_is_evicted_goes_on_from_its_checkpoint(folder):
    process = start(folder, *COMMAND)
    wait_for(process, lambda: re.search(rf"train ddm: .* [1-9]\d*/{STEPS} ", log(folder)))
    os.kill(training_of(process), signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 1
    assert b"task train failed" in process.stderr.read()
    step = max(int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/ddm-*/step-*"))
    assert 0 < step < STEPS

    again = run(folder, *COMMAND)
    assert again.returncode == 0, again.stderr
    assert re.search(rf"going on after step {step}\b", log(folder))
    assert list((folder / "checkpoints").iterdir()) == []
    assert (folder / "out/metrics.json").exists()
