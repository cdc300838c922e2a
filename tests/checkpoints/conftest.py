"""Where checkpoints lie, and a training that nothing disturbs."""

import pytest
from checkpointed_training import settings, trained
from interrupted_training import STEPS


@pytest.fixture(scope="session")
def uninterrupted_ddm():
    """(weights, history) of a training of the method ddm that keeps no checkpoints."""
    return trained(settings("ddm", STEPS))


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """An address for checkpoints."""
    if request.param == "folder":
        return str(tmp_path / "checkpoints")
    request.getfixturevalue("s3")
    return "s3://faces/some/checkpoints"
