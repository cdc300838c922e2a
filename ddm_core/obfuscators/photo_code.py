"""The start of the photo model: a DCT code of 8x8 RGB patches, drawn in two bands of a grey carrier.

A patch becomes 12x12 pixels of x_e. Two bands are drawn there, and do not overlap:

- The robust band, 36 patterns: what is left when x_e is scaled to half its size. They are the 6x6 DCT of the
  halved picture, drawn such that halving gives them back. They carry the nine robust quaternions.
- The detail band: patterns that halving removes and that therefore cost the robust band nothing. They carry
  all other quaternions; a receiver of a halved picture goes without them.

The coefficients that vary most are in the robust quaternions.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ddm_core.channel import resize_matrix
from ddm_core.obfuscators.transform_code import dct_matrix

PATCH = 8  # pixels of the photo a side of one grid cell
CARRIER = 12  # pixels of x_e a side of one grid cell: 1.5 times as many
HALVED = CARRIER // 2
ROBUST = HALVED**2 // 4  # quaternions that a halved picture still holds
MOST_QUATERNIONS = CARRIER**2 // 4
MOST_ANGLE = 2.7  # radians; at pi a rotation's direction is lost

_ROBUST_DEVIATION = 0.2  # of the pixels of x_e, by band
_DETAIL_DEVIATION = 0.1
# Root mean square of the angles for detailed photos, radians: large ones drown the noise, but their tails
# come near pi, where a little noise turns the direction around. Measured: docs/experiments.md.
_BRIGHTNESS_ANGLE, _ROBUST_ANGLE, _DETAIL_ANGLE = 1.0, 0.8, 0.6
_NEIGHBOURS = 4  # cells at each side that the inverse of halving is computed over
_SIDE = (2 * _NEIGHBOURS + 1) * CARRIER
_AROUND = slice((_NEIGHBOURS - 1) * CARRIER, (_NEIGHBOURS + 2) * CARRIER)


class PhotoCode(NamedTuple):
    """The linear part of encoder and renderer, as 3x3 convolutions [outputs, inputs, 3, 3] and biases."""

    encode: tuple[Tensor, Tensor]
    render: tuple[Tensor, Tensor]


def photo_code(quaternions: int) -> PhotoCode:
    """Return the start for RGB photos and ROBUST + 1 to MOST_QUATERNIONS quaternions a cell."""
    patterns, deviations = _photo_patterns(3 * quaternions)
    slots = _slots(quaternions)
    angles = torch.zeros(3 * quaternions, 3 * PATCH**2)
    for members in slots:
        spread = deviations[members]
        # Of all gains that spend the same angle, these give the least squared error over the three.
        angle = _BRIGHTNESS_ANGLE if members[0] < 2 else _ROBUST_ANGLE
        if members[0] >= 3 * ROBUST:
            angle = _DETAIL_ANGLE
        gains = angle / (spread * spread.sum()).sqrt()
        angles[members] = patterns[members] * gains[:, None]
    order = [index for members in slots for index in members]
    encode = torch.zeros(3 * quaternions, 3 * PATCH**2, 3, 3)
    encode[..., 1, 1] = angles[order]
    mid_grey = encode[..., 1, 1].sum(dim=1) * 0.5
    return PhotoCode(
        encode=(encode, -mid_grey),
        render=(_as_convolution(carrier_patterns(4 * quaternions)), torch.full((CARRIER**2,), 0.5)),
    )


@cache
def carrier_patterns(count: int) -> Tensor:
    """Return `count` patterns [count, 36, 36] around a cell in the middle, the most robust first.

    Scaled so that unit quaternions give the bands' deviations.
    """
    robust = _scaled(_robust_patterns(), _ROBUST_DEVIATION)
    detail = _scaled(_detail_patterns()[: count - len(robust)], _DETAIL_DEVIATION)
    return torch.cat([robust, detail])


def _robust_patterns() -> Tensor:
    middle = slice(_NEIGHBOURS * HALVED, (_NEIGHBOURS + 1) * HALVED)
    drawn = _enlarging(caution=0.1)[_AROUND, middle]
    return torch.stack(
        [
            # JPEG takes least from the low frequencies, and what is in them needs it most.
            drawn @ pattern @ drawn.T / math.sqrt(1 + 0.06 * (row**2 + column**2))
            for row, column, pattern in _square_dct(HALVED)
        ]
    )


def _detail_patterns() -> Tensor:
    cell = slice(_NEIGHBOURS * CARRIER, (_NEIGHBOURS + 1) * CARRIER)
    kept = (_enlarging(caution=0.0) @ _halving())[_AROUND, cell]
    whole = torch.eye(_SIDE)[_AROUND, cell]
    return torch.stack(
        [
            whole @ pattern @ whole.T - kept @ pattern @ kept.T
            for row, column, pattern in _square_dct(CARRIER)
            if max(row, column) >= HALVED
        ]
    )


def _halving() -> Tensor:
    return resize_matrix(_SIDE, _SIDE // 2)


def _enlarging(caution: float) -> Tensor:
    """Return the inverse of halving; caution softens the finest patterns, which halving weakens."""
    halve = _halving()
    gram = halve @ halve.T
    enlarge: Tensor = halve.T @ torch.linalg.inv(gram + caution * torch.eye(len(gram)))
    return enlarge


def _scaled(patterns: Tensor, deviation: float) -> Tensor:
    # A component of a random unit quaternion has the variance 1/4.
    variance = patterns.square().sum() / 4 / CARRIER**2
    return patterns * (deviation / variance.sqrt())


def _as_convolution(patterns: Tensor) -> Tensor:
    """Return [144, count, 3, 3]: what a cell shows of the patterns of its neighbours."""
    count = len(patterns)
    tiles = patterns.view(count, 3, CARRIER, 3, CARRIER).permute(2, 4, 0, 1, 3)
    convolution: Tensor = tiles.reshape(CARRIER**2, count, 3, 3).flip(2, 3)
    return convolution


def _square_dct(size: int) -> list[tuple[int, int, Tensor]]:
    matrix = dct_matrix(size)
    places = [(row, column) for row in range(size) for column in range(size)]
    places.sort(key=lambda place: (place[0] ** 2 + place[1] ** 2, place))
    return [(row, column, torch.outer(matrix[row], matrix[column])) for row, column in places]


def _slots(quaternions: int) -> list[list[int]]:
    """Return which three coefficients each quaternion holds: a large one with two small ones, by band."""
    groups = []
    for first, last in ((0, min(ROBUST, quaternions)), (ROBUST, quaternions)):
        count = max(0, last - first)
        starts = [3 * first + third * count for third in range(3)]
        thirds = [list(range(start, start + count)) for start in starts]
        thirds[1].reverse()
        groups += [list(members) for members in zip(*thirds, strict=True)]
    return groups


def _photo_patterns(count: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal patterns [count, 192] of RGB patches, the most varying first, and deviations."""
    axes, basis = dct_matrix(3), dct_matrix(PATCH)
    places = [(axis, row, column) for axis in range(3) for row in range(PATCH) for column in range(PATCH)]
    places.sort(key=lambda place: (-_deviation(*place), place))
    # pixel_unshuffle puts the channel first: [channel 0's 64 pixels, channel 1's 64 pixels, ...]
    patterns = [
        torch.kron(axes[axis], torch.outer(basis[row], basis[column]).flatten())
        for axis, row, column in places[:count]
    ]
    return torch.stack(patterns), torch.tensor([_deviation(*place) for place in places[:count]])


def _deviation(axis: int, row: int, column: int) -> float:
    # Fitted to the DCT of natural photos, of rather detailed ones: those are the hard ones.
    if row == column == 0:
        return (3.4, 1.4, 0.5)[axis]
    return (0.8, 0.2, 0.08)[axis] / math.pow(math.hypot(row, column), 1.24)
