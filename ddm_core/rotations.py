"""The latent of keyed DDM and its rotations: unit octonions, then unit quaternions, in one tensor.

[batch, n, 4, height, width]: of the n quaternions a cell, the first 2 * octonions are the halves of octonions
(Cayley and Dickson). Left multiplication by a unit octonion moves S7 as that by a unit quaternion moves S3:
it is an isometry, and as octonions are alternative, the conjugate undoes it: k* (k z) = z. With z fixed,
k -> k z is an isometry, too; so a uniform k makes k z uniform, whatever unit z is. An octonion holds seven
numbers in eight reals, a quaternion three in four.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddm_core import quaternions
from ddm_core.keys import Grid


class Groups(NamedTuple):
    """A latent or rotations, apart: octonions [b, o, 8, h, w] and quaternions [b, n - 2 o, 4, h, w].

    Or the rotation vectors that they are exponentials of, of seven and three numbers.
    """

    octonions: Tensor
    quaternions: Tensor


def apart(latent: Tensor, octonions: int) -> Groups:
    """Return the octonions and quaternions of [batch, n, 4, h, w]."""
    batch, _, _, height, width = latent.shape
    pairs = latent[:, : 2 * octonions].reshape(batch, octonions, 8, height, width)
    return Groups(pairs, latent[:, 2 * octonions :])


def together(groups: Groups) -> Tensor:
    """Return [batch, n, 4, h, w]; the inverse of `apart`."""
    batch, count, _, height, width = groups.octonions.shape
    halves = groups.octonions.reshape(batch, 2 * count, 4, height, width)
    return torch.cat([halves, groups.quaternions], dim=1)


def rotate(rotation: Tensor, latent: Tensor, octonions: int) -> Tensor:
    """Return k z, group by group; both [batch, n, 4, h, w]."""
    by, of = apart(rotation, octonions), apart(latent, octonions)
    return together(Groups(*map(quaternions.multiply, by, of)))


def rotate_back(rotation: Tensor, latent: Tensor, octonions: int) -> Tensor:
    """Return k* z, group by group: the inverse of `rotate` for a unit k."""
    return rotate(conjugate(rotation, octonions), latent, octonions)


def conjugate(rotation: Tensor, octonions: int) -> Tensor:
    """Return k*, group by group."""
    return together(Groups(*map(quaternions.conjugate, apart(rotation, octonions))))


def random_unit(batch: int, grid: Grid, generator: torch.Generator) -> Tensor:
    """Return Haar-uniform rotations [batch, n, 4, h, w] for training."""
    drawn = torch.randn(batch, grid.quaternions, 4, grid.rows, grid.columns, generator=generator)
    return together(Groups(*map(quaternions.normalise, apart(drawn, grid.octonions))))


def exponential(vectors: Tensor, octonions: int, most_angle: float) -> Tensor:
    """Return the unit latent [batch, n, 4, h, w] of rotation vectors [batch, 7 o + 3 (n - 2 o), h, w].

    Vectors longer than `most_angle` (in radians) approach that length, up to 1e5; shorter ones hardly change.
    """
    return together(
        Groups(*(quaternions.exponential(_bend(group, most_angle)) for group in _vectors(vectors, octonions)))
    )


def logarithm(latent: Tensor, octonions: int) -> tuple[Tensor, Tensor]:
    """Return the rotation vectors [batch, 7 o + 3 (n - 2 o), h, w], and for each number its group's power.

    Of a latent of any norm; finite, and with a finite gradient, for zero as well.
    """
    groups = apart(latent, octonions)
    found = [quaternions.logarithm(group) for group in groups]
    power = [
        group.square().sum(dim=2, keepdim=True).expand_as(vectors)
        for group, vectors in zip(groups, found, strict=True)
    ]
    return _numbers(found), _numbers(power)


def _numbers(groups: list[Tensor]) -> Tensor:
    return torch.cat([group.flatten(1, 2) for group in groups], dim=1)


def _vectors(numbers: Tensor, octonions: int) -> Groups:
    batch, count, height, width = numbers.shape
    first = numbers[:, : 7 * octonions].reshape(batch, octonions, 7, height, width)
    rest = (count - 7 * octonions) // 3
    return Groups(first, numbers[:, 7 * octonions :].reshape(batch, rest, 3, height, width))


def _bend(vectors: Tensor, most_angle: float) -> Tensor:
    length = (vectors.square().sum(dim=2, keepdim=True) + 1e-12).sqrt()
    return vectors / (1 + (length / most_angle) ** 8) ** 0.125
