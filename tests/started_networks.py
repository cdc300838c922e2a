"""Networks as training starts with them: they already restore what they hide, if not well."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.obfuscators.training_start import fit_to
from ddm_core.seeding import torch_generator


def started_networks(description: Description, pictures: Tensor | None = None) -> nn.Module:
    """Return the networks of a description, keyed ones fitted to pictures or smooth ones.

    The same description gives the same weights. Pictures are uint8 [n, channels, height, width].
    """
    torch.manual_seed(0)
    networks = build_networks(description)
    if isinstance(networks, KeyedNetworks):
        fit_to(smooth_pictures(48, description.channels) if pictures is None else pictures, networks, seed=0)
    return networks


def smooth_pictures(count: int, channels: int, height: int = 64, width: int = 64) -> Tensor:
    """Return low-pass noise, uint8 [count, channels, height, width]; colours vary as brightness does."""
    draws = torch_generator(0, f"tests/smooth pictures/{height}x{width}")
    coarse = torch.rand(count, channels, height // 16 + 1, width // 16 + 1, generator=draws)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return (smooth.clamp(0, 1) * 255).round().byte()
