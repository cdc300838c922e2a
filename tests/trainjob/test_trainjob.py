"""A training on several nodes: two nodes that really train together, followed as a cluster shows them."""

import dataclasses
import os
import re
import signal
import threading
import time

import pytest
from kubernetes_server import TOKEN

from ddm_core.checkpoints import weights_digest
from ddm_core.errors import DdmError
from ddm_core.obfuscator_params import MosaicParams
from ddm_core.obfuscators.ddm import Ddm
from ddm_core.obfuscators.store import load_obfuscator
from ddm_core.storage import list_objects
from ddm_core.trainjob import cluster as cluster_module
from ddm_core.trainjob.cluster import Cluster
from ddm_core.trainjob.manifest import build_manifest
from ddm_core.trainjob.run import run

LOOK_SECONDS = 0.1
FAILS = "import sys; print('the first line'); print('out of photos', file=sys.stderr); sys.exit(3)"
WAITS = "import time; print('trains', flush=True); time.sleep(60)"
ENDS = "print('done')"


@pytest.fixture
def train(cluster, settings, prepared, ddm_params, tmp_path):
    """Run the task in a cluster; `programs` are what nodes run instead of the training."""

    def start(params=ddm_params, programs=None, look_seconds=LOOK_SECONDS, **changes):
        cluster.programs = programs or {}
        return run(
            params,
            dataclasses.replace(settings, **changes),
            name="tiny",
            prepared=prepared,
            model=tmp_path / "model" / "tiny",
            history=tmp_path / "history" / "tiny",
            look_seconds=look_seconds,
        )

    return start


def lines_of(cluster, word):
    """The lines with this word that nodes of the running jobs wrote."""
    pods = [pod for job in list(cluster.jobs.values()) for pod in job.pods]
    return "\n".join(line for pod in pods for _, line in list(pod.lines) if word in line)


def left_in_s3():
    return {name for name, _ in list_objects("s3://faces/checkpoints/trainjobs/")}


def test_two_nodes_train_one_model_and_the_task_gets_it(cluster, train, tmp_path, capfd):
    result = train()
    model, history = tmp_path / "model" / "tiny", tmp_path / "history" / "tiny"
    assert result.weights_sha256 == weights_digest(model)
    assert isinstance(load_obfuscator(model), Ddm)
    assert {path.name for path in history.iterdir()} >= {"history.csv", "timing.json", "pictures.png"}
    assert (history / "history.csv").read_text().splitlines()[-1].startswith("5,")
    (manifest,) = cluster.created
    assert manifest["spec"]["trainer"]["numNodes"] == 2
    assert cluster.jobs == {}, "the job is removed"
    assert left_in_s3() == set()
    said = capfd.readouterr().out
    assert "node-0: train tiny: 100%" in said
    assert "node-1: download: 100%" in said


def test_what_nodes_write_appears_line_by_line_and_once(cluster, train, capfd):
    slow = "import time\nfor number in range(8): print('step', number, flush=True); time.sleep(0.15)\n"
    with pytest.raises(DdmError, match="nothing whole is there"):
        train(programs={0: slow, 1: slow.replace("step", '{"step": 1}')})
    said = capfd.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("node-0")] == [f"node-0: step {n}" for n in range(8)]
    assert [line for line in said if line.startswith("node-1")] == [
        f'node-1: {{"step": 1}} {n}' for n in range(8)
    ]


def test_a_machine_that_gives_no_logs_for_a_while_costs_no_line(cluster, train, capfd):
    cluster.silent_logs = 8
    slow = "import time\nfor number in range(9): print('step', number, flush=True); time.sleep(0.2)\n"
    with pytest.raises(DdmError, match="nothing whole is there"):
        train(programs={0: slow, 1: ENDS})
    said = capfd.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("node-0")] == [f"node-0: step {n}" for n in range(9)]
    assert cluster.silent_logs == 0


