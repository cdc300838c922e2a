"""What a stopped benchmark leaves behind, and that the next run goes on from there."""

import os
import re
import signal
import subprocess
import time

import pytest
from running_processes import ps
from small_benchmark import CELLS, command, read_yaml, run, write_yaml

STEPS = 100_000  # far more than a test waits for
DEADLINE_SECONDS = 120


@pytest.fixture
def endless(project):
    """A project in which the training of `keyed_ddm` takes hours, and everything else seconds."""
    change_steps(project, STEPS)
    return project


def change_steps(project, steps):
    path = project / "benchmark/params.yaml"
    params = read_yaml(path)
    params["train"]["keyed_ddm"]["steps"] = steps
    write_yaml(path, params)


def start(project):
    """Start the benchmark in a process group of its own; return it once all but the long training is done."""
    process = subprocess.Popen(
        command("--no-mlflow", "--no-page", "--jobs", 2),
        cwd=project,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},  # what hangs tells where when it is aborted
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    shown, deadline = "", time.monotonic() + DEADLINE_SECONDS
    while not re.search(rf"{CELLS - 4}/{CELLS} cells", shown):
        piece = os.read(process.stderr.fileno(), 4096).decode(errors="replace")
        shown += piece
        if not piece or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"the cells did not end: {shown[-2000:]}")
    return process


def fail_where_it_hangs(process):
    """Fail with what the process was doing, thread by thread."""
    alive = ps("-o", "pid,ppid,stat,args", "--ppid", str(process.pid))
    process.send_signal(signal.SIGABRT)
    _, told = process.communicate(timeout=DEADLINE_SECONDS)
    pytest.fail(f"the run does not end; its processes:\n{alive}\nwhat it said:\n{told.decode()}")


def children(process):
    return [int(line) for line in ps("-o", "pid=", "--ppid", str(process.pid)).split()]


def is_alive(pid):
    state = ps("-o", "stat=", "-p", str(pid))
    return bool(state) and not state.startswith("Z")


def wait_until_gone(pids):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"processes {pids} live on"
        time.sleep(0.1)


def assert_it_goes_on(project):
    change_steps(project, 4)
    again = run(project, "--no-mlflow", "--no-page")
    assert again.returncode == 0, again.stderr
    # All but the training, and the utility and two attacks that need it, were done.
    assert re.search(rf"4 cells ran, {CELLS - 4} were there", again.stdout)
    assert list((project / "benchmark/results").rglob(".*.tmp")) == []


def test_ctrl_c_ends_with_status_130_and_loses_only_what_was_unfinished(endless):
    process = start(endless)
    workers = children(process)
    assert len(workers) >= 2
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read().decode()
    assert process.wait(DEADLINE_SECONDS) == 130
    assert "Traceback" not in rest
    assert rest.splitlines()[-1] == "ddm: interrupted; nothing half-written was left"
    wait_until_gone(workers)
    assert_it_goes_on(endless)


def test_a_killed_benchmark_takes_its_processes_with_it_and_goes_on_the_next_time(endless):
    process = start(endless)
    workers = children(process)
    process.kill()
    process.wait(DEADLINE_SECONDS)
    wait_until_gone(workers)
    assert_it_goes_on(endless)


def test_two_benchmarks_do_not_work_in_one_folder(endless):
    process = start(endless)
    second = run(endless, "--no-mlflow")
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(DEADLINE_SECONDS)
    assert second.returncode == 1
    assert "another run is at work here; wait for it or pass -o FOLDER" in second.stderr


def test_a_worker_that_is_killed_again_and_again_fails_its_cell_and_no_other(endless):
    process = start(endless)
    killed = set()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None:
        if time.monotonic() > deadline:
            fail_where_it_hangs(process)
        for pid in set(children(process)) - killed:
            if "spawn_main" in ps("-o", "args=", "-p", str(pid)):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.5)
    told = process.stderr.read().decode().splitlines()
    assert process.returncode == 1
    reasons = [line for line in told if line.startswith("failed: ")]
    assert reasons[0].startswith("failed: train keyed_ddm, seed 0: a process was killed, perhaps for want of")
    assert len(reasons) == 4
    assert told[-1].startswith("ddm: error: 4 cells failed")
    assert_it_goes_on(endless)


def test_a_training_goes_on_where_ctrl_c_stopped_it(endless):
    process = start(endless)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(DEADLINE_SECONDS) == 130
    checkpoints = endless / "benchmark/results/checkpoints"
    assert any(path.is_file() for path in checkpoints.rglob("*"))
