"""What an interrupted or killed stage leaves behind, and that the next run goes on from there."""

import os
import re
import signal
import time

import pytest
from small_project import change_training, make_project, read_yaml, run, start, write_yaml

STEPS = 100_000  # far more than a test waits for
DEADLINE_SECONDS = 120


@pytest.fixture
def project(tmp_path, photo_folder):
    """A project whose photos are prepared and whose training of `ddm` takes hours."""
    folder = make_project(tmp_path / "project", photo_folder)
    change_training(folder, steps=STEPS)
    prepared = run(folder, "dvc", "repro", "prepare")
    assert prepared.returncode == 0, prepared.stderr
    return folder


def start_and_wait_for_training(project, *command):
    """Start a command and return it with the progress it showed, once training steps are being made."""
    process = start(project, *command)
    shown, deadline = "", time.monotonic() + DEADLINE_SECONDS
    while not re.search(rf"train ddm: .* [1-9]\d*/{STEPS} ", shown):
        piece = os.read(process.stderr.fileno(), 4096).decode(errors="replace")
        shown += piece
        if not piece or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"training did not start: {shown[-2000:]}")
    return process


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_ctrl_c_ends_with_status_130_one_line_and_nothing_left(project):
    process = start_and_wait_for_training(project, "ddm", "train", "ddm")
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read().decode()
    assert process.wait(DEADLINE_SECONDS) == 130
    assert "Traceback" not in rest
    after_the_progress_bar = rest.rpartition("\r")[2].splitlines()[1:]
    assert after_the_progress_bar == ["ddm: interrupted; nothing half-written was left"]
    assert list((project / "models").iterdir()) == []
    assert list((project / "results/history").iterdir()) == []


def test_a_killed_run_leaves_no_output_and_the_next_one_clears_up_and_finishes(project):
    process = start_and_wait_for_training(project, "dvc", "repro", "train@ddm")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_SECONDS)
    for folder in (project / "models", project / "results/history"):
        assert visible(folder) == []
        (leftover,) = hidden(folder)
        assert re.fullmatch(r"\.ddm\.\w+\.tmp", leftover)

    change_training(project, steps=4)
    again = run(project, "dvc", "repro", "train@ddm")
    assert again.returncode == 0, again.stderr
    for folder in (project / "models", project / "results/history"):
        assert visible(folder) == ["ddm"]
        assert [name for name in hidden(folder) if name.endswith(".tmp")] == []
    assert (project / "models/ddm/weights.safetensors").exists()
    assert run(project, "dvc", "status", "train@ddm").stdout.strip() == "Data and pipelines are up to date."


def test_dvc_repro_goes_on_after_a_kill_but_not_with_another_setting(project):
    graph = read_yaml(project / "dvc.yaml")
    graph["stages"]["train"]["do"]["cmd"] += " --checkpoint-every 10"
    write_yaml(project / "dvc.yaml", graph)
    change_training(project, steps=600)
    kill_when_there_is_a_checkpoint(project)
    change_training(project, steps=599)
    other = run(project, "dvc", "repro", "train@ddm")
    assert other.returncode == 0, other.stderr
    assert "going on" not in other.stderr
    change_training(project, steps=600)
    again = run(project, "dvc", "repro", "train@ddm")
    assert again.returncode == 0, again.stderr
    assert re.search(r"\.checkpoints/ddm-[0-9a-f]{16}: going on after step [1-9]", again.stderr)
    assert visible(project / "models") == ["ddm"]
    assert list((project / ".checkpoints").iterdir()) == []
    assert run(project, "git", "status", "--porcelain", ".checkpoints").stdout == ""
    whole = run(project, "ddm", "train", "ddm", "--models", "whole", "--histories", "whole/history")
    assert whole.returncode == 0, whole.stderr
    assert "going on" not in whole.stderr
    weights = "ddm/weights.safetensors"
    assert (project / "models" / weights).read_bytes() == (project / "whole" / weights).read_bytes()


def kill_when_there_is_a_checkpoint(project):
    process = start(project, "dvc", "repro", "train@ddm")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(project.glob(".checkpoints/ddm-*/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=DEADLINE_SECONDS)