def test_a_failure_is_the_tasks_with_the_last_lines_of_the_node_that_failed(cluster, train):
    with pytest.raises(DdmError) as caught:
        train(programs={0: WAITS, 1: FAILS})
    assert str(caught.value) == (
        f"the TrainJob {cluster.created[0]['metadata']['name']} failed (FailedJobs: jobset failed due to one"
        " or more job failures); node-1 ended with status 3, its last lines: the first line | out of photos"
    )
    assert cluster.jobs == {}, "a failed job is removed too"


def test_sigterm_removes_the_job_and_ends_the_task_with_143(cluster, train):
    def terminate():
        while not cluster.jobs:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(SystemExit) as ended:  # and not when the next look at the job is due
        train(programs={0: WAITS, 1: WAITS}, look_seconds=3600)
    assert ended.value.code == 143
    assert cluster.jobs == {}
    assert len(cluster.sent("DELETE")) == 1


def test_a_training_that_sigterm_ended_goes_on_where_its_nodes_left_it(cluster, train, ddm_params, capfd):
    """The job's removal reaches the nodes as SIGTERM; the next job begins with what they leave on S3."""
    params = dataclasses.replace(ddm_params, steps=1500)  # an idle machine does 300 in a second

    def terminate():
        while not re.search(r"\| [1-9]\d*/1500", lines_of(cluster, "train tiny:")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(SystemExit):
        train(params)
    for pod in cluster.ended:
        pod.process.wait(60)
    train(params)
    assert re.search(
        r"node-0: s3://faces/checkpoints/tiny-\w+: going on after step [1-9]", capfd.readouterr().out
    )


def test_a_restarted_container_is_told_and_its_lines_are_not_lost(cluster, train, tmp_path, capfd):
    mark = tmp_path / "mark"
    once = (
        f"import pathlib, sys\nmark = pathlib.Path({str(mark)!r})\n"
        "print('second try' if mark.exists() else 'first try', flush=True)\n"
        "if not mark.exists(): mark.touch(); sys.exit(143)\n"
    )
    cluster.backoff = 1
    with pytest.raises(DdmError, match="nothing whole is there"):
        train(programs={0: ENDS, 1: once})
    said = capfd.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("node-1")] == [
        "node-1: first try",
        "node-1: ended with status 143, restarts",
        "node-1: second try",
    ]


def test_a_container_that_restarts_while_its_log_is_read_loses_no_line(cluster, train, tmp_path, capfd):
    """The pods were listed before, so what is read is the next container's."""
    mark = tmp_path / "mark"
    told_to_end = (
        f"import pathlib, sys, time\nmark = pathlib.Path({str(mark)!r})\n"
        "if mark.exists(): print('second try', flush=True); sys.exit(0)\n"
        "print('first try', flush=True)\n"
        "while not mark.exists(): time.sleep(0.01)\n"
        "sys.exit(143)\n"
    )

    def restart(pod):
        wait_until(lambda: pod.lines)
        mark.touch()
        wait_until(lambda: pod.restarts == 1 and pod.lines)

    cluster.backoff, cluster.before_log = 1, restart
    with pytest.raises(DdmError, match="nothing whole is there"):
        train(programs={0: told_to_end, 1: told_to_end})
    said = capfd.readouterr().out.splitlines()
    for node in ("node-0", "node-1"):
        assert [line for line in said if line.startswith(node)] == [
            f"{node}: first try",
            f"{node}: ended with status 143, restarts",
            f"{node}: second try",
        ]


def wait_until(happens):
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_that_a_killed_attempt_left_makes_room_for_this_one(cluster, train, settings, capfd):
    with pytest.raises(DdmError, match="node-0 ended with status 3"):
        train(programs={0: FAILS, 1: WAITS})
    name = cluster.created[0]["metadata"]["name"]
    cluster.programs = {0: WAITS, 1: WAITS}
    Cluster("runs").create(build_manifest(name, ["python"], settings, None))
    (left,) = cluster.jobs.values()
    with pytest.raises(DdmError, match="node-0 ended with status 3"):
        train(programs={0: FAILS, 1: WAITS})
    assert [job["metadata"]["name"] for job in cluster.created] == [name] * 3
    assert left.pods[0].process.wait(10) != 0
    assert f"removes the TrainJob {name} that an earlier attempt left" in capfd.readouterr().out


