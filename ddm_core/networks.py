"""The networks, plain modules without training logic.

Images are [batch, channels, height, width] in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """x + conv(SiLU(conv(x))), starting as the identity (the last convolution starts at zero)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(_bias(self.second))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        change: Tensor = self.second(F.silu(self.first(features)))
        return features + change


class PatchNetwork(nn.Module):
    """A linear map a grid cell, plus a residual convolutional trunk that corrects it.

    The linear part makes the network a plain transform code at the start of training, from which the trunk
    learns only what a linear code cannot do. Input and output are grids [batch, channels, h, w].
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)
        last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(_bias(last))
        self.trunk = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1),
            *[ResidualBlock(width) for _ in range(blocks)],
            nn.SiLU(),
            last,
        )

    def forward(self, grid: Tensor) -> Tensor:
        """Return [batch, outputs, h, w]."""
        mapped: Tensor = self.linear(grid) + self.trunk(grid)
        return mapped

    @torch.no_grad()
    def start_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Set the linear part: `weight` [outputs, inputs], `bias` [outputs]."""
        self.linear.weight.copy_(weight[:, :, None, None])
        _bias(self.linear).copy_(bias)


class UNet(nn.Module):
    """An image-to-image network: unshuffle 2, a stride-2 convolution, residual blocks, back up, a skip.

    `width` is the number of channels at half size; twice that at quarter size. Output unbounded.
    """

    def __init__(self, channels: int, width: int, blocks: int = 2) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Sequential(*[ResidualBlock(2 * width) for _ in range(blocks)])
        self.up = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.leave = nn.Conv2d(2 * width, 4 * channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape; height and width are multiples of 4."""
        half = F.silu(self.enter(F.pixel_unshuffle(images, 2)))
        quarter = self.middle(F.silu(self.down(half)))
        back = F.silu(F.pixel_shuffle(self.up(quarter), 2))
        return F.pixel_shuffle(self.leave(torch.cat([half, back], dim=1)), 2)


class Discriminator(nn.Module):
    """Three stride-2 4x4 convolutions (16, 32, 64) and patch logits: positive means "restored"."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, 1, height/8, width/8]."""
        logits: Tensor = self.layers(images)
        return logits


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
