"""Which checkpoints are written and kept, where, when, and what they hold."""

import dataclasses
import json

import pytest
from checkpointed_training import NAME, settings, trained
from interrupted_training import STEPS, checkpoint, every, interrupt, names

from ddm_core.checkpoint_options import CheckpointOptions, Interval, options_for, parse_interval
from ddm_core.checkpoint_places import RECORD, STATE, place_at
from ddm_core.errors import DdmError
from ddm_core.training_checkpoints import Checkpoints, open_checkpoints


def test_the_last_ones_and_the_best_are_kept(place):
    with open_checkpoints(every(1, place, keep=2), NAME) as checkpoints:
        for step, loss in enumerate([3.0, 1.0, 2.0, 4.0, 5.0], start=1):
            checkpoints.save(checkpoint(step, loss))
        checkpoints.wait()
        assert names(place) == ["step-000000005", "step-000000004", "step-000000002"]
    with open_checkpoints(every(1, place, keep=2), NAME) as checkpoints:
        assert checkpoints.latest().step == 5
        checkpoints.save(checkpoint(6, 1.5))
        checkpoints.wait()
        assert names(place) == ["step-000000006", "step-000000005", "step-000000002"]


def test_a_state_that_is_not_finite_is_never_written(tmp_path):
    with open_checkpoints(every(1, tmp_path), NAME) as checkpoints:
        checkpoints.save(checkpoint(1))
        checkpoints.save(checkpoint(2, weight=float("nan")))
        with pytest.raises(DdmError, match="the weights are not finite after step 2; lower learning_rate"):
            checkpoints.wait()
    assert names(str(tmp_path)) == ["step-000000001"]


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint_and_names_it(tmp_path):
    wild = dataclasses.replace(settings("ddm", 1000), learning_rate=1e6, warmup_steps=990)
    with pytest.raises(DdmError, match=r"the loss is not finite at step \d+, batch") as caught:
        trained(wild, every(1, tmp_path))
    newest = names(str(tmp_path))[0]
    assert str(caught.value).endswith(f"; the last good checkpoint is {tmp_path}/{NAME}/{newest}")
    assert "\n" not in str(caught.value)
    with open_checkpoints(every(1, tmp_path), NAME) as checkpoints:
        tensors = checkpoints.latest().snapshot.tensors
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_two_processes_never_write_the_same_checkpoints(tmp_path):
    with (
        open_checkpoints(every(1, tmp_path), NAME),
        pytest.raises(DdmError, match=r"tests: the same training is running already"),
        open_checkpoints(every(1, tmp_path), NAME),
    ):
        pass
    with open_checkpoints(every(1, tmp_path), NAME), open_checkpoints(every(1, tmp_path), "other"):
        pass


def test_what_a_killed_process_left_half_written_is_cleared_up(tmp_path):
    half = tmp_path / NAME / ".step-000000003.abcdefgh.tmp"
    half.mkdir(parents=True)
    with open_checkpoints(every(1, tmp_path), NAME) as checkpoints:
        assert checkpoints.latest() is None
        assert not half.exists()


def test_a_checkpoint_holds_no_pickle_and_is_readable_by_people(tmp_path):
    params = settings("ddm", STEPS)
    interrupt(params, every(10, tmp_path), at=50)
    newest = tmp_path / NAME / names(str(tmp_path))[0]
    assert {path.name for path in newest.iterdir()} == {STATE, RECORD, ".ddm-output"}
    record = json.loads((newest / RECORD).read_text())["record"]
    assert record["step"] == int(newest.name.removeprefix("step-"))
    assert [line["step"] for line in record["history"]] == [
        step for step in (25, 50) if step <= record["step"]
    ]


def test_fewer_than_one_checkpoint_to_keep_is_refused(tmp_path):
    with pytest.raises(DdmError, match="checkpoint-keep is 0; keep at least 1"):
        every(1, tmp_path, keep=0)


# When


def test_checkpoints_are_due_every_so_many_steps_or_seconds(tmp_path):
    place = place_at(str(tmp_path), NAME)
    by_steps = Checkpoints(place, every(10, tmp_path))
    assert next(step for step in range(1, 30) if by_steps.is_due(step)) == 10
    by_seconds = Checkpoints(place, CheckpointOptions(str(tmp_path), Interval(seconds=3600)))
    assert not any(by_seconds.is_due(step) for step in range(1, 1000))
    at_once = Checkpoints(place, CheckpointOptions(str(tmp_path), Interval(seconds=1e-9)))
    assert at_once.is_due(1)


def test_intervals_are_steps_or_minutes():
    assert parse_interval("500") == Interval(steps=500)
    assert parse_interval("5min") == Interval(seconds=300)
    for wrong in ("0", "-3", "5s", "min", "1.5", "", "5 min"):
        with pytest.raises(DdmError, match=f"checkpoint-every is '{wrong}'; write steps, such as 500"):
            parse_interval(wrong)


def test_without_a_place_there_are_no_checkpoints():
    assert options_for(None) is None
    assert options_for("") is None
    assert options_for("s3://bucket/checkpoints").place == "s3://bucket/checkpoints"


def test_a_place_of_another_service_is_refused():
    with pytest.raises(DdmError, match="s3://bucket/prefix"):
        place_at("gs://bucket/checkpoints", NAME)
