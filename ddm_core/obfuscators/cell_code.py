"""The start of keyed DDM: a DCT code of 8x8 patches, drawn in two bands of a grey carrier.

An RGB patch becomes 12x12 pixels of x_e, a grey one may do with 8x8. Two bands are drawn there, and do not
overlap:

- The robust band: what is left when x_e is scaled to half its size, 6x6 or 4x4 patterns. They are the DCT of
  the halved picture, drawn such that halving gives them back. They carry nine or four robust quaternions, of
  which pairs may be joined to octonions.
- The detail band: patterns that halving removes and that therefore cost the robust band nothing. They carry
  all other quaternions; a receiver of a halved picture goes without them.

The coefficients that vary most are in the robust quaternions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ddm_core.channel import resize_matrix
from ddm_core.learned_params import CodeStart

PATCH = 8  # pixels of the photo a side of one grid cell
MOST_ANGLE = 2.7  # radians; at pi a rotation's direction is lost

_NEIGHBOURS = 4  # cells at each side that the inverse of halving is computed over


@dataclass(frozen=True)
class CellLayout:
    """A cell: PATCH x PATCH pixels of so many channels become `carrier` x `carrier` grey pixels of x_e.

    Of its robust quaternions the first 2 * `octonions` are joined in pairs.
    """

    channels: int
    carrier: int
    octonions: int = 0

    @property
    def pixels(self) -> int:
        """Return how many values of the photo a cell has."""
        return self.channels * PATCH**2

    @property
    def halved(self) -> int:
        """Return the side of a cell in pixels when x_e is scaled to half its size."""
        return self.carrier // 2

    @property
    def robust(self) -> int:
        """Return how many quaternions a halved picture still holds."""
        return self.halved**2 // 4

    def sizes(self, quaternions: int) -> list[int]:
        """Return how many numbers each group holds, octonions first."""
        return [7] * self.octonions + [3] * (quaternions - 2 * self.octonions)

    def numbers(self, quaternions: int) -> int:
        """Return how many numbers all groups hold."""
        return sum(self.sizes(quaternions))

    @property
    def side(self) -> int:
        """Return the side in pixels of the x_e that the inverse of halving is computed over."""
        return (2 * _NEIGHBOURS + 1) * self.carrier

    @property
    def around(self) -> slice:
        """Return where in it the middle cell and its neighbours are."""
        return slice((_NEIGHBOURS - 1) * self.carrier, (_NEIGHBOURS + 2) * self.carrier)


class CellCode(NamedTuple):
    """The linear part of encoder and renderer, as 3x3 convolutions [outputs, inputs, 3, 3] and biases.

    The encoder's takes pixels around mid grey, in [-0.5, 0.5].
    """

    encode: tuple[Tensor, Tensor]
    render: tuple[Tensor, Tensor]


def cell_code(layout: CellLayout, quaternions: int, start: CodeStart) -> CellCode:
    """Return the start for more than `layout.robust` and at most carrier^2 / 4 quaternions a cell."""
    numbers, robust = layout.numbers(quaternions), layout.numbers(layout.robust)
    patterns, deviations = _photo_patterns(layout, numbers)
    slots = _slots(layout, quaternions)
    angles = torch.zeros(numbers, layout.pixels)
    for group, members in enumerate(slots):
        spread = deviations[members]
        # Of all gains that spend the same angle, these give the least squared error over the group.
        angle = start.octonion_angle if group < layout.octonions else start.robust_angle
        if members[0] >= robust:
            angle = start.detail_angle
        gains = angle / (spread * spread.sum()).sqrt()
        angles[members] = patterns[members] * gains[:, None]
    order = [index for members in slots for index in members]
    encode = torch.zeros(numbers, layout.pixels, 3, 3)
    encode[..., 1, 1] = angles[order]
    return CellCode(
        encode=(encode, torch.zeros(numbers)),
        render=(
            _as_convolution(carrier_patterns(layout, 4 * quaternions, start), layout.carrier),
            torch.full((layout.carrier**2,), 0.5),
        ),
    )


@cache
def carrier_patterns(layout: CellLayout, count: int, start: CodeStart) -> Tensor:
    """Return patterns [count, 3 carrier, 3 carrier] of 3x3 cells, the most robust first.

    Scaled so that unit quaternions give the bands' deviations; a unit octonion's numbers are weaker.
    """
    cell = layout.carrier**2
    robust = _scaled(_robust_patterns(layout), start.robust_deviation, cell)
    detail = _scaled(_detail_patterns(layout)[: count - len(robust)], start.detail_deviation, cell)
    return torch.cat([robust, detail])


def _robust_patterns(layout: CellLayout) -> Tensor:
    middle = slice(_NEIGHBOURS * layout.halved, (_NEIGHBOURS + 1) * layout.halved)
    drawn = _enlarging(layout.side, caution=0.1)[layout.around, middle]
    return torch.stack(
        [
            # JPEG takes least from the low frequencies, and what is in them needs it most.
            drawn @ pattern @ drawn.T / math.sqrt(1 + 0.06 * (row**2 + column**2))
            for row, column, pattern in _square_dct(layout.halved)
        ]
    )


def _detail_patterns(layout: CellLayout) -> Tensor:
    cell = slice(_NEIGHBOURS * layout.carrier, (_NEIGHBOURS + 1) * layout.carrier)
    kept = (_enlarging(layout.side, caution=0.0) @ _halving(layout.side))[layout.around, cell]
    whole = torch.eye(layout.side)[layout.around, cell]
    return torch.stack(
        [
            whole @ pattern @ whole.T - kept @ pattern @ kept.T
            for row, column, pattern in _square_dct(layout.carrier)
            if max(row, column) >= layout.halved
        ]
    )


def _halving(side: int) -> Tensor:
    return resize_matrix(side, side // 2)


def _enlarging(side: int, caution: float) -> Tensor:
    """Return the inverse of halving; caution softens the finest patterns, which halving weakens."""
    halve = _halving(side)
    gram = halve @ halve.T
    enlarge: Tensor = halve.T @ torch.linalg.inv(gram + caution * torch.eye(len(gram)))
    return enlarge


def _scaled(patterns: Tensor, deviation: float, pixels: int) -> Tensor:
    # A component of a random unit quaternion has the variance 1/4.
    variance = patterns.square().sum() / 4 / pixels
    return patterns * (deviation / variance.sqrt())


def _as_convolution(patterns: Tensor, carrier: int) -> Tensor:
    """Return [carrier^2, count, 3, 3]: what a cell shows of the patterns of its neighbours."""
    count = len(patterns)
    tiles = patterns.view(count, 3, carrier, 3, carrier).permute(2, 4, 0, 1, 3)
    convolution: Tensor = tiles.reshape(carrier**2, count, 3, 3).flip(2, 3)
    return convolution


def _square_dct(size: int) -> list[tuple[int, int, Tensor]]:
    matrix = dct_matrix(size)
    places = [(row, column) for row in range(size) for column in range(size)]
    places.sort(key=lambda place: (place[0] ** 2 + place[1] ** 2, place))
    return [(row, column, torch.outer(matrix[row], matrix[column])) for row, column in places]


def _slots(layout: CellLayout, quaternions: int) -> list[list[int]]:
    """Return which coefficients each group holds, large ones with small ones: octonions, robust, detail."""
    groups: list[list[int]] = []
    robust = layout.robust - 2 * layout.octonions
    for count, size in ((layout.octonions, 7), (robust, 3), (quaternions - layout.robust, 3)):
        first = sum(map(len, groups))
        rows = [list(range(first + row * count, first + (row + 1) * count)) for row in range(size)]
        for row in rows[1::2]:
            row.reverse()
        groups += [list(members) for members in zip(*rows, strict=True)]
    return groups


def _photo_patterns(layout: CellLayout, count: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal patterns [count, pixels] of patches, the most varying first, and deviations."""
    axes, basis = dct_matrix(layout.channels), dct_matrix(PATCH)
    places = [
        (axis, row, column)
        for axis in range(layout.channels)
        for row in range(PATCH)
        for column in range(PATCH)
    ]
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


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II [size, size], a row a frequency, lowest first."""
    k = torch.arange(float(size)).unsqueeze(1)
    n = torch.arange(float(size)).unsqueeze(0)
    matrix = torch.cos(torch.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    matrix[0] *= math.sqrt(0.5)
    return matrix
