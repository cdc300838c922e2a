"""Block scrambling, as in encryption-then-compression systems (Kurihara et al. 2015).

Squares are shuffled, turned and flipped, negated, and in colour their channels exchanged, all under a fresh
key a photo. Inside a square neighbours stay neighbours, so JPEG still compresses well; what a square shows
stays visible, too.

Squares at the right and lower edge may be smaller; those of one shape are shuffled among themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import permutations

import numpy
import torch
from torch import Tensor

from ddm_core.keys import keystream
from ddm_core.obfuscators.pixel_bytes import from_bytes, to_bytes
from ddm_core.obfuscators.protocol import check_one_nonce_an_image

_DRAWS = 4  # 64-bit words a square: its place, its turn, its sign, the order of its channels


@dataclass(frozen=True)
class BlockScrambling:
    """Scrambles squares of block x block pixels under one master key."""

    block: int
    master_key: bytes = field(repr=False)

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the scrambled images.

        Raises:
            DdmError: not one nonce an image.
        """
        return self._change(images, nonces, _scramble)

    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the photos.

        Raises:
            DdmError: not one nonce an image.
        """
        return self._change(images, nonces, _unscramble)

    def with_key(self, master_key: bytes) -> BlockScrambling:
        """Return the same method under another master key."""
        return replace(self, master_key=master_key)

    def _change(
        self,
        images: Tensor,
        nonces: Sequence[bytes],
        change: Callable[[Tensor, tuple[int, int], Tensor], Tensor],
    ) -> Tensor:
        check_one_nonce_an_image(images, nonces)
        pixels = to_bytes(images)
        changed = torch.empty_like(pixels)
        for number, (rows, columns, square) in enumerate(self._regions(*images.shape[-2:])):
            squares = _split(pixels[..., rows, columns], square)
            draws = _draw(self.master_key, nonces, squares.shape[1], f"block_scrambling/{number}")
            together = change(squares, square, draws.to(images.device))
            changed[..., rows, columns] = _join(together, square, pixels[..., rows, columns])
        return from_bytes(changed)

    def _regions(self, height: int, width: int) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
        """Yield the parts of the image whose squares have one shape: (rows, columns, shape of a square)."""
        for rows in self._spans(height):
            for columns in self._spans(width):
                yield (
                    rows,
                    columns,
                    (min(self.block, rows.stop - rows.start), min(self.block, columns.stop - columns.start)),
                )

    def _spans(self, length: int) -> list[slice]:
        whole = length - length % self.block
        return [slice(*ends) for ends in ((0, whole), (whole, length)) if ends[0] < ends[1]]


def _scramble(squares: Tensor, shape: tuple[int, int], draws: Tensor) -> Tensor:
    """Shuffle, turn, negate and recolour squares [photos, squares, channels, pixels] of `shape`."""
    order, turn, negate, colours = _choices(draws, shape, squares.shape[2])
    moved = _take(squares, order[:, :, None, None], 1)
    turned = _take(moved, turn[:, :, None, :], 3)
    signed = torch.where(negate[:, :, None, None], 255 - turned, turned)
    return _take(signed, colours[..., None], 2)


def _unscramble(squares: Tensor, shape: tuple[int, int], draws: Tensor) -> Tensor:
    order, turn, negate, colours = _choices(draws, shape, squares.shape[2])
    signed = _take(squares, colours.argsort()[..., None], 2)
    turned = torch.where(negate[:, :, None, None], 255 - signed, signed)
    moved = _take(turned, turn.argsort()[:, :, None, :], 3)
    return _take(moved, order.argsort()[:, :, None, None], 1)


def _choices(draws: Tensor, shape: tuple[int, int], channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the order of the squares, and for each the places of its pixels, its sign and its channels."""
    place, turn, sign, colour = draws.unbind(-1)
    turns = _turns(*shape).to(draws.device)
    orders = torch.tensor(list(permutations(range(channels))), device=draws.device)
    return place.argsort(), turns[turn % len(turns)], sign % 2 == 1, orders[colour % len(orders)]


@cache
def _turns(height: int, width: int) -> Tensor:
    """Return the distinct turns and flips that keep the shape, each as the places its pixels come from."""
    places = torch.arange(height * width).view(height, width)
    quarters = range(0, 4, 1 if height == width else 2)
    turned = [places.rot90(quarter) for quarter in quarters]
    every = [picture.flatten().tolist() for one in turned for picture in (one, one.flip(1))]
    return torch.tensor(sorted(set(map(tuple, every))))  # in a square of one row a flip is a turn


def _take(values: Tensor, places: Tensor, dimension: int) -> Tensor:
    shape = list(values.shape)
    shape[dimension] = places.shape[dimension]
    return values.gather(dimension, places.expand(shape))


def _draw(master_key: bytes, nonces: Sequence[bytes], squares: int, purpose: str) -> Tensor:
    """Return int64 [photos, squares, _DRAWS], not negative."""
    stream = keystream(master_key, nonces, 8 * _DRAWS * squares, purpose).view("<u8") >> 1
    return torch.from_numpy(stream.astype(numpy.int64)).view(len(nonces), squares, _DRAWS)


def _split(images: Tensor, square: tuple[int, int]) -> Tensor:
    """Return the squares [photos, squares, channels, pixels] of images [photos, channels, height, width]."""
    photos, channels, height, width = images.shape
    rows, columns = height // square[0], width // square[1]
    apart = images.reshape(photos, channels, rows, square[0], columns, square[1])
    return apart.permute(0, 2, 4, 1, 3, 5).reshape(photos, rows * columns, channels, -1)


def _join(squares: Tensor, square: tuple[int, int], reference: Tensor) -> Tensor:
    """Return the images of `squares`, in the shape of `reference`; the inverse of `_split`."""
    photos, channels, height, width = reference.shape
    apart = squares.reshape(photos, height // square[0], width // square[1], channels, *square)
    return apart.permute(0, 3, 1, 4, 2, 5).reshape(reference.shape)
