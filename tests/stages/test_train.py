"""The train stage goes on where it broke off: one model, one history, one MLflow run, nothing left over."""

import csv
import dataclasses
import re

import pytest
from safetensors.torch import load_file

from ddm_core.checkpoint_options import CheckpointOptions, Interval
from ddm_core.data.shards import load_photos
from ddm_core.errors import DdmError
from ddm_core.files import read_json
from ddm_core.params import MosaicParams
from ddm_core.stages import train
from ddm_core.tracking import EXPERIMENT, WEIGHTS_TAG, connect, experiment_id

STEPS = 60
OFTEN = CheckpointOptions(".checkpoints", Interval(steps=10))


class StopError(Exception):
    """The end of a process, as far as the stage can tell."""


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def params(ddm_params):
    return dataclasses.replace(ddm_params, steps=STEPS)


@pytest.fixture
def stage(project, prepared):
    """Run the stage in the project; with checkpoints after every tenth step unless told otherwise."""

    def run(params, checkpoints=OFTEN, folder="models", profile=None):
        return train.run(
            params,
            name="ddm",
            prepared=prepared,
            model=project / folder / "ddm",
            history=project / folder / "history",
            checkpoints=checkpoints,
            profile=profile,
        )

    return run


def interrupt(stage, params, at):
    """Run the stage until the history's line at step `at`, and break off."""
    log = train._log

    def stop(tracked, observation):
        if observation.step == at:
            raise StopError
        log(tracked, observation)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopError):
        patch.setattr(train, "_log", stop)
        stage(params)


def runs():
    client = connect()
    return client.search_runs([experiment_id(client, EXPERIMENT)])


def rows(folder):
    with (folder / "history/history.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_training_that_broke_off_ends_with_the_same_model_and_history(stage, params, project):
    interrupt(stage, params, at=50)
    assert list((project / ".checkpoints").glob("ddm-*/step-*"))
    assert not (project / "models/ddm").exists()
    resumed = stage(params)
    whole = stage(params, None, "whole")
    assert resumed.weights_sha256 == whole.weights_sha256
    first, second = (
        load_file(project / folder / "ddm/weights.safetensors") for folder in ("models", "whole")
    )
    assert all(first[name].equal(second[name]) for name in first)
    assert rows(project / "models") == rows(project / "whole")
    assert (project / "models/history/pictures.png").exists()


def test_the_model_folder_names_the_photos_it_was_trained_on(stage, params, project, prepared):
    stage(params)
    trained_on = read_json(project / "models/ddm/obfuscator.json")["trained_on"]
    assert trained_on["dataset_digest"] == read_json(prepared / "manifest.json")["dataset_digest"]


def test_a_finished_training_leaves_no_checkpoint(stage, params, project):
    interrupt(stage, params, at=50)
    stage(params)
    assert list((project / ".checkpoints").iterdir()) == []


def test_a_training_that_broke_off_goes_on_in_its_mlflow_run(stage, params, project):
    interrupt(stage, params, at=50)
    (broken,) = runs()
    assert broken.info.status == "FAILED"
    result = stage(params)
    (run,) = runs()
    assert run.info.run_id == broken.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags[WEIGHTS_TAG] == result.weights_sha256
    for metric in ("loss", "psnr_db"):
        points = connect().get_metric_history(run.info.run_id, metric)
        assert [point.step for point in points] == [25, 50, 60]
    assert [float(row["loss"]) for row in rows(project / "models")] == [
        point.value for point in connect().get_metric_history(run.info.run_id, "loss")
    ]


def test_a_run_that_mlflow_no_longer_has_is_replaced_by_a_new_one(stage, params):
    interrupt(stage, params, at=50)
    (broken,) = runs()
    connect().delete_run(broken.info.run_id)
    stage(params)
    (run,) = runs()
    assert run.info.run_id != broken.info.run_id
    points = connect().get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in points] == [25, 50, 60]


def test_a_changed_setting_never_goes_on_from_the_old_state(stage, params, capsys):
    interrupt(stage, params, at=50)
    changed = dataclasses.replace(params, learning_rate=1e-3)
    resumed = stage(changed)
    assert "going on" not in capsys.readouterr().err
    assert resumed.weights_sha256 == stage(changed, None, "whole").weights_sha256


def test_the_time_of_all_parts_counts(stage, params, project, monkeypatch):
    interrupt(stage, params, at=50)
    (record,) = {max((project / ".checkpoints").glob("ddm-*/step-*/checkpoint.json"))}
    earlier = read_json(record)["record"]["seconds"]
    result = stage(params)
    assert result.seconds > earlier > 0
    assert read_json(project / "models/history/timing.json") == {"seconds": round(result.seconds, 1)}


def test_a_loss_that_is_not_finite_names_the_photos_as_the_manifest_does(stage, params, project, prepared):
    wild = dataclasses.replace(params, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(DdmError, match=r"not finite at step 2, batch [\w, ]+; lower learning_rate") as caught:
        stage(wild)
    named = re.search(r"batch ([\w, ]+);", str(caught.value))[1].split(", ")
    assert len(named) == params.batch_size
    assert set(named) <= set(load_photos(prepared, split="train").keys)
    assert "\n" not in str(caught.value)
    assert not (project / "models/ddm").exists()
    (run,) = runs()
    assert run.info.status == "FAILED"


def test_the_cost_of_the_steps_lies_beside_the_history_and_in_mlflow(stage, params, project):
    stage(params)
    with (project / "models/history/speed.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["step"] for line in lines] == ["25", "50", "60"]
    for line in lines:
        assert float(line["images_per_second"]) > 0
        parts = [line[f"{part}_seconds"] for part in ("data", "forward_backward", "optimiser")]
        assert all(float(part) > 0 for part in parts)
        assert int(line["peak_memory_bytes"]) > 10**7
        assert line["gpu_utilisation"] == "" or 0 <= float(line["gpu_utilisation"]) <= 1
    assert [float(row["gradient_norm"]) > 0 for row in rows(project / "models")] == [True] * 3
    (run,) = runs()
    assert run.data.metrics["forward_backward_seconds"] > 0
    assert run.data.metrics["gradient_norm"] > 0
    assert not [name for name in run.data.metrics if name.startswith("system/")]


def test_a_profile_is_a_trace_of_five_steps_and_changes_no_weight(stage, params, project):
    traced = stage(params, profile=project / "models/history")
    plain = stage(params, None, "plain")
    assert traced.weights_sha256 == plain.weights_sha256
    assert rows(project / "models") == rows(project / "plain")
    trace = read_json(project / "models/history/trace.json")
    steps = {event["name"] for event in trace["traceEvents"] if event["name"].startswith("ProfilerStep")}
    assert len(steps) == 5
    assert any("conv" in event["name"] for event in trace["traceEvents"])
    assert not (project / "plain/history/trace.json").exists()


def test_system_metrics_reach_mlflow_when_its_own_setting_asks_for_them(stage, params, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    stage(params)
    (run,) = runs()
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert run.info.status == "FINISHED"


def test_what_has_nothing_to_learn_keeps_no_checkpoints(stage, project):
    stage(MosaicParams(method="mosaic", block=8))
    assert not (project / ".checkpoints").exists()
