"""The networks, plain modules without training logic.

Images are [batch, channels, height, width] in [0, 1], of any size from 16 pixels a side.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N = TypeVar("N", bound=nn.Module)


def place(network: N, device: str) -> N:
    """Move a network to `device`, weights channels-last: CPU and GPU convolutions are faster so."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of `multiple`."""
    rows, columns = -images.shape[-2] % multiple, -images.shape[-1] % multiple
    return F.pad(images, (0, columns, 0, rows), mode="replicate") if rows or columns else images


def crop_like(images: Tensor, reference: Tensor) -> Tensor:
    """Cut off, below and at the right, what padding has added to the size of `reference`."""
    return images[..., : reference.shape[-2], : reference.shape[-1]]


def standardise(images: Tensor) -> Tensor:
    """Return each picture with mean zero and deviation one."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    deviation = images.std(dim=(1, 2, 3), keepdim=True)
    return (images - mean) / (deviation + 1e-3)


def pool(features: Tensor, side: int) -> Tensor:
    """Return features averaged to side x side cells."""
    if features.shape[-2:] == (side, side):
        return features  # they are; averaging single cells would cost a twentieth of a training step
    if features.is_cpu:
        return F.adaptive_avg_pool2d(features, side)
    # Elsewhere its backward pass adds up in any order, which deterministic mode refuses.
    rows, columns = (averaging_matrix(length, side).to(features) for length in features.shape[-2:])
    return rows @ features @ columns.T


@cache
def averaging_matrix(source: int, target: int) -> Tensor:
    """Return what averages `source` values to `target`, [target, source]: windows as of adaptive pooling.

    Where `target` does not divide `source`, neighbouring windows overlap.
    """
    matrix = torch.zeros(target, source)
    for cell in range(target):
        first, last = cell * source // target, -(-(cell + 1) * source // target)
        matrix[cell, first:last] = 1.0 / (last - first)
    return matrix


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


class CellBlock(nn.Module):
    """x + 1x1 conv(SiLU(3x3 conv(x))), starting as the identity: half the reach of a ResidualBlock."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(_bias(self.second))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        change: Tensor = self.second(F.silu(self.first(features)))
        return features + change


def cell_trunk(inputs: int, outputs: int, width: int, blocks: int) -> nn.Sequential:
    """Return a residual trunk that starts at zero and sees blocks + 1 cells to each side."""
    last = nn.Conv2d(width, outputs, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(_bias(last))
    blocks_between = [CellBlock(width) for _ in range(blocks)]
    return nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), *blocks_between, nn.SiLU(), last)


class CellNetwork(nn.Module):
    """A linear 3x3 convolution on a grid of cells, plus a residual trunk that corrects it.

    Input and output are grids [batch, channels, h, w].
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.trunk = cell_trunk(inputs, outputs, width, blocks)

    def forward(self, grid: Tensor) -> Tensor:
        """Return [batch, outputs, h, w]."""
        mapped: Tensor = self.linear(grid) + self.trunk(grid)
        return mapped

    @torch.no_grad()
    def start_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Set the linear part: `weight` [outputs, inputs, 3, 3], `bias` [outputs]."""
        self.linear.weight.copy_(weight)
        _bias(self.linear).copy_(bias)


class BlendedCellNetwork(nn.Module):
    """Two linear 3x3 convolutions, blended cell by cell, plus a residual trunk that corrects them.

    For input that arrives in one of two states, such as whole or damaged: each state has a reader of its own.
    The convolutions see the first `linear_inputs` channels, the trunk sees all and the blend.
    """

    def __init__(self, linear_inputs: int, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.linear_inputs = linear_inputs
        self.linear = nn.Conv2d(linear_inputs, 2 * outputs, 3, padding=1)
        self.trunk = cell_trunk(inputs + 1, outputs, width, blocks)

    def read(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each of the convolutions makes of a grid: two of [batch, outputs, h, w]."""
        first, second = self.linear(grid[:, : self.linear_inputs]).chunk(2, dim=1)
        return first, second

    def forward(self, grid: Tensor, readings: tuple[Tensor, Tensor], blend: Tensor) -> Tensor:
        """Return [batch, outputs, h, w]; where `blend` [batch, 1, h, w] is 1, the first reading counts."""
        first, second = readings
        correction: Tensor = self.trunk(torch.cat([grid, blend], dim=1))
        return second + blend * (first - second) + correction

    @torch.no_grad()
    def start_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Set both convolutions: `weight` [2 outputs, linear_inputs, 3, 3], `bias` [2 outputs]."""
        self.linear.weight.copy_(weight)
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
        """Return images of the same shape."""
        half = F.silu(self.enter(F.pixel_unshuffle(pad_to_multiple(images, 4), 2)))
        quarter = self.middle(F.silu(self.down(half)))
        back = F.silu(F.pixel_shuffle(self.up(quarter), 2))
        return crop_like(F.pixel_shuffle(self.leave(torch.cat([half, back], dim=1)), 2), images)


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
        """Return logits [batch, 1, height/8, width/8], rounded down."""
        logits: Tensor = self.layers(images)
        return logits


class RecognitionNetwork(nn.Module):
    """A small convolutional network that names one of `identities` people.

    Each picture is standardised to zero mean and unit deviation first: blur and P3 leave little contrast,
    and an attacker must not fail for that. `width` channels at half size, doubled at each halving.
    """

    def __init__(self, channels: int, identities: int, width: int = 24) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        inputs = 4 * channels
        for outputs in widths:
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.1)
        self.classify = nn.Linear(16 * widths[-1], identities)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, identities]."""
        logits: Tensor = self.classify(self.dropout(self.embed(images)))
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """Return the features that the last layer decides by [batch, 64 width]."""
        standard = pad_to_multiple(standardise(images), 2)
        features: Tensor = pool(self.features(F.pixel_unshuffle(standard, 2)), 4).flatten(1)
        return features


class InversionNetwork(nn.Module):
    """The inversion attacker: a U-Net, plus a dense layer on a coarse view that sees the whole picture.

    Convolutions alone see a neighbourhood; blur and mosaic spread a face over more than that. Input is
    standardised over the batch: P3 leaves little contrast, and an attacker must not fail for that.
    """

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()
        self.channels = channels
        self.standardise = nn.BatchNorm2d(channels)
        self.local = UNet(channels, width, blocks=3)
        self.coarse = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * 256, 256),
            nn.ReLU(),
            nn.Linear(256, channels * 256),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Return rebuilt images [batch, channels, height, width], unbounded."""
        standard = self.standardise(hidden)
        coarse = self.coarse(pool(standard, 16)).view(-1, self.channels, 16, 16)
        rebuilt: Tensor = self.local(standard) + F.interpolate(coarse, hidden.shape[-2:], mode="bilinear")
        return rebuilt


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
