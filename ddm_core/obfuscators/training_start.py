"""What the training of a learned method begins with: its networks, and what it minimises."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ddm_core.data_parallel import ALONE, Ranks
from ddm_core.discrepancy import mean_absolute_error, root_mean_square_error
from ddm_core.learned_params import LearnedParams
from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.obfuscators.receiver_start import fit_receiver, photos_of
from ddm_core.obfuscators.sender_start import fit_sender
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.seeding import make_deterministic
from ddm_core.training import PAPER, Goal

MOST_CELLS = 262_144  # that sender and receiver are fitted to: their memory does not grow with the photos


def fresh_networks(
    description: Description,
    params: LearnedParams,
    name: str,
    sample: Callable[[int], Tensor],
    ranks: Ranks = ALONE,
) -> nn.Module:
    """Return the networks as the training `name` begins with them, the same bits in every process.

    `sample` gives that many photos of the training, or all where there are fewer, uint8 [n, channels,
    height, width]: rank 0 fits sender and receiver of keyed networks to them.

    Raises:
        DdmError: photos cannot be read, or another process is gone.
    """
    make_deterministic(params.seed, f"train/{name}", params.threads)
    networks = build_networks(description)
    if isinstance(networks, KeyedNetworks):
        if ranks.leads:
            photos = sample(photos_of(MOST_CELLS, description.image_size))
            fit_to(photos, networks, params.seed)
        _take_from_leader(networks, ranks)
    return networks


def _take_from_leader(networks: nn.Module, ranks: Ranks) -> None:
    """Give every process the weights of rank 0: another kind of processor solves to other last bits."""
    from safetensors.torch import load, save

    if ranks.world_size > 1:
        networks.load_state_dict(load(ranks.from_leader(save(networks.state_dict()))))


def fit_to(photos: Tensor, networks: KeyedNetworks, seed: int) -> None:
    """Fit the linear parts of sender and receiver to uint8 photos [n, channels, height, width]."""
    fit_sender(networks, photos, seed)
    fit_receiver(networks, photos, seed)


def training_goal(networks: nn.Module) -> Goal:
    """Return what these networks' training minimises, and the rates that their parts learn at."""
    if isinstance(networks, KeyedNetworks):
        distance = root_mean_square_error if networks.params.site_share else mean_absolute_error
        return Goal(distance, networks.parameter_groups())
    return PAPER
