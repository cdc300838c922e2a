"""A training that is interrupted goes on from its newest sound checkpoint and ends in the same bits."""

import dataclasses
import json
import os

import pytest
import torch
from checkpointed_training import NAME, settings, trained

from ddm_core.checkpoint_options import CheckpointOptions, Interval, options_for, parse_interval
from ddm_core.checkpoint_places import RECORD, STATE, place_at
from ddm_core.errors import DdmError
from ddm_core.training_checkpoints import Checkpoint, Checkpoints, open_checkpoints
from ddm_core.training_state import Snapshot

STEPS = 60


class StopError(Exception):
    """The end of a process, as far as the training can tell."""


def every(steps, place, **options):
    return CheckpointOptions(str(place), Interval(steps=steps), **options)


def interrupt(params, options, at):
    """Train until the line of history at step `at`, and break off."""

    def stop(observation):
        if observation.step == at:
            raise StopError

    with pytest.raises(StopError):
        trained(params, options, stop)


def same(first, second):
    weights, others = first.state_dict(), second.state_dict()
    return all(weights[name].equal(others[name]) for name in weights)


@pytest.fixture(scope="module", params=["ddm", "keyed_ddm"])
def params(request):
    return settings(request.param, STEPS)


@pytest.fixture(scope="module")
def uninterrupted(params):
    """(weights, history) of a training that nothing disturbs and that keeps no checkpoints."""
    return trained(params)


@pytest.fixture(scope="module")
def uninterrupted_ddm():
    """The same of the method ddm alone."""
    return trained(settings("ddm", STEPS))


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """An address for checkpoints."""
    if request.param == "folder":
        return str(tmp_path / "checkpoints")
    request.getfixturevalue("s3")
    return "s3://faces/some/checkpoints"


def names(place):
    return place_at(place, NAME).names()


# Going on


def test_checkpoints_change_neither_weights_nor_history(params, uninterrupted, place):
    networks, history = trained(params, every(7, place))
    assert same(networks, uninterrupted[0])
    assert history == uninterrupted[1]
    assert len(names(place)) >= 2


def test_an_interrupted_training_ends_in_the_same_bits_with_the_whole_history(params, uninterrupted, place):
    interrupt(params, every(10, place), at=50)
    newest = names(place)[0]
    assert "step-000000010" <= newest <= "step-000000050"
    networks, history = trained(params, every(10, place))
    assert same(networks, uninterrupted[0])
    assert history == uninterrupted[1]


def test_it_says_after_which_step_it_goes_on(place, capsys):
    params = settings("ddm", STEPS)
    interrupt(params, every(10, place), at=50)
    capsys.readouterr()
    newest = names(place)[0]
    trained(params, every(10, place))
    said = [line for line in capsys.readouterr().err.splitlines() if "going on" in line]
    assert said == [f"{place}/{NAME}: going on after step {int(newest.removeprefix('step-'))}"]


def test_the_seconds_of_the_interrupted_part_count(place):
    params = settings("ddm", STEPS)
    interrupt(params, every(10, place), at=50)
    with open_checkpoints(every(10, place), NAME) as checkpoints:
        found = checkpoints.latest()
        assert found.seconds > 0
        assert checkpoints.earlier_seconds == found.seconds


def test_without_resume_a_training_starts_from_its_beginning(place):
    params = settings("ddm", STEPS)
    interrupt(params, every(10, place), at=50)
    with open_checkpoints(every(10, place, resume=False), NAME) as checkpoints:
        assert checkpoints.latest() is None
        assert checkpoints.note() is None
    assert names(place) == []


def test_a_finished_training_leaves_nothing(tmp_path):
    params = settings("ddm", STEPS)
    options = every(10, tmp_path / "checkpoints")
    trained(params, options)
    with open_checkpoints(options, NAME) as checkpoints:
        checkpoints.write_note("some run")
        checkpoints.discard()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_finished_training_leaves_nothing_on_s3(s3):
    params = settings("ddm", STEPS)
    options = every(10, "s3://faces/some")
    trained(params, options)
    with open_checkpoints(options, NAME) as checkpoints:
        checkpoints.write_note("some run")
        checkpoints.discard()
    assert "Contents" not in s3.list_objects_v2(Bucket="faces")


def test_a_note_is_there_for_whoever_goes_on(place):
    with open_checkpoints(every(10, place), NAME) as checkpoints:
        assert checkpoints.note() is None
        checkpoints.write_note("some run")
    with open_checkpoints(every(10, place), NAME) as checkpoints:
        assert checkpoints.note() == "some run"


# Damage


