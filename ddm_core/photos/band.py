"""The code band below an encrypted photo: black and white squares that survive recompression and scaling.

The band is as wide as the picture and always the same number of squares wide, so a reader finds every square
by its fraction of the width, whatever the picture was scaled to. From the bottom upwards: a pilot row (black
and white in turn), the primary block, the extension if there are regions, another pilot row, and a gutter
that repeats the photo's last row, so that scaling does not mix squares into the photo.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from PIL import Image

from ddm_core.errors import DdmError
from ddm_core.photos.header import (
    PRIMARY_BYTES,
    DamagedError,
    Header,
    extension_bytes,
    pack_extension,
    pack_primary,
    unpack_extension,
    unpack_primary,
)

COLUMNS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
MIN_SQUARE = 8  # pixels a side when written: 4 after halving, still half a JPEG block
MIN_WIDTH = COLUMNS[0] * MIN_SQUARE
SHARE = 200  # squares along the side of a square picture of the same area, where that allows larger ones
BLACK, WHITE = 24, 232  # away from 0 and 255, where clipping would bend what scaling does
_SAMPLES = 4  # a side of a square; the middle two are read
_LEAST_CONTRAST = 40.0  # grey levels between the means of black and white squares
_LEAST_AGREEMENT = 0.9  # of the squares of a pilot row
_LEAST_PERIODIC = 0.6  # share of a row's variance at one frequency
# Pixels by which a site may have rounded the width. Fine steps: below a narrow photo with many boxes the band
# is so high that a quarter of a pixel in its width adds up to a square.
_SLACKS = (0.0, *(sign * eighths / 8 for eighths in (4, 2, 1, 3, 8) for sign in (-1, 1)))


@dataclass(frozen=True)
class Layout:
    """Where things are in an encrypted picture of `width` x `height` pixels: the payload at its top left."""

    width: int
    height: int
    payload_width: int
    payload_height: int
    columns: int
    rows: int

    @property
    def band_height(self) -> int:
        """Pixels of the squares, without the gutter."""
        return round(self.rows * self.width / self.columns)


def payload_size(header: Header) -> tuple[int, int]:
    """Return width and height in pixels of the encrypted photo without its band: whole cells."""
    cells = (-(-side // header.patch) for side in (header.width, header.height))
    width, height = (count * header.carrier for count in cells)
    return width, height


def layout(header: Header) -> Layout:
    """Return the layout that a header's picture has when it is written."""
    width, height = payload_size(header)
    return _layout(width, height, len(header.regions))


def append_band(payload: NDArray[numpy.uint8], header: Header) -> NDArray[numpy.uint8]:
    """Return the picture to send: `payload` [height, width] or [height, width, 3] and the band below it."""
    place = layout(header)
    assert payload.shape[:2] == (place.payload_height, place.payload_width)
    below = place.height - place.payload_height
    margins = [(0, below), (0, place.width - place.payload_width), (0, 0)][: payload.ndim]
    picture = numpy.pad(payload, margins, mode="edge")
    squares = numpy.where(_squares(header, place), WHITE, BLACK).astype(numpy.uint8)
    rows = _indices(place.rows, place.band_height)
    columns = _indices(place.columns, place.width)
    drawn = squares[rows][:, columns]
    picture[-place.band_height :] = drawn if payload.ndim == 2 else drawn[:, :, None]
    return picture


def read_band(picture: Image.Image) -> Header:
    """Return the header of a received picture, grey ("L"), of any scale at which its squares can be seen.

    Raises:
        DdmError: cropped, turned or mirrored, not one of ours, or of a later format version.
        DamagedError: a code band with more errors than can be corrected.
    """
    found = False
    for columns in COLUMNS:
        if picture.width < 2 * columns or not _has_pilot(picture, columns):
            continue
        found = True
        for slack in _SLACKS:
            try:
                header = _read(picture, columns, (picture.width + slack) / columns)
            except DamagedError:
                continue
            _check_whole(picture, header)
            return header
    if found:
        raise DamagedError
    if _shows_pilot_row(picture):
        raise DdmError(
            "cropped, turned or mirrored: its code band is not whole at the lower edge;"
            " get the photo as it was sent"
        )
    raise DdmError("not one of ours: it has no code band; give a photo that ddm encrypted, whole")


def cut_payload(picture: Image.Image, header: Header) -> Image.Image:
    """Return the encrypted photo without its band, scaled back to the size in which it was written."""
    place = layout(header)
    size = place.payload_width, place.payload_height
    if picture.size == (place.width, place.height):
        return picture.crop((0, 0, *size))
    right = place.payload_width * picture.width / place.width
    bottom = place.payload_height * picture.height / place.height
    return picture.resize(size, Image.Resampling.BICUBIC, box=(0, 0, right, bottom))


def _layout(payload_width: int, payload_height: int, regions: int) -> Layout:
    width = max(payload_width, MIN_WIDTH)
    square = max(MIN_SQUARE, math.sqrt(width * payload_height) / SHARE)
    columns = max(count for count in COLUMNS if count == COLUMNS[0] or width / count >= square)
    rows = 2 + _rows(PRIMARY_BYTES, columns) + _rows(extension_bytes(regions), columns)
    gutter = max(MIN_SQUARE, round(width / columns))
    height = payload_height + gutter + round(rows * width / columns)
    return Layout(width, height, payload_width, payload_height, columns, rows)


