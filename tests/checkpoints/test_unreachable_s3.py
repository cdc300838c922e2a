"""S3 that is silent for a while costs no checkpoint that is there, and no training that has one."""

import os

import pytest
from checkpointed_training import NAME, settings, trained
from interrupted_training import STEPS, checkpoint, every, interrupt, names, same

from ddm_core.checkpoint_places import RECORD, STATE, place_at
from ddm_core.errors import DdmError
from ddm_core.training_checkpoints import open_checkpoints


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
