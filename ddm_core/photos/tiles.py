"""Keyed DDM on photos of any size, tile by tile, with the pixels that one pass over the whole would give.

The networks are convolutions, so what a cell becomes depends on a neighbourhood of known radius. Each tile is
computed with that much of its neighbours around it, which is then cut away. The keystream belongs to the
cell's place in the whole grid: no two tiles share any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddm_core import quaternions
from ddm_core.keys import haar_rows
from ddm_core.obfuscators.keyed_ddm import KeyedDdmNetworks
from ddm_core.obfuscators.transform_code import PATCH

TILE = 192  # cells a side: 768 pixels of the photo
Pixels = NDArray[numpy.uint8]


@dataclass(frozen=True)
class Keystream:
    """The rotations of one photo's grid; `row` and `column` say where in it a part of the photo begins."""

    key: bytes
    nonce: bytes
    grid: tuple[int, int, int]
    row: int = 0
    column: int = 0

    def __repr__(self) -> str:
        return f"Keystream(grid={self.grid}, row={self.row}, column={self.column})"  # without the key

    def rows(self, rows: range) -> Tensor:
        """Return float32 unit quaternions [1, n, 4, len(rows), columns from `column` on]."""
        whole = haar_rows(self.key, self.nonce, self.grid, range(self.row + rows.start, self.row + rows.stop))
        return whole[None, ..., self.column :]

    def at(self, row: int, column: int) -> Keystream:
        """Return the keystream of a part that begins at this cell."""
        return Keystream(self.key, self.nonce, self.grid, row, column)


@torch.no_grad()
def hide(networks: KeyedDdmNetworks, photo: Pixels, keystream: Keystream) -> Pixels:
    """Return the encrypted luma [rows x cell, columns x cell] of `photo` [height, width, channels].

    The photo's sides are multiples of PATCH.
    """
    inner, outer = radius(networks.renderer), radius(networks.encoder)
    cell = carrier_cell(networks)
    rows, columns = (side // PATCH for side in photo.shape[:2])
    hidden = numpy.empty((rows * cell, columns * cell), numpy.uint8)

    def compute(part: _Part, rotation: Tensor) -> Tensor:
        latent = networks.encode(_to_tensor(part.around.of(photo, PATCH)))
        return networks.render(quaternions.multiply(rotation, part.between_cells(latent)))[:, :1]

    _each_tile((inner, outer), keystream, compute, hidden, cell)
    return hidden


@torch.no_grad()
def reveal(networks: KeyedDdmNetworks, hidden: Pixels, keystream: Keystream) -> Pixels:
    """Return the photo [height, width, channels] of an encrypted luma as `hide` returns it."""
    inner, outer = radius(networks.decoder), radius(networks.seeker)
    cell = carrier_cell(networks)
    rows, columns = (side // cell for side in hidden.shape[:2])
    photo = numpy.empty((rows * PATCH, columns * PATCH, networks.channels), numpy.uint8)

    def compute(part: _Part, rotation: Tensor) -> Tensor:
        found = networks.seek(_to_tensor(part.around.of(hidden, cell)[:, :, None]))
        turned_back = quaternions.multiply(quaternions.conjugate(rotation), part.between_cells(found))
        return networks.decode(turned_back)

    _each_tile((inner, outer), keystream, compute, photo, PATCH)
    return photo


def carrier_cell(networks: KeyedDdmNetworks) -> int:
    """Return how many pixels a side the encrypted photo has for PATCH pixels of the photo."""
    with torch.no_grad():
        drawn = networks.render(torch.zeros(1, networks.params.quaternions, 4, 2, 2))
    return int(drawn.shape[-1]) // 2


def radius(network: nn.Module) -> int:
    """Return how many cells away a cell's result may depend on: the sum over its convolutions."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.stride == (1, 1) for layer in layers), "tiles need networks of one resolution"
    return sum(int(layer.dilation[0]) * (int(layer.kernel_size[0]) - 1) // 2 for layer in layers)


@dataclass(frozen=True)
class _Area:
    """Cells of the grid, [top, bottom) x [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    def widened(self, by: int, grid: tuple[int, int]) -> _Area:
        """Return the area with a margin, as far as the grid goes: its own edge is treated as ever."""
        rows, columns = grid
        return _Area(
            max(0, self.top - by),
            min(rows, self.bottom + by),
            max(0, self.left - by),
            min(columns, self.right + by),
        )

    def within(self, other: _Area, scale: int = 1) -> tuple[slice, slice]:
        """Return where this area lies in an array of `other`, `scale` elements a cell."""
        return (
            slice((self.top - other.top) * scale, (self.bottom - other.top) * scale),
            slice((self.left - other.left) * scale, (self.right - other.left) * scale),
        )

    def of(self, pixels: Pixels, scale: int) -> Pixels:
        """Return this area of an image of the whole grid."""
        return pixels[self.top * scale : self.bottom * scale, self.left * scale : self.right * scale]


@dataclass(frozen=True)
class _Part:
    """One tile: its own cells, those between the two networks, and those that the first network sees."""

    own: _Area
    between: _Area
    around: _Area

    def between_cells(self, cells: Tensor) -> Tensor:
        """Cut what the first network made of `around` down to `between`."""
        return cells[..., *self.between.within(self.around)]


def _each_tile(
    radii: tuple[int, int],
    keystream: Keystream,
    compute: Callable[[_Part, Tensor], Tensor],
    target: Pixels,
    scale: int,
) -> None:
    """Fill `target`, which has `scale` pixels a side for each cell."""
    inner, outer = radii
    grid = target.shape[0] // scale, target.shape[1] // scale
    for strip in _strips(grid):
        between_rows = strip[0].widened(inner, grid)
        # Of a whole strip at once: the next tile shares these rows.
        rotation = keystream.rows(range(between_rows.top, between_rows.bottom))
        for own in strip:
            between = own.widened(inner, grid)
            part = _Part(own, between, between.widened(outer, grid))
            drawn = compute(part, rotation[..., between.left : between.right])
            pixels = drawn[0, :, *own.within(between, scale)].clamp(0.0, 1.0).mul(255.0).round().byte()
            place = own.within(_Area(0, grid[0], 0, grid[1]), scale)
            target[place] = pixels.permute(1, 2, 0).reshape(target[place].shape).numpy()


def _strips(grid: tuple[int, int]) -> Iterator[list[_Area]]:
    rows, columns = grid
    for top in range(0, rows, TILE):
        yield [
            _Area(top, min(rows, top + TILE), left, min(columns, left + TILE))
            for left in range(0, columns, TILE)
        ]


def _to_tensor(pixels: Pixels) -> Tensor:
    tensor = torch.from_numpy(numpy.array(pixels)).permute(2, 0, 1)[None]
    return tensor.float().div_(255.0)


def pad_to_cells(photo: Pixels) -> Pixels:
    """Repeat the last row and column until both sides are multiples of PATCH."""
    rows, columns = (-side % PATCH for side in photo.shape[:2])
    margins = [(0, rows), (0, columns), (0, 0)][: photo.ndim]
    return numpy.pad(photo, margins, mode="edge") if rows or columns else photo
