"""Photo files to square uint8 arrays, and arrays to PNG. One decoder for every stage and for the user."""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from ddm_core.data.alignment import align
from ddm_core.data.raw import Box, Point, Region
from ddm_core.data.regions import printable
from ddm_core.errors import DdmError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL.Image import Image

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
MAX_PIXELS = 80_000_000  # 240 MB as RGB; below the size at which Pillow itself begins to warn
MAX_SIDE = 30_000
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"  # never within picture data, where 0 follows each 255
MAX_BYTES = 1 << 28  # the largest photo of MAX_PIXELS that anyone stores, an RGB bitmap, takes 240 MB
# EXIF orientation -> where a point x, y of an image stored with this width and height is when upright.
TURNS: dict[int, Callable[[float, float, int, int], Point]] = {
    2: lambda x, y, width, height: (width - x, y),
    3: lambda x, y, width, height: (width - x, height - y),
    4: lambda x, y, width, height: (x, height - y),
    5: lambda x, y, width, height: (y, x),
    6: lambda x, y, width, height: (height - y, x),
    7: lambda x, y, width, height: (height - y, width - x),
    8: lambda x, y, width, height: (y, width - x),
}


def read_photo(path: Path) -> bytes:
    """Return the bytes of a photo file.

    Raises:
        DdmError: as `open_photo`; the message is the reason alone.
    """
    try:
        with open_photo(path) as file:
            return file.read()
    except OSError as error:
        raise DdmError(f"cannot be read ({error.strerror}); mend or replace it") from None


def open_photo(path: Path) -> BinaryIO:
    """Return a photo file open for reading.

    A pipe, socket or device that took the file's place since it was listed is refused, not waited for.

    Raises:
        DdmError: vanished, unreadable, not a regular file or larger than MAX_BYTES; the message is the
            reason alone.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DdmError("vanished after it was listed; put it back, or run again without it") from None
    except OSError as error:
        raise DdmError(f"cannot be read ({error.strerror}); mend its permissions or replace it") from None
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISREG(status.st_mode):
        raise DdmError(f"larger than {MAX_BYTES >> 20} MiB; make it smaller")
    raise DdmError("is not a regular file; replace it")


def decode(
    content: bytes,
    *,
    image_size: int,
    channels: Literal[1, 3],
    square: Literal["crop", "pad"],
    region: Region | None = None,
    margin: float = 0.0,
) -> NDArray[numpy.uint8]:
    """Decode a photo file's bytes to uint8 [channels, image_size, image_size], values 0..255.

    The format is read from the bytes, never from a name: JPEG, PNG, WebP, BMP, PGM/PPM. EXIF orientation is
    applied; 16-bit grey is scaled to 8 bits; transparency is laid over white; palettes and CMYK become RGB;
    colour profiles are ignored; of an animation the first frame counts. Grey is ITU-R 601 luma.
    `square="crop"` cuts out the centre, `"pad"` repeats the edge pixels; the resize is Lanczos, antialiased.

    `region` (in pixels as stored, before the EXIF orientation) with landmarks gives the aligned face
    (`ddm_core.data.alignment.align`); with a box alone the box, which `margin` (0 or more, a fraction of its
    width and height) widens on every side as far as the photo goes, and `square` makes square.

    JPEG has no checksums: damage within its picture data that still decodes, to wrong colours, is not seen.

    Raises:
        DdmError: empty, not an image, corrupt, truncated or too large, or a region outside of the photo; the
            message is the reason alone.
    """
    mode: Literal["L", "RGB"] = "L" if channels == 1 else "RGB"
    image, orientation, size = open_upright(content, mode)
    with _damage_named():
        if region is not None:
            region = turned(region, size, orientation)
            if region.landmarks is not None:
                return align(flatten(image, mode), region.landmarks, image_size)
            if region.box is not None:
                image = image.crop(_widened(region.box, margin, image.size))
        image = flatten(image, mode)
    return _to_square(image, image_size, square)


def open_upright(content: bytes, mode: Literal["L", "RGB"] = "RGB") -> tuple[Image, int, tuple[int, int]]:
    """Return a photo's image, upright; the EXIF orientation that made it so, 1 for none; its stored size.

    With `mode` L a JPEG may come without its colours, which then are not decoded at all.

    Raises:
        DdmError: as `decode`.
    """
    from PIL import ExifTags, ImageOps

    if not content:
        raise DdmError("the file is empty; replace it")
    with _damage_named():
        stored = _open(content, mode)
        orientation = stored.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation not in TURNS:
            return stored, 1, stored.size
        return ImageOps.exif_transpose(stored), orientation, stored.size


def turned(region: Region, size: tuple[int, int], orientation: int) -> Region:
    """Return where the region of an image of `size` lies when EXIF's `orientation` (1..8) is applied."""
    if orientation == 1:
        return region
    turn, (width, height), box, landmarks = TURNS[orientation], size, region.box, region.landmarks
    if box is not None:
        columns, rows = zip(turn(*box[:2], width, height), turn(*box[2:], width, height), strict=True)
        box = (min(columns), min(rows), max(columns), max(rows))
    if landmarks is not None:  # whole numbers are the centres of pixels, so the last one is a pixel less far
        landmarks = tuple(turn(x, y, width - 1, height - 1) for x, y in landmarks)
    return Region(box, landmarks)


