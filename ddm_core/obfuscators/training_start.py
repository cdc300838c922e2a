"""What the training of a learned method begins with: its networks, and what it minimises."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ddm_core.discrepancy import root_mean_square_error
from ddm_core.learned_params import LearnedParams
from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.obfuscators.receiver_start import fit_receiver, photos_to_fit
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.seeding import make_deterministic
from ddm_core.training import PAPER, Goal


def fresh_networks(
    description: Description, params: LearnedParams, name: str, sample: Callable[[int], Tensor]
) -> nn.Module:
    """Return the networks as the training `name` begins with them.

    `sample` gives that many photos of the training, or all where there are fewer, uint8 [n, channels,
    height, width]: the receiver of keyed networks is fitted to them.
    """
    make_deterministic(params.seed, f"train/{name}", params.threads)
    networks = build_networks(description)
    if isinstance(networks, KeyedNetworks):
        fit_receiver(networks, sample(photos_to_fit(description.image_size)), params.seed)
    return networks


def training_goal(networks: nn.Module) -> Goal:
    """Return what these networks' training minimises, and the rates that their parts learn at."""
    if isinstance(networks, KeyedNetworks):
        return Goal(root_mean_square_error, networks.parameter_groups())
    return PAPER
