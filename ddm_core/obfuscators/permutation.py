"""Methods that move pixels about under one fixed key, the same for every photo. All are keyless in our terms:
the key is a setting, public with the model, and there is no fresh randomness a photo.

Squares at the right and lower edge may be smaller; they are permuted among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ddm_core.obfuscators.pixel_bytes import from_bytes, to_bytes
from ddm_core.seeding import torch_generator


@dataclass(frozen=True)
class PixelPermutation:
    """One permutation of all pixels; the channels of a pixel stay together."""

    seed: int

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the permuted images."""
        height, width = images.shape[-2:]
        order = _pixel_order(self.seed, height, width).to(images.device)
        return from_bytes(to_bytes(images).flatten(2)[..., order].view_as(images))


@dataclass(frozen=True)
class BlockPermutation:
    """One permutation of the pixels of a block x block square, the same in every square of every photo."""

    block: int
    seed: int

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the permuted images; the channels of a pixel stay together."""
        height, width = images.shape[-2:]
        order = _block_order(self.seed, self.block, 1, height, width).to(images.device)
        return from_bytes(to_bytes(images).flatten(2)[..., order].view_as(images))


@dataclass(frozen=True)
class LearnableEncryption:
    """Learnable image encryption (Tanaka 2018): squares whose 4-bit halves are reversed and shuffled.

    In each square every sample is split into its upper and lower 4 bits; fixed places of these 4-bit images
    are reversed (v becomes 15 - v), then all places are shuffled, and pairs make up bytes again. One key
    serves all squares and photos.
    """

    block: int
    seed: int

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the encrypted images."""
        channels, height, width = images.shape[1:]
        order = _block_order(self.seed, self.block, 2 * channels, height, width).to(images.device)
        reverse = _reversed_places(self.seed, self.block, 2 * channels, height, width).to(images.device)
        pixels = to_bytes(images)
        halves = torch.cat([pixels // 16, pixels % 16], dim=1)
        halves = torch.where(reverse, 15 - halves, halves)
        upper, lower = halves.flatten(1)[:, order].view_as(halves).chunk(2, dim=1)
        return from_bytes(upper * 16 + lower)


@cache
def _pixel_order(seed: int, height: int, width: int) -> Tensor:
    """Return [height * width]: which pixel each place shows."""
    return torch.randperm(height * width, generator=torch_generator(seed, "pixel permutation"))


@cache
def _block_order(seed: int, block: int, planes: int, height: int, width: int) -> Tensor:
    """Return [planes * height * width]: which sample each place shows, one permutation for all squares."""
    generator = torch_generator(seed, f"block permutation/{block}/{planes}")
    ranks = _tiled(torch.randperm(planes * block * block, generator=generator), block, planes, height, width)
    rows, columns = torch.arange(height) // block, torch.arange(width) // block
    squares = (rows[:, None] * -(-width // block) + columns).expand(planes, height, width).flatten()
    places = squares.argsort(stable=True)  # square by square, each in the order of its samples
    # The same squares, each in the order of its ranks; in a smaller square the ranks that are there decide.
    samples = (squares * (planes * block * block) + ranks.flatten()).argsort()
    order = torch.empty_like(places)
    order[places] = samples
    return order


@cache
def _reversed_places(seed: int, block: int, planes: int, height: int, width: int) -> Tensor:
    """Return bool [planes, height, width], the same in all squares: a fair coin a place."""
    generator = torch_generator(seed, f"intensity reversal/{block}/{planes}")
    coins = torch.randint(2, (planes * block * block,), generator=generator)
    return _tiled(coins, block, planes, height, width).bool()


def _tiled(values: Tensor, block: int, planes: int, height: int, width: int) -> Tensor:
    square = values.view(planes, block, block)
    tiles = square.repeat(1, -(-height // block), -(-width // block))
    return tiles[:, :height, :width]