def test_why_a_node_does_not_start_is_said_once(cluster, train, capfd):
    cluster.unschedulable = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."

    def terminate():
        while len(cluster.sent("GET")) < 8:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(SystemExit):
        train()
    said = capfd.readouterr().out
    assert said.count("node-0: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.") == 1


def test_a_missing_setting_is_said_in_the_clusters_words(cluster, train, capfd):
    del cluster.config_maps["ddm-settings"]["MLFLOW_TRACKING_URI"]
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(SystemExit):
        train()
    wanted = "node-1: CreateContainerConfigError: couldn't find key MLFLOW_TRACKING_URI in ddm-settings"
    assert wanted in capfd.readouterr().out


def test_a_server_that_is_away_for_a_while_ends_nothing(cluster, train, monkeypatch):
    monkeypatch.setattr(cluster_module, "FIRST_PAUSE", 0.05)
    threading.Timer(1.0, lambda: cluster.hiccups.extend([503, 500, 429])).start()
    with pytest.raises(DdmError, match="node-1 ended with status 3"):
        train(programs={0: WAITS, 1: f"import time; time.sleep(2); {FAILS}"})
    assert cluster.hiccups == []


def test_a_job_that_somebody_deletes_ends_the_task(cluster, train):
    def delete():
        while not cluster.jobs:
            time.sleep(0.05)
        time.sleep(0.5)
        for job in list(cluster.jobs.values()):
            job.stop()
        cluster.jobs.clear()

    threading.Thread(target=delete, daemon=True).start()
    with pytest.raises(DdmError, match="somebody deleted the TrainJob ddm-tiny-"):
        train(programs={0: WAITS, 1: WAITS})


def test_a_cluster_without_trainer_says_what_to_install(cluster, train):
    cluster.installed = False
    with pytest.raises(DdmError, match="the namespace runs cannot have TrainJobs; install Kubeflow Trainer"):
        train()


def test_an_account_without_the_rights_is_told_which_it_lacks(cluster, train):
    message = 'trainjobs.trainer.kubeflow.org is forbidden: User "runs:default" cannot create resource'
    cluster.refusal = (403, message)
    with pytest.raises(DdmError, match=f"refuses to create the TrainJob: {message}.*runner.yaml lists"):
        train()


@pytest.mark.parametrize("place", [None, "", "/shared/checkpoints", "gs://bucket/x"])
def test_without_an_s3_prefix_nothing_is_begun(cluster, train, monkeypatch, place):
    monkeypatch.delenv("DDM_CHECKPOINTS")
    if place is not None:
        monkeypatch.setenv("DDM_CHECKPOINTS", place)
    with pytest.raises(DdmError, match="needs DDM_CHECKPOINTS=s3://bucket/prefix in ddm-settings"):
        train()
    assert cluster.requests == []


def test_a_task_that_does_not_know_its_namespace_says_so(cluster, train, monkeypatch):
    monkeypatch.delenv("DDM_NAMESPACE")
    with pytest.raises(DdmError, match="DDM_NAMESPACE is not set"):
        train()


def test_a_method_that_learns_nothing_needs_no_nodes(cluster, train, tmp_path):
    train(MosaicParams(method="mosaic", block=8))
    assert load_obfuscator(tmp_path / "model" / "tiny") is not None
    assert cluster.requests == []


def test_no_secret_reaches_the_log_or_the_job(cluster, train, aws, capfd):
    with pytest.raises(DdmError):
        train(programs={0: FAILS, 1: FAILS})
    said = capfd.readouterr()
    for secret in (TOKEN, aws["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in said.out + said.err
        assert secret not in str(cluster.created)
