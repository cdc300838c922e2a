"""What a training begins with: fitted once, by rank 0, and the same bits in every process."""

import pytest
import torch
from safetensors.torch import save
from started_networks import smooth_pictures

from ddm_core.data_parallel import Ranks
from ddm_core.obfuscators.receiver_start import photos_of
from ddm_core.obfuscators.store import Description
from ddm_core.obfuscators.training_start import MOST_CELLS, fresh_networks

SIDE = 64
NAME = "tests"


def weights(networks):
    return save(networks.state_dict())


def test_every_process_begins_with_the_weights_of_rank_0_and_fits_none_of_its_own(
    keyed_ddm_params, monkeypatch
):
    description = Description(keyed_ddm_params, 1, SIDE)
    leader = fresh_networks(description, keyed_ddm_params, NAME, lambda _: smooth_pictures(8, 1))
    monkeypatch.setattr(Ranks, "from_leader", lambda *_: weights(leader))
    follower = fresh_networks(
        description, keyed_ddm_params, NAME, lambda _: pytest.fail("fits, too"), Ranks(1, 2)
    )
    assert weights(follower) == weights(leader)


@pytest.mark.parametrize("side", [16, 64, 128])
def test_no_more_photos_are_asked_for_than_have_the_cells_to_fit_to(keyed_ddm_params, side):
    asked = []

    def sample(most):
        asked.append(most)
        return smooth_pictures(2, 1, side, side)

    torch.manual_seed(0)
    fresh_networks(Description(keyed_ddm_params, 1, side), keyed_ddm_params, NAME, sample)
    assert asked == [photos_of(MOST_CELLS, side)]
    assert asked[0] * (side // 8) ** 2 <= MOST_CELLS
