"""A training that is interrupted goes on from its newest checkpoint and ends in the same bits."""

import pytest
from checkpointed_training import NAME, settings, trained
from interrupted_training import STEPS, every, interrupt, names, same

from ddm_core.training_checkpoints import open_checkpoints


@pytest.fixture(scope="module", params=["ddm", "keyed_ddm"])
def params(request):
    return settings(request.param, STEPS)


@pytest.fixture(scope="module")
def uninterrupted(params):
    """(weights, history) of a training that nothing disturbs and that keeps no checkpoints."""
    return trained(params)


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