def flatten(image: Image, mode: Literal["L", "RGB"]) -> Image:
    """Return 8-bit grey or RGB of any mode that the formats have, transparency laid over white.

    Raises:
        DdmError: floating-point samples.
    """
    import numpy
    from PIL import Image

    if image.mode.startswith("I"):
        samples = numpy.asarray(image).astype(numpy.int64).clip(0, 65535)
        image = Image.fromarray(((samples * 255 + 32767) // 65535).astype(numpy.uint8))
    if image.mode == "F":
        raise DdmError("floating-point samples have no known range; save it as an 8 or 16-bit image")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    if image.mode != mode:
        image = image if image.mode == "RGB" else image.convert("RGB")
        image = image if mode == "RGB" else image.convert(mode)
    return image


def encode_png(image: NDArray[numpy.uint8]) -> bytes:
    """Encode uint8 [channels, height, width] with 1 or 3 channels as PNG, the same bytes every time."""
    from PIL import Image

    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    # Runs alone: of photos, 40 % of the time of zlib's search for repeats, and a few per cent smaller.
    Image.fromarray(pixels).save(buffer, format="PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except DdmError:
        raise
    except Exception as error:  # a decoder fed with damaged bytes raises almost anything
        reason = " ".join(printable(str(error)).split()) or type(error).__name__
        raise DdmError(f"corrupt or truncated image ({reason}); replace it") from None


def _open(content: bytes, mode: Literal["L", "RGB"]) -> Image:
    """Return the loaded image; sizes are judged by the header, before any pixel is decoded."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            raise DdmError(f"not an image in a known format ({', '.join(FORMATS)}); replace it") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise DdmError(f"more than {MAX_PIXELS // 10**6} megapixels; make it smaller") from None
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise DdmError(
            f"{width} x {height} pixels, more than {MAX_PIXELS // 10**6} megapixels or {MAX_SIDE} a side;"
            " make it smaller"
        )
    if image.format == "PNG":  # loading does not look at PNG's checksums, verifying does and spends the image
        image.verify()
        image = Image.open(io.BytesIO(content), formats=("PNG",))
    # The decoder takes the zeros of a download that was never finished for picture data.
    if image.format in ("JPEG", "MPO") and content.rfind(JPEG_END) < content.rfind(JPEG_SCAN):
        raise DdmError("corrupt or truncated image (no end mark after the picture data); replace it")
    if mode == "L" and image.format in ("JPEG", "MPO"):
        image.draft("L", None)  # a JPEG's luma is ITU-R 601 luma
    image.load()
    return image


def _widened(box: Box, margin: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return every pixel of an image of `size` that the box with its margin touches."""
    left, top, right, bottom = box
    (width, height), across, down = size, margin * (right - left), margin * (bottom - top)
    # min and max would take a NaN for a bound; comparisons with it are false
    if not (left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0):
        raise DdmError(
            f"the box {left:g}, {top:g}, {right:g}, {bottom:g} holds nothing of the photo of"
            f" {width} x {height} pixels; mend the box"
        )
    return (
        math.floor(max(0, left - across)),
        math.floor(max(0, top - down)),
        math.ceil(min(width, right + across)),
        math.ceil(min(height, bottom + down)),
    )


def _to_square(image: Image, size: int, square: Literal["crop", "pad"]) -> NDArray[numpy.uint8]:
    """Return uint8 [channels, size, size]. Padding follows the resize, so a thin strip costs no memory."""
    import numpy
    from PIL import Image

    width, height = image.size
    if square == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        if width != height:
            image = image.crop((left, top, left + side, top + side))
        width = height = side
    scale = size / max(width, height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = _to_array(image)
    if width == height == size:
        return pixels
    left, top = (size - width) // 2, (size - height) // 2
    margins = ((0, 0), (top, size - height - top), (left, size - width - left))
    return numpy.ascontiguousarray(numpy.pad(pixels, margins, mode="edge"))


def _to_array(image: Image) -> NDArray[numpy.uint8]:
    """Return uint8 [channels, height, width]."""
    import numpy

    return numpy.ascontiguousarray(numpy.atleast_3d(numpy.asarray(image)).transpose(2, 0, 1))
