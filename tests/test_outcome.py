"""The exit handler: how the whole pipeline ended, in the log and in MLflow."""

import shutil

import pytest

from ddm_core.outcome import report_outcome
from ddm_core.tracking import EXPERIMENT, connect


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch, empty_store):
    """The current folder, with an empty MLflow store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)


def runs():
    client = connect()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client.search_runs([experiment.experiment_id]) if experiment else []


def test_a_failure_is_a_failed_run_with_its_reason(capsys):
    report_outcome("FAILED", "attack", "out of memory")
    assert capsys.readouterr().err == "pipeline: failed in attack: out of memory\n"
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.runName"] == "pipeline"
    assert run.data.tags["ddm.pipeline_error"] == "pipeline: failed in attack: out of memory"


def test_a_success_is_told_and_not_recorded(capsys):
    report_outcome("SUCCEEDED", None, None)
    assert capsys.readouterr().out == "pipeline: succeeded\n"
    assert runs() == []


def test_a_cancelled_run_is_recorded_too(capsys):
    report_outcome("CANCELED", None, None)
    assert [run.data.tags["ddm.pipeline_state"] for run in runs()] == ["CANCELED"]


def test_an_unreachable_mlflow_does_not_hide_the_failure(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    report_outcome("FAILED", "train", "MLflow is gone")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "pipeline: failed in train: MLflow is gone"
    assert second.startswith("pipeline: the failure is not recorded: MLflow at http://127.0.0.1:9")
