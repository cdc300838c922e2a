"""Pictures people look at: a labelled row for each kind of image, a column for each photo."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddm_core.channel import to_pillow, to_uint8

_GAP = 4  # pixels between pictures
_LABEL_WIDTH = 190
_MIN_SIDE = 96  # small pictures are enlarged to this, so that a screen shows them


COLUMNS = 8


def example_columns(photos: int) -> slice:
    """Return which of `photos` different photos a grid shows: COLUMNS of them, spread evenly."""
    step = max(1, photos // COLUMNS)
    return slice(0, min(photos, step * COLUMNS), step)


def labelled_grid(rows: Mapping[str, Tensor]) -> bytes:
    """Return a PNG with one row a label; every value is [columns, channels, height, width] in [0, 1].

    Rows may differ in channels and in size: an encrypted photo may be padded.
    """
    first = next(iter(rows.values()))
    scale = max(1, -(-_MIN_SIDE // first.shape[-1]))
    side = scale * max(max(images.shape[-2:]) for images in rows.values())
    width = _LABEL_WIDTH + len(first) * (side + _GAP)
    canvas = Image.new("RGB", (width, len(rows) * (side + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    for index, (label, images) in enumerate(rows.items()):
        top = _GAP + index * (side + _GAP)
        draw.multiline_text((8, top + side // 2), label, fill="#222222", font=font, anchor="lm")
        for column, array in enumerate(to_uint8(images)):
            canvas.paste(_enlarge(array, scale), (_LABEL_WIDTH + column * (side + _GAP), top))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _enlarge(array: numpy.ndarray, scale: int) -> Image.Image:
    # Nearest neighbour: an obfuscated picture must be shown as it is, not smoothed.
    image = to_pillow(array)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
