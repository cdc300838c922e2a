"""Small trainings that are broken off, and what lies at their places afterwards."""

import pytest
import torch
from checkpointed_training import NAME, trained

from ddm_core.checkpoint_options import CheckpointOptions, Interval
from ddm_core.checkpoint_places import place_at
from ddm_core.training_checkpoints import Checkpoint
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


def names(place):
    return place_at(place, NAME).names()


def checkpoint(step, loss=1.0, weight=0.5):
    tensors = {"smoothed_l1": torch.tensor(loss), "networks.weight": torch.tensor([weight])}
    return Checkpoint(step, 1.5 * step, (), Snapshot(tensors, {}))