def flip_a_byte(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def another_number(content):
    record = json.loads(content)
    record["record"]["step"] += 1
    return json.dumps(record).encode()


DAMAGES = {
    "a flipped bit of the state": (STATE, flip_a_byte),
    "half a state": (STATE, lambda content: content[: len(content) // 2]),
    "no state": (STATE, None),
    "a record that is no JSON": (RECORD, lambda content: content[:-9]),
    "a record of something else": (RECORD, lambda _: b'{"step": 3}'),
    "another number in the record": (RECORD, another_number),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_told_in_one_line_and_the_one_before_serves(
    damage, place, uninterrupted_ddm, request, capsys
):
    params = settings("ddm", STEPS)
    interrupt(params, every(10, place), at=25)
    interrupt(params, every(10, place), at=50)
    newest, before = names(place)[:2]
    file, change = DAMAGES[damage]
    spoil(request, place, f"{newest}/{file}", change)
    capsys.readouterr()
    networks, history = trained(params, every(10, place))
    said = [line for line in capsys.readouterr().err.splitlines() if place in line]
    assert len(said) == 2
    assert said[0].startswith(f"{place}/{NAME}/{newest}: damaged and removed: ")
    assert said[1] == f"{place}/{NAME}: going on after step {int(before.removeprefix('step-'))}"
    assert same(networks, uninterrupted_ddm[0])
    assert history == uninterrupted_ddm[1]


def spoil(request, place, name, change):
    """Put something else where a file of a checkpoint lies, or nothing."""
    if place.startswith("s3://"):
        client, key = request.getfixturevalue("s3"), f"some/checkpoints/{NAME}/{name}"
        before = client.get_object(Bucket="faces", Key=key)
        if change is None:
            client.delete_object(Bucket="faces", Key=key)
        else:
            body = change(before["Body"].read())
            client.put_object(Bucket="faces", Key=key, Body=body, Metadata=before["Metadata"])
        return
    path = place_at(place, NAME).folder / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))


def test_where_every_checkpoint_is_damaged_the_training_starts_anew(uninterrupted_ddm, tmp_path, capsys):
    params, options = settings("ddm", STEPS), every(10, tmp_path)
    interrupt(params, options, at=50)
    for name in names(str(tmp_path)):
        (tmp_path / NAME / name / STATE).write_bytes(b"")
    networks, history = trained(params, options)
    assert "going on" not in capsys.readouterr().err
    assert same(networks, uninterrupted_ddm[0])
    assert history == uninterrupted_ddm[1]


def test_s3_that_does_not_answer_costs_no_checkpoint(s3, monkeypatch):
    params, options = settings("ddm", STEPS), every(10, "s3://faces/some")
    interrupt(params, options, at=50)
    place = place_at("s3://faces/some", NAME)
    newest = place.names()[0]
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(DdmError, match=r"does not answer"), place.opened(newest, RECORD, STATE):
            pass
        with pytest.raises(DdmError, match=r"does not answer"), open_checkpoints(options, NAME):
            pass
    assert place.names()[0] == newest


# What is kept


def checkpoint(step, loss=1.0, weight=0.5):
    tensors = {"smoothed_l1": torch.tensor(loss), "networks.weight": torch.tensor([weight])}
    return Checkpoint(step, 1.5 * step, (), Snapshot(tensors, {}))


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


# S3 that fails for a while


@pytest.fixture
def failing_s3(s3, monkeypatch):
    """`fail()` lets S3 be silent until `mend()`; requests are tried once."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    address = os.environ["AWS_ENDPOINT_URL"]

    class Service:
        def fail(self):
            os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"

        def mend(self):
            os.environ["AWS_ENDPOINT_URL"] = address

    return Service()


def test_s3_that_fails_a_while_costs_a_warning_and_the_next_checkpoint_is_written(failing_s3, capsys):
    address = "s3://faces/some"
    with open_checkpoints(every(1, address), NAME) as checkpoints:
        checkpoints.save(checkpoint(1))
        checkpoints.wait()
        failing_s3.fail()
        for step in range(2, 8):
            checkpoints.save(checkpoint(step))
        checkpoints.wait()
        failing_s3.mend()
        checkpoints.save(checkpoint(8))
        checkpoints.wait()
        assert names(address) == ["step-000000008", "step-000000001"]
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 6
    assert "the checkpoint of step 2 is not written" in warnings[0]
    assert warnings[0].endswith(f"the last good checkpoint is {address}/{NAME}/step-000000001")


def test_s3_that_never_takes_a_checkpoint_ends_the_training(failing_s3):
    with open_checkpoints(every(1, "s3://faces/some"), NAME) as checkpoints:
        failing_s3.fail()
        with pytest.raises(
            DdmError, match=r"step 3 is not written .*; none was ever written, so the training"
        ):
            for step in range(1, 10):
                checkpoints.save(checkpoint(step))
        failing_s3.mend()


def test_a_training_goes_on_while_s3_fails(failing_s3, uninterrupted_ddm, capsys):
    params, address = settings("ddm", STEPS), "s3://faces/some"
    interrupt(params, every(10, address), at=50)

    def fail_after(observation):
        if observation.step == 50:
            failing_s3.fail()

    networks, history = trained(params, every(5, address), fail_after)
    failing_s3.mend()
    assert same(networks, uninterrupted_ddm[0])
    assert history == uninterrupted_ddm[1]


def test_fewer_than_one_checkpoint_to_keep_is_refused(tmp_path):
    with pytest.raises(DdmError, match="checkpoint-keep is 0; keep at least 1"):
        every(1, tmp_path, keep=0)
