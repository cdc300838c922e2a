"""Keyed DDM on photos of any size, tile by tile, with the pixels that one pass over the whole would give.

The networks are convolutions, so what a cell becomes depends on a neighbourhood of known reach. Each tile is
computed with that much of its neighbours around it, which is then cut away. The keystream belongs to the
cell's place in the whole grid: no two tiles share any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol, runtime_checkable

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddm_core.keys import Grid, haar_rows

TILE = 768  # pixels a side of what is drawn at once, without the neighbours
Pixels = NDArray[numpy.uint8]


@runtime_checkable
class PhotoNetworks(Protocol):
    """What tiles ask of networks: cells of `patch` pixels become cells of `carrier` pixels of x_e.

    The reaches say how many cells away a result may still depend on what comes in.
    """

    channels: int
    patch: int
    carrier: int

    @property
    def hide_reach(self) -> int:
        """From the photo to x_e."""
        ...

    @property
    def reveal_reach(self) -> int:
        """From x_e to the restored photo."""
        ...

    def grid(self, images: Tensor) -> Grid:
        """Return the rotations that one of these photos needs."""
        ...

    def hide(self, images: Tensor, rotation: Tensor) -> Tensor:
        """Return x_e for a keystream [batch, n, 4, rows, columns]."""
        ...

    def reveal(self, hidden: Tensor, rotation: Tensor) -> Tensor:
        """Return x_r, whole cells, unbounded."""
        ...


@dataclass(frozen=True)
class Keystream:
    """The rotations of one photo's grid; `row` and `column` say where in it a part of the photo begins."""

    key: bytes
    nonce: bytes
    grid: Grid
    row: int = 0
    column: int = 0

    def __repr__(self) -> str:
        return f"Keystream(grid={self.grid}, row={self.row}, column={self.column})"  # without the key

    def rows(self, rows: range) -> Tensor:
        """Return float32 rotations [1, n, 4, len(rows), columns from `column` on]."""
        whole = haar_rows(self.key, self.nonce, self.grid, range(self.row + rows.start, self.row + rows.stop))
        return whole[None, ..., self.column :]

    def at(self, row: int, column: int) -> Keystream:
        """Return the keystream of a part that begins at this cell."""
        return Keystream(self.key, self.nonce, self.grid, row, column)


def keystream_of(networks: PhotoNetworks, key: bytes, nonce: bytes, cells: tuple[int, int]) -> Keystream:
    """Return the keystream of a photo of so many rows and columns of cells."""
    rows, columns = cells
    cell = networks.grid(torch.empty(1, networks.channels, networks.patch, networks.patch))
    return Keystream(key, nonce, cell._replace(rows=rows, columns=columns))


@torch.no_grad()
def hide(networks: PhotoNetworks, photo: Pixels, keystream: Keystream) -> Pixels:
    """Return the encrypted luma [rows x carrier, columns x carrier] of `photo` [height, width, channels].

    The photo's sides are multiples of the patch.
    """
    cells = _cells(photo, networks.patch)
    hidden = numpy.empty((*(side * networks.carrier for side in cells), 1), numpy.uint8)

    def compute(around: Area, rotation: Tensor) -> Tensor:
        return networks.hide(to_tensor(around.of(photo, networks.patch)), rotation)[:, :1]

    _each_tile(cells, networks.hide_reach, keystream, compute, hidden)
    return hidden[:, :, 0]


@torch.no_grad()
def reveal(networks: PhotoNetworks, hidden: Pixels, keystream: Keystream) -> Pixels:
    """Return the photo [height, width, channels] of an encrypted luma as `hide` returns it."""
    cells = _cells(hidden, networks.carrier)
    photo = numpy.empty((*(side * networks.patch for side in cells), networks.channels), numpy.uint8)

    def compute(around: Area, rotation: Tensor) -> Tensor:
        return networks.reveal(to_tensor(around.of(hidden, networks.carrier)[:, :, None]), rotation)

    _each_tile(cells, networks.reveal_reach, keystream, compute, photo)
    return photo


def pad_to_cells(photo: Pixels, patch: int) -> Pixels:
    """Repeat the last row and column until both sides are multiples of the patch."""
    rows, columns = (-side % patch for side in photo.shape[:2])
    margins = [(0, rows), (0, columns), (0, 0)][: photo.ndim]
    return numpy.pad(photo, margins, mode="edge") if rows or columns else photo


@dataclass(frozen=True)
class Area:
    """Cells of the grid, [top, bottom) x [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    def widened(self, by: int, grid: tuple[int, int]) -> Area:
        """Return the area with a margin, as far as the grid goes: its own edge is treated as ever."""
        rows, columns = grid
        return Area(
            max(0, self.top - by),
            min(rows, self.bottom + by),
            max(0, self.left - by),
            min(columns, self.right + by),
        )

    def within(self, other: Area, scale: int) -> tuple[slice, slice]:
        """Return where this area lies in an array of `other`, `scale` elements a cell."""
        return (
            slice((self.top - other.top) * scale, (self.bottom - other.top) * scale),
            slice((self.left - other.left) * scale, (self.right - other.left) * scale),
        )

    def of(self, pixels: Pixels, scale: int) -> Pixels:
        """Return this area of an image of the whole grid."""
        return pixels[self.top * scale : self.bottom * scale, self.left * scale : self.right * scale]


def _each_tile(
    grid: tuple[int, int],
    reach: int,
    keystream: Keystream,
    compute: Callable[[Area, Tensor], Tensor],
    target: Pixels,
) -> None:
    """Fill `target` [height, width, channels], whole cells of the grid, with what `compute` makes."""
    scale = target.shape[0] // grid[0]
    tiles = list(strips(grid, max(1, TILE // scale)))

    def rotations(strip: list[Area]) -> Tensor:
        rows = strip[0].widened(reach, grid)
        # Of a whole strip at once: the next tile shares these rows.
        return keystream.rows(range(rows.top, rows.bottom))

    with ThreadPoolExecutor(1) as ahead:  # the next strip's keystream, while the networks work on this one
        coming = ahead.submit(rotations, tiles[0])
        for strip, following in zip_longest(tiles, tiles[1:]):
            rotation = coming.result()
            if following:
                coming = ahead.submit(rotations, following)
            for own in strip:
                around = own.widened(reach, grid)
                drawn = compute(around, rotation[..., around.left : around.right])
                pixels = drawn[0, :, *own.within(around, scale)].mul(255.0).round_().clamp_(0.0, 255.0).byte()
                target[own.within(Area(0, grid[0], 0, grid[1]), scale)] = pixels.permute(1, 2, 0).numpy()


def strips(grid: tuple[int, int], side: int) -> Iterator[list[Area]]:
    """Yield the tiles of at most `side` cells a side, row by row."""
    rows, columns = grid
    for top in range(0, rows, side):
        yield [
            Area(top, min(rows, top + side), left, min(columns, left + side))
            for left in range(0, columns, side)
        ]


def _cells(pixels: Pixels, side: int) -> tuple[int, int]:
    return pixels.shape[0] // side, pixels.shape[1] // side


def to_tensor(pixels: Pixels) -> Tensor:
    """Return [height, width, channels] as [1, channels, height, width] in [0, 1]."""
    tensor = torch.from_numpy(numpy.array(pixels)).permute(2, 0, 1)[None]
    return tensor.float().div_(255.0)
