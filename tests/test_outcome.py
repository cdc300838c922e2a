"""The exit handler: how the whole pipeline ended, in the log and in MLflow."""

import shutil

import pytest

from ddm_core.outcome import report_outcome
from ddm_core.tracking import EXPERIMENT, connect

SUCCESSES = ["SUCCEEDED", "COMPLETE", "CACHED", "SKIPPED"]
FAILURES = ["FAILED", "CANCELED", "CANCELLED", "CANCELING", "CANCELLING"]
NEITHER = ["RUNNING", "NEW", "UNKNOWN", "PENDING", "PAUSED", "failed", ""]


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch, empty_store):
    """The current folder, with an empty MLflow store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)


def runs():
    client = connect()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client.search_runs([experiment.experiment_id]) if experiment else []


@pytest.mark.parametrize("state", SUCCESSES)
def test_a_success_is_told_and_not_recorded(capsys, state):
    report_outcome(state, "")
    assert capsys.readouterr() == ("pipeline: succeeded\n", "")
    assert runs() == []


@pytest.mark.parametrize("state", FAILURES)
def test_a_failure_is_a_failed_run_with_its_reason(capsys, state):
    report_outcome(state, "out of memory")
    line = f"pipeline: {state.lower()}: out of memory"
    assert capsys.readouterr() == ("", f"{line}\n")
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.runName"] == "pipeline"
    assert run.data.tags["ddm.pipeline_state"] == state
    assert run.data.tags["ddm.pipeline_error"] == line


@pytest.mark.parametrize("message", ["", None])
def test_a_failure_without_a_reason_says_where_to_look(capsys, message):
    """KFP's drivers pass no message on."""
    report_outcome("FAILED", message)
    assert capsys.readouterr().err == "pipeline: failed: its page in KFP tells which task, and why\n"


@pytest.mark.parametrize("state", NEITHER)
def test_a_state_that_tells_neither_is_named_and_not_recorded(capsys, state):
    report_outcome(state, "")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pipeline: ended in the unknown state {state};")
    assert err.count("\n") == 1
    assert runs() == []


def test_an_unreachable_mlflow_does_not_hide_the_failure(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    report_outcome("FAILED", "MLflow is gone")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "pipeline: failed: MLflow is gone"
    assert second.startswith("pipeline: the failure is not recorded: MLflow at http://127.0.0.1:9")


def test_a_pod_without_mlflows_address_does_not_record_into_itself(capsys, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    report_outcome("FAILED", "no ConfigMap")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "pipeline: failed: no ConfigMap"
    assert second.startswith("pipeline: the failure is not recorded: MLFLOW_TRACKING_URI is not set")
    assert runs() == []
