"""Runs reach MLflow whole, on a local file without settings, and errors are one line without passwords."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from ddm_core.errors import DdmError
from ddm_core.tracking import WEIGHTS_TAG, DatasetReference, connect, find_training_run, track_run
from ddm_core.tracking_address import DEFAULT_URI, mask, shown_uri, tracking_uri, ui_command


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    folder = tmp_path / "my project, æøå"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    return folder


def test_a_run_holds_params_tags_metrics_files_and_the_data_set(project):
    dataset = DatasetReference("orl", "ab" * 32, project / "data")
    params = {"steps": 3, "gate": {"attackers": ["clean"], "limits": {"psnr": 32.0}}}
    with track_run(name="train/keyed_ddm", params=params, tags={"method": "ddm"}, dataset=dataset) as run:
        for step in range(3):
            run.log_metrics({"loss": 1.0 / (step + 1), "psnr_db": 30.0 + step}, step)
        run.log_bytes("grids/step_2.png", b"picture")
        run.log_bytes("summary.txt", b"text")

    client = connect()
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "train/keyed_ddm"
    assert stored.data.params == {"steps": "3", "gate.attackers": "['clean']", "gate.limits.psnr": "32.0"}
    assert stored.data.tags["method"] == "ddm"
    assert stored.data.tags["ddm.dataset_digest"] == "ab" * 32
    assert [point.value for point in client.get_metric_history(run.run_id, "psnr_db")] == [30.0, 31.0, 32.0]
    assert (project / "mlartifacts" / run.run_id / "artifacts/grids/step_2.png").read_bytes() == b"picture"
    assert (project / "mlartifacts" / run.run_id / "artifacts/summary.txt").read_bytes() == b"text"
    (entry,) = stored.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("orl", ("ab" * 32)[:36])


def test_two_trainings_may_note_one_data_set_at_the_same_moment(project):
    """The other training is put where it hurts: after MLflow looked for the data set, before it writes it."""
    from mlflow.store.tracking.dbmodels.models import SqlDataset
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    dataset = DatasetReference("orl", "ab" * 32, project / "data")
    raced = []

    def other_training(session, context, instances):
        if not raced and any(isinstance(new, SqlDataset) for new in session.new):
            raced.append(True)
            with track_run(name="other", params={}, dataset=dataset):
                pass

    event.listen(Session, "before_flush", other_training)
    try:
        with track_run(name="this", params={}, dataset=dataset) as run:
            pass
    finally:
        event.remove(Session, "before_flush", other_training)
    assert raced
    (entry,) = connect().get_run(run.run_id).inputs.dataset_inputs
    assert entry.dataset.name == "orl"


def test_the_git_commit_becomes_a_tag(project):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    with track_run(name="a", params={}) as run:
        pass
    assert connect().get_run(run.run_id).data.tags["mlflow.source.git.commit"] == head.strip()


def test_more_metrics_than_one_request_takes_all_arrive(project):
    with track_run(name="long", params={f"p{index}": index for index in range(150)}) as run:
        for step in range(700):
            run.log_metrics({"a": float(step), "b": math.nan}, step)
    client = connect()
    assert len(client.get_metric_history(run.run_id, "a")) == 700
    assert len(client.get_run(run.run_id).data.params) == 150


@pytest.mark.parametrize(("raised", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_an_error_in_the_block_ends_the_run_so_keeps_its_metrics_and_comes_out_unchanged(
    project, raised, status
):
    with pytest.raises(raised, match="mine"), track_run(name="breaks", params={}) as run:
        run.log_metrics({"loss": 2.0}, 0)
        raise raised("mine")
    stored = connect().get_run(run.run_id)
    assert stored.info.status == status
    assert stored.data.metrics == {"loss": 2.0}


def test_the_latest_training_run_of_some_weights_is_found_by_their_digest(project):
    for _ in range(2):
        with track_run(name="train", params={}) as run:
            run.set_tags({WEIGHTS_TAG: "ff" * 32})
    assert find_training_run("ff" * 32) == run.run_id
    assert find_training_run("ee" * 32) is None


def test_without_settings_nothing_leaves_the_project_folder(project):
    with track_run(name="a", params={}):
        pass
    assert shown_uri() == DEFAULT_URI
    assert tracking_uri() == f"sqlite:///{project}/mlflow.db"
    assert ui_command().endswith(".venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db")
    assert {path.name for path in project.iterdir()} <= {"mlflow.db", "mlartifacts"}


def test_telemetry_is_off_unless_someone_else_decided(project):
    code = (
        "from ddm_core.tracking import connect; connect();"
        "from mlflow.telemetry.client import get_telemetry_client;"
        "from mlflow.telemetry.utils import is_telemetry_disabled;"
        "print(is_telemetry_disabled(), get_telemetry_client())"
    )
    root = str(Path(__file__).parents[1])
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": root, "HOME": str(project)}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert finished.stdout.split() == ["True", "None"]
    assert finished.stderr == ""


def test_a_project_that_was_moved_is_refused_before_it_writes_elsewhere(project):
    with track_run(name="a", params={}):
        pass
    project.rename(project.parent / "moved")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(project.parent / "moved")
        with pytest.raises(DdmError, match="move the project back"), track_run(name="b", params={}):
            pass
    assert not project.exists()


def test_a_damaged_database_is_one_line_that_says_what_to_do(project):
    (project / "mlflow.db").write_bytes(b"not a database, at all" * 100)
    with pytest.raises(DdmError, match=r"MLflow at sqlite:///mlflow\.db: .*move both away") as caught:
        connect()
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_answer_is_one_line_without_its_password(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:s3cret@127.0.0.1:9")
    with pytest.raises(DdmError) as caught:
        connect()
    message = str(caught.value)
    assert "\n" not in message
    assert "s3cret" not in message
    assert "anna" not in message
    assert "MLflow at http://***@127.0.0.1:9" in message
    assert "MLFLOW_TRACKING_URI" in message


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://host:5000", "http://host:5000"),
        ("https://user:p@ss@host/path", "https://***@host/path"),
        ("postgresql://u:p@host/db?password=x&ssl=1", "postgresql://***@host/db?password=***&ssl=1"),
        (
            "refused: http://u:p@host/api and again http://u:p@host",
            "refused: http://***@host/api and again http://***@host",
        ),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
    ],
)
def test_credentials_are_masked_wherever_an_address_is_told(text, masked):
    assert mask(text) == masked


def test_the_ui_command_names_the_variable_and_not_a_password(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:s3cret@host/db")
    assert '"$MLFLOW_TRACKING_URI"' in ui_command()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://u:s3cret@host")
    assert ui_command() == "open https://***@host"
