"""The start of keyed DDM: a DCT code of 4x4 patches, from which training converges in seconds.

Each quaternion starts as (1, a, b, c) with three DCT coefficients a, b, c of the patch: the constant keeps
the direction readable after normalisation. The first quaternion takes the lowest frequencies and is drawn
with the lowest frequencies too, so that it survives a photo being scaled down.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

PATCH = 4  # pixels a side of one grid cell


class TransformCode(NamedTuple):
    """The linear part of each network, as a weight [outputs, inputs] and a bias [outputs]."""

    encode: tuple[Tensor, Tensor]
    render: tuple[Tensor, Tensor]
    seek: tuple[Tensor, Tensor]
    decode: tuple[Tensor, Tensor]


def transform_code(channels: int, quaternions: int) -> TransformCode:
    """Return the start for photos of 1 or 3 channels and so many quaternions a cell."""
    patterns, gains = _photo_patterns(channels)
    kept = min(3 * quaternions, len(patterns))
    patterns, gains = patterns[:kept], gains[:kept]
    slots = [4 * (index // 3) + 1 + index % 3 for index in range(kept)]

    encode = torch.zeros(4 * quaternions, channels * PATCH**2)
    encode[slots] = patterns * gains[:, None]
    constant = torch.zeros(4 * quaternions)
    constant[0::4] = 1.0
    constant[slots[0]] = -PATCH / 2 * math.sqrt(channels) * float(gains[0])  # of a mid-grey patch

    decode = torch.zeros(channels * PATCH**2, 4 * quaternions)
    decode[:, slots] = (patterns / gains[:, None]).T

    carriers = min(4 * quaternions, PATCH**2)
    amplitude = 1.4 / math.sqrt(4 * quaternions)  # pixel deviation about 0.17: clipping at 0 and 1 is rare
    draw = torch.zeros(PATCH**2, 4 * quaternions)
    draw[:, :carriers] = _photo_patterns(1)[0][:carriers].T * amplitude
    read = draw.T / amplitude**2
    return TransformCode(
        encode=(encode, constant),
        render=(draw, torch.full((PATCH**2,), 0.5)),
        seek=(read, -read.sum(dim=1) * 0.5),
        decode=(decode, torch.full((channels * PATCH**2,), 0.5)),
    )


def _photo_patterns(channels: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal patterns [n, channels x 16 pixels], the most telling first, and their gains [n].

    The gain evens the coefficients out: mean brightness varies most in photos and is drawn smallest. The axes
    of RGB are those of the three-point DCT (brightness, red against blue, green against both), which are
    nearly the principal ones of natural photos.
    """
    axes = dct_matrix(3) if channels == 3 else torch.ones(1, 1)
    basis = dct_matrix(PATCH)
    places = [
        (axis, row, column) for axis in range(channels) for row in range(PATCH) for column in range(PATCH)
    ]
    places.sort(key=lambda place: (_rank(*place), place))
    # pixel_unshuffle puts the channel first: [channel 0's 16 pixels, channel 1's 16 pixels, ...]
    patterns = [
        torch.kron(axes[axis], torch.outer(basis[row], basis[column]).flatten())
        for axis, row, column in places
    ]
    gains = [_gain(*place) / math.sqrt(channels) for place in places]
    return torch.stack(patterns), torch.tensor(gains)


def _rank(axis: int, row: int, column: int) -> float:
    # Measured on natural photos: chroma of one frequency varies about as brightness of a higher one.
    return (1 + row**2 + column**2) * (1.0 if axis == 0 else 2.5)


def _gain(axis: int, row: int, column: int) -> float:
    if row or column:
        return 3.0
    return 1.0 if axis == 0 else math.sqrt(3)


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II [size, size], a row a frequency, lowest first."""
    k = torch.arange(float(size)).unsqueeze(1)
    n = torch.arange(float(size)).unsqueeze(0)
    matrix = torch.cos(torch.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    matrix[0] *= math.sqrt(0.5)
    return matrix
