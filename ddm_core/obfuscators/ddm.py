"""The paper's DDM (Liu, Lin, Chen 2018): x_e = G_e(x), x_r = G_d(x_e); no key.

No protection against adaptive attackers: G_d is public with the code, and a recogniser retrained on x_e
wins. It is here as the faithful baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddm_core.channel import round_to_8_bits
from ddm_core.data_parallel import BatchPart
from ddm_core.networks import UNet


class DdmNetworks(nn.Module):
    """G_e and G_d, both U-Nets. Images are [batch, channels, height, width] in [0, 1]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encryption = UNet(channels, width)
        self.decryption = UNet(channels, width)

    def hide(self, images: Tensor) -> Tensor:
        """Return x_e = G_e(x), rounded to 8 bits with a straight-through gradient."""
        return round_to_8_bits(torch.sigmoid(self.encryption(images).float()))

    def reveal(self, hidden: Tensor) -> Tensor:
        """Return x_r = G_d(x_e), unbounded so that training sees the whole error."""
        restored: Tensor = self.decryption(hidden)
        return restored.float()

    def round_trip(
        self, images: Tensor, generator: torch.Generator, part: BatchPart | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (x_e, x_r) for one training batch. The paper trains without a channel in between."""
        hidden = self.hide(images)
        return hidden, self.reveal(hidden)


@dataclass(frozen=True)
class Ddm:
    """Trained DDM networks as an obfuscator."""

    networks: DdmNetworks

    @torch.no_grad()
    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return x_e; keyless, so the nonces are not read."""
        return self.networks.hide(images)

    @torch.no_grad()
    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return x_r in [0, 1]."""
        return self.networks.reveal(images).clamp(0.0, 1.0)
