"""Crops of any photos: what a model for all photos is trained on, as the `photo` model is.

Every photo of a folder is scaled by each of SCALES, sharpened, and cut into squares of CROP
pixels, evenly spread, that overlap. A crop's "person" is the photo it comes from, so that a split by identity
keeps photos apart.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.data.sources import list_files

if TYPE_CHECKING:
    from PIL import Image

CROP = 128
SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)
SHARPENING = 100  # per cent of what a blur of one pixel takes: most photos on the internet are sharpened
MOST_A_SIDE = 6  # crops of a large photo at one scale, along each side
SPACING = 96  # pixels between crops of a photo that is not large
FEWEST_COLOURS = 64  # a crop with fewer is a drawing, a mask or an empty sky: nothing to learn from


def read(folder: Path) -> Iterator[RawPhoto | Rejected]:
    """Yield the crops of a folder's photos.

    Raises:
        DdmError: no such folder, or no photo in it.
    """
    listing = list_files(folder)
    yield from listing.rejected
    yield from listing.others
    stems: set[str] = set()
    for file in listing.photos:
        stem = PurePosixPath(file.relative).stem
        if stem in stems:
            yield Rejected(file.relative, f"a second photo called {stem}; rename one of the two")
            continue
        stems.add(stem)
        yield from crops(folder / file.relative, file.relative)


def crops(path: Path, relative: str) -> Iterator[RawPhoto | Rejected]:
    """Yield the crops of one photo as PNG, `photo/scale_row_column.png`, in RGB."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as stored:
            photo = ImageOps.exif_transpose(stored).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        yield Rejected(relative, f"cannot be decoded ({error}); mend or replace it")
        return
    name, empty = PurePosixPath(relative).stem, True
    for scale in SCALES:
        for row, column, crop in _crops(photo, scale):
            empty = False
            yield RawPhoto(f"{name}/{round(100 * scale):03}_{row:02}_{column:02}.png", _png(crop))
    if empty:
        yield Rejected(
            relative, f"gives no crop: below {CROP} pixels a side, or a drawing; take another photo"
        )


def _crops(photo: Image.Image, scale: float) -> Iterator[tuple[int, int, Image.Image]]:
    from PIL.Image import Resampling
    from PIL.ImageFilter import UnsharpMask

    size = round(photo.width * scale), round(photo.height * scale)
    if min(size) < CROP:
        return
    scaled = photo if scale == 1.0 else photo.resize(size, Resampling.LANCZOS)
    if scale != 1.0:
        scaled = scaled.filter(UnsharpMask(radius=1, percent=SHARPENING, threshold=0))
    across, down = (_places(side) for side in size)
    for (row, top), (column, left) in product(enumerate(down), enumerate(across)):
        crop = scaled.crop((left, top, left + CROP, top + CROP))
        if crop.getcolors(FEWEST_COLOURS) is None:
            yield row, column, crop


def _places(side: int) -> list[int]:
    count = min(MOST_A_SIDE, -(-(side - CROP) // SPACING) + 1)
    return [round(index * (side - CROP) / max(1, count - 1)) for index in range(count)]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