def _rows(length: int, columns: int) -> int:
    return -(-8 * length // columns)


def _squares(header: Header, place: Layout) -> NDArray[numpy.bool_]:
    """Return the band's squares [rows, columns], white or not, top row first."""
    pilot = _pilot(place.columns)[None]
    primary = _to_squares(pack_primary(header), place.columns)
    extension = _to_squares(pack_extension(header), place.columns)
    return numpy.concatenate([pilot, extension, primary, pilot])


def _to_squares(content: bytes, columns: int) -> NDArray[numpy.bool_]:
    rows = _rows(len(content), columns)
    bits = numpy.unpackbits(numpy.frombuffer(_masked(content), numpy.uint8)).astype(bool)
    return numpy.pad(bits, (0, rows * columns - len(bits))).reshape(rows, columns)


def _from_squares(squares: NDArray[numpy.bool_], length: int) -> bytes:
    return _masked(numpy.packbits(squares.ravel()[: 8 * length]).tobytes())


def _masked(content: bytes) -> bytes:
    """XOR with fixed noise, so that runs of equal bytes do not become black or white areas."""
    mask = hashlib.shake_256(b"ddm-pipeline code band v1").digest(len(content))
    return bytes(byte ^ noise for byte, noise in zip(content, mask, strict=True))


def _pilot(columns: int) -> NDArray[numpy.bool_]:
    white: NDArray[numpy.bool_] = numpy.arange(columns) % 2 == 1
    return white


def _indices(count: int, length: int) -> NDArray[numpy.intp]:
    """Return to which of `count` equal parts each of `length` pixels belongs."""
    return ((numpy.arange(length) + 0.5) * count / length).astype(numpy.intp)


def _read(picture: Image.Image, columns: int, square: float) -> Header:
    primary = _rows(PRIMARY_BYTES, columns)
    grey = _sample(picture, columns, square, 0, primary + 1)
    threshold = _levels(grey[-1])[1]
    header, regions = unpack_primary(_from_squares(grey[:-1] > threshold, PRIMARY_BYTES))
    if not regions:
        return header
    length = extension_bytes(regions)
    rows = _rows(length, columns)
    squares = _sample(picture, columns, square, primary + 1, rows) > threshold
    return unpack_extension(header, _from_squares(squares, length))


def _sample(
    picture: Image.Image, columns: int, square: float, skipped: int, rows: int
) -> NDArray[numpy.float64]:
    """Return the grey levels [rows, columns] of squares, `skipped` rows above the picture's bottom."""
    bottom = picture.height - skipped * square
    top = bottom - rows * square
    if top < 0:
        raise DamagedError
    small = picture.resize(
        (columns * _SAMPLES, rows * _SAMPLES), Image.Resampling.BOX, box=(0, top, picture.width, bottom)
    )
    parts = numpy.asarray(small, numpy.float64).reshape(rows, _SAMPLES, columns, _SAMPLES)
    grey: NDArray[numpy.float64] = parts[:, 1:-1, :, 1:-1].mean(axis=(1, 3))
    return grey


def _levels(pilot: NDArray[numpy.float64]) -> tuple[float, float]:
    """Return the contrast of a pilot row and the grey level midway between black and white."""
    white = _pilot(len(pilot))
    black_level, white_level = float(pilot[~white].mean()), float(pilot[white].mean())
    return white_level - black_level, (white_level + black_level) / 2


def _has_pilot(picture: Image.Image, columns: int) -> bool:
    try:
        row = _sample(picture, columns, picture.width / columns, 0, 1)[0]
    except DamagedError:
        return False
    contrast, threshold = _levels(row)
    agreement = float(((row > threshold) == _pilot(columns)).mean())
    return contrast > _LEAST_CONTRAST and agreement > _LEAST_AGREEMENT


def _check_whole(picture: Image.Image, header: Header) -> None:
    """Compare the picture's aspect with the header's: the band may be there and the top not."""
    place = layout(header)
    scale = picture.width / place.width
    expected = place.height * scale
    slack = 2.0 + 1.5 * place.height / place.width  # the site rounded both sides
    if abs(picture.height - expected) > slack:
        raise DdmError(
            f"cropped or stretched: {picture.width}x{picture.height} pixels, but at this width the whole has"
            f" a height of {round(expected)}; get the whole of it"
        )


def _shows_pilot_row(picture: Image.Image) -> bool:
    """Tell whether any row of pixels is a part of a pilot row: black and white in turn at an even pace."""
    return any(_is_periodic(rows) for rows in _row_blocks(picture))


def _row_blocks(picture: Image.Image) -> Iterator[NDArray[numpy.float64]]:
    if picture.width < 4 * MIN_SQUARE:
        return
    for top in range(0, picture.height, 256):
        part = picture.crop((0, top, picture.width, min(picture.height, top + 256)))
        yield numpy.asarray(part, numpy.float64)


def _is_periodic(rows: NDArray[numpy.float64]) -> bool:
    window = numpy.hanning(rows.shape[1])
    centred = (rows - rows.mean(axis=1, keepdims=True)) * window
    power = numpy.abs(numpy.fft.rfft(centred, axis=1)) ** 2
    total = power.sum(axis=1)
    # A window spreads one frequency over its neighbours; of few periods, a slope looks periodic too.
    around = power[:, 2:-2] + power[:, 1:-3] + power[:, 3:-1] + power[:, :-4] + power[:, 4:]
    share = around[:, 4:].max(axis=1) / numpy.maximum(total, 1e-9)
    contrast = rows.std(axis=1) > _LEAST_CONTRAST
    return bool(((share > _LEAST_PERIODIC) & contrast).any())
