"""Watching a run: `submit --wait`, `status`, `logs`, `terminate`, on the real graph as Argo would run it."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest
import yaml
from argo import fnv1a
from kfp_server import IMAGE

from ddm_core.arguments import to_arguments
from ddm_core.results import ATTACKERS, CONTROLS
from pipelines.arguments import load_params
from pipelines.compile import compile_pipeline
from pipelines.console import clock
from pipelines.loops import loop_turns
from pipelines.resources import load_resources
from pipelines.tasks import tasks_of

OBFUSCATORS = ("none", "mosaic8")
TASKS = {"fetch", "prepare", "recognise", "report", "register", "notify"}
TASKS |= {f"prepare-share/{number}" for number in range(load_resources().parallelism.shares)}
TASKS |= {f"{task}/{name}" for task in ("train", "utility", "join") for name in OBFUSCATORS}
TASKS |= {f"attack/{name}/{attacker}" for name in OBFUSCATORS for attacker in (*ATTACKERS, *CONTROLS)}


@pytest.fixture(scope="module")
def pipeline(params, tmp_path_factory):
    """The compiled pipeline and the parameters of a run."""
    loaded = load_params(params)
    package = tmp_path_factory.mktemp("pipeline") / "ddm.yaml"
    compile_pipeline(loaded, package, image=IMAGE)
    return next(yaml.safe_load_all(package.read_text())), to_arguments(loaded)


@pytest.fixture
def run(server, pipeline):
    """Begin a run on the server and return its id."""
    spec, parameters = pipeline
    server.versions["version"] = {"pipeline_id": "pipeline", "pipeline_spec": spec}
    run = {
        "display_name": "weekly",
        "runtime_config": {"parameters": parameters},
        "pipeline_version_reference": {"pipeline_id": "pipeline", "pipeline_version_id": "version"},
    }
    return lambda: server.begin(spec, run)


@pytest.fixture
def on(ddm, server):
    """Run a verb against the server."""
    return lambda *arguments: ddm(*arguments, "--host", server.address)


def test_waiting_tells_every_task_as_it_starts_and_ends_and_succeeds_with_the_run(submit, server):
    server.speed = 1
    said = submit("--wait", "--param", "train.none=null")
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    changes = [tuple(line.split()[1:3]) for line in lines if line[2:3] == ":"]
    tasks = {name for name in TASKS if "none" not in name}
    assert {name for name, state in changes if state == "RUNNING"} == tasks
    assert {name for name, state in changes if state == "SUCCEEDED"} == tasks
    assert len(changes) == 2 * len(tasks)
    assert changes[:2] == [("fetch", "RUNNING"), ("fetch", "SUCCEEDED")]
    assert lines[-1] == f"run {next(iter(server.runs))} SUCCEEDED"
    assert said.err == ""


def test_a_failed_run_fails_the_command_and_names_the_task_and_where_to_look(submit, server):
    server.failing = {"prepare.executor(0)": "no photos", "prepare.executor(1)": "no photos"}
    said = submit("--wait")
    run_id = next(iter(server.runs))
    assert said.status == 1
    assert f"run {run_id} FAILED (prepare)" in said.err
    assert f"{server.address}/#/runs/details/{run_id}" in said.err
    assert f"ddm pipeline logs {run_id}" in said.err
    assert said.err.count("\n") == 1
    assert "notify  SUCCEEDED" in said.out, "the exit handler runs all the same"


def test_a_servers_reason_for_a_failure_is_told(submit, server):
    server.failing = {"prepare.executor(0)": "no\nphotos", "prepare.executor(1)": "no\nphotos"}
    server.tells_errors = True
    assert "FAILED (prepare: no photos)" in submit("--wait").err


def test_a_failed_driver_is_told_as_the_task_that_it_kept_from_starting(submit, server, on):
    server.failing = {"train-driver": "no such Secret"}
    assert "FAILED (train (driver))" in submit("--wait").err
    said = on("logs", next(iter(server.runs)), "--task", "train (driver)")
    assert "no such Secret" in said.out


def test_an_attempt_that_fails_is_no_failure_when_the_next_succeeds(submit, server):
    server.failing = {"prepare.executor(0)": "evicted"}
    assert submit("--wait").status == 0


def test_a_cancelled_run_fails_the_command(submit, server):
    server.speed, server.cancelled_at_look = 0, 2
    said = submit("--wait")
    assert said.status == 1
    assert "CANCELED" in said.err
    assert "the run goes on" not in said.err


def test_a_server_that_is_away_for_a_moment_is_asked_again(submit, server):
    server.hiccups = [503, "drop", 502]
    said = submit("--wait")
    assert said.status == 0, said.err
    assert said.err.count("asking again in") == 3
    assert "(503)" in said.err
    assert "the connection broke off" in said.err


def test_a_server_that_stays_away_ends_the_waiting_but_not_the_run(submit, server, monkeypatch):
    monkeypatch.setattr("pipelines.watch.OUTAGE_SECONDS", 0.1)
    server.hiccups = [503] * 50
    said = submit("--wait")
    assert said.status == 1
    assert "(503)" in said.err.splitlines()[-1]
    assert "the run goes on at" in said.err.splitlines()[-1]


def test_waiting_ends_at_once_when_the_server_refuses_and_says_that_the_run_goes_on(submit, server):
    server.hiccups = [403]
    said = submit("--wait")
    assert said.status == 1
    assert "(403)" in said.err
    assert "the run goes on at" in said.err


def test_waiting_is_bounded_by_a_timeout_that_leaves_the_run_alone(submit, server):
    server.speed = 0
    said = submit("--wait", "--timeout", "0.05")
    assert said.status == 1
    assert "after 0.05 s of waiting; the run goes on at" in said.err
    assert "ddm pipeline terminate" in said.err
    assert not any(":terminate" in sent for sent in server.sent)


def start_waiting(server, params, **streams):
    command = [sys.executable, "-m", "ddm_core.cli", "pipeline", "submit", "--wait", "--interval", "0.05"]
    command += ["--params", str(params), "--host", server.address, "--image", IMAGE]
    # A shell's background jobs ignore interrupts, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        return subprocess.Popen(command, env=environment, **streams)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_waiting_says_that_the_run_goes_on_and_how_to_end_it(server, params):
    server.speed = 0
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start_waiting(server, params, text=True, **pipes) as process:
        while not any("/runs/" in path for _, path in server.requests):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    run_id = next(iter(server.runs))
    assert process.returncode == 130
    assert f"the run goes on at {server.address}/#/runs/details/{run_id}" in err
    assert f"ddm pipeline terminate {run_id}" in err
    assert "Traceback" not in err


def test_a_pipe_gets_every_change_when_it_happens(server, params):
    server.speed = 1
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with start_waiting(server, params, text=True, **pipes) as process:
        assert any("fetch  RUNNING" in line for line in process.stdout)
        (workflow,) = server.workflows.values()
        assert workflow.state == "RUNNING"
        server.speed = 1000
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_terminal_gets_a_progress_bar(server, params):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with start_waiting(server, params, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # how a pseudo-terminal ends
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"RUNNING: " in shown
    assert b"started tasks done" in shown


def test_status_shows_the_run_its_tasks_and_how_long_each_took(run, on, server):
    server.speed = 1000
    run_id = run()
    said = on("status", run_id)
    assert said.status == 0, said.err
    first, url, _, *rows = said.out.splitlines()
    assert first.startswith("weekly: SUCCEEDED ")
    assert url == f"{server.address}/#/runs/details/{run_id}"
    assert {row.split()[0] for row in rows} == TASKS
    assert all(row.split()[1] == "SUCCEEDED" and row.endswith(" s") for row in rows)


def test_status_as_json_holds_the_same(run, on, server):
    server.failing = {"recognise.executor(0)": "out of memory", "recognise.executor(1)": "out of memory"}
    server.tells_errors = True
    server.speed = 1000
    run_id = run()
    status = json.loads(on("status", run_id, "--json").out)
    assert (status["id"], status["state"]) == (run_id, "FAILED")
    (failed,) = [task for task in status["tasks"] if task["state"] == "FAILED"]
    assert (failed["name"], failed["error"]) == ("recognise", "out of memory")
    assert failed["seconds"] > 0
    assert "recognise: out of memory" in on("status", run_id).out


def test_status_of_a_run_that_has_not_started_has_no_tasks(run, on, server):
    server.speed = 0
    said = on("status", run())
    assert said.status == 0
    assert "PENDING" in said.out


@pytest.mark.parametrize("verb", ["status", "logs", "terminate"])
def test_a_run_that_is_not_there_is_one_clear_line(on, server, verb):
    said = on(verb, "no-such-run")
    assert said.status == 1
    assert f"{server.address}: has no run no-such-run (404)" in said.err
    assert said.err.count("\n") == 1


def test_logs_come_with_the_failed_tasks_first_and_every_attempt(run, on, server):
    server.failing = {"recognise.executor(0)": "evicted", "recognise.executor(1)": "evicted again"}
    server.speed = 1000
    said = on("logs", run())
    assert said.status == 0, said.err
    headings = [line for line in said.out.splitlines() if line.startswith("==>")]
    assert headings[:3] == [
        "==> recognise (FAILED, attempt 1 of 2)",
        "==> recognise (FAILED, attempt 2 of 2)",
        "==> fetch (SUCCEEDED)",
    ]
    assert headings[-1] == "==> notify (SUCCEEDED)"
    assert "recognise.executor(0) begins — and evicted\n" in said.out
    assert "recognise.executor(1) begins — and evicted again\n" in said.out
    assert "fetch.executor(0) begins — and ends well\n" in said.out


@pytest.mark.parametrize("pod_names", ["v1", "v2"])
def test_the_logs_of_one_task_are_found_whichever_way_argo_names_pods(run, on, server, pod_names):
    server.pod_names, server.speed = pod_names, 1000
    run_id = run()
    said = on("logs", run_id, "--task", "attack/mosaic8/wrong_key")
    assert said.out.startswith("==> attack/mosaic8/wrong_key (SUCCEEDED)\n")
    assert "iterations(1:1)" in said.out
    assert "iterations(3:3)" in said.out
    assert said.out.count("==>") == 1
    assert on("logs", run_id, "--task", "attack/none").out.count("==>") == 5
    assert on("logs", run_id, "--task", "attack").out.count("==>") == 10


def test_logs_of_an_unknown_task_suggest_the_nearest(run, on, server):
    server.speed = 1000
    said = on("logs", run(), "--task", "reprot")
    assert said.status == 1
    assert "no task 'reprot' has started; did you mean 'report'?" in said.err


def test_logs_that_are_gone_are_one_clear_line(run, on, server):
    server.speed, server.pods_removed = 1000, True
    said = on("logs", run(), "--task", "train")
    assert said.status == 1
    assert said.out == ""
    assert "the server has no log of train/none, train/mosaic8; Kubernetes removes" in said.err
    assert said.err.count("\n") == 1


def test_logs_that_are_gone_in_part_are_named_after_those_that_are_there(run, on, server):
    server.speed, server.pods_removed = 1000, "fetch"
    said = on("logs", run())
    assert said.status == 0
    assert said.out.count("==>") == len(TASKS) - 1
    assert "the server has no log of fetch; Kubernetes" in said.err


def test_logs_before_the_first_task_say_so(run, on, server):
    server.speed = 0
    said = on("logs", run())
    assert said.status == 1
    assert "no task of it has started" in said.err


@pytest.mark.parametrize("streams", [False, True])
def test_following_prints_each_log_whole_and_once_until_the_run_ends(run, on, server, streams):
    server.speed, server.streams = 5, streams
    said = on("logs", run(), "--follow", "--interval", "0.01")
    assert said.status == 0, said.err
    headings = [line.split()[1] for line in said.out.splitlines() if line.startswith("==>")]
    assert sorted(headings) == sorted(TASKS)
    assert said.out.count("begins — and ends well\n") == len(TASKS)


def test_following_one_task_waits_for_its_start(run, on, server):
    server.speed = 3
    said = on("logs", run(), "--task", "report", "--follow", "--interval", "0.01")
    assert said.status == 0, said.err
    assert said.out.count("==>") == 1
    assert "report.executor(0) begins — and ends well\n" in said.out


def test_terminating_ends_a_run_once(run, on, server):
    server.speed = 10
    run_id = run()
    assert on("terminate", run_id).out == f"run {run_id} is being terminated\n"
    assert server.workflows[run_id].state == "CANCELED"
    said = on("terminate", run_id)
    assert said.status == 1
    assert "is finished already (CANCELED); there is nothing to terminate" in said.err


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("iris-training-pipeline-wp8fl.root-driver", 637531629),
        ("iris-training-pipeline-v4zp7.root.train-model.executor", 4001010741),
        ("metrics-visualization-pipeline-nph6c.root.wine-classification", 983875308),
    ],
)
def test_node_ids_are_made_as_on_real_clusters(path, number):
    """Ids that clusters with Argo gave to nodes of these paths."""
    assert fnv1a(path) == number


def test_a_run_of_another_engine_than_argo_shows_its_tasks_as_they_are():
    from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run, V2beta1RunDetails

    details = [
        V2beta1PipelineTaskDetail(task_id="1", display_name="train", state="RUNNING", pod_name="pod-1"),
        V2beta1PipelineTaskDetail(task_id="2", display_name="train-driver", state="SUCCEEDED"),
    ]
    (task,) = tasks_of(V2beta1Run(run_details=V2beta1RunDetails(task_details=details)), {})
    assert (task.name, task.state, task.pods) == ("train", "RUNNING", (("pod-1",),))


def test_turns_of_a_loop_are_called_by_name_where_their_items_have_one():
    loops = {
        "for-loop-1": {"raw": '["0/2", "1/2"]'},
        "for-loop-2": {"raw": '["clean", {"name": "retrained"}, 7]'},
        "for-loop-3": {"inputParameter": "pipelinechannel--train"},
        "for-loop-4": {"inputParameter": "pipelinechannel--made-by-a-task"},
    }
    tasks = {name: {"parameterIterator": {"items": items}} for name, items in loops.items()}
    turns = loop_turns({"root": {"dag": {"tasks": tasks}}}, {"train": [{"name": "ddm"}, {"name": "none"}]})
    assert turns == {
        "for-loop-1": ["0", "1"],
        "for-loop-2": ["clean", "retrained", "2"],
        "for-loop-3": ["ddm", "none"],
        "for-loop-4": [],
    }


def test_a_run_whose_pipeline_version_is_deleted_counts_the_turns(run, on, server):
    server.speed = 1000
    run_id = run()
    server.versions.clear()
    assert "attack/1/3 " in on("status", run_id).out


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3:20 min"), (3750, "1:02:30 h"), (None, "")]
)
def test_durations_are_short(seconds, text):
    assert clock(seconds) == text
