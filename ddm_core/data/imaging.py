"""Photo files to square uint8 arrays, and arrays to PNG. One decoder for every stage and for the user."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Literal

from ddm_core.errors import DdmError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL.Image import Image

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
MAX_PIXELS = 80_000_000  # 240 MB as RGB; below the size at which Pillow itself begins to warn
MAX_SIDE = 30_000


def decode(
    content: bytes, *, image_size: int, channels: Literal[1, 3], square: Literal["crop", "pad"]
) -> NDArray[numpy.uint8]:
    """Decode a photo file's bytes to uint8 [channels, image_size, image_size], values 0..255.

    The format is read from the bytes, never from a name: JPEG, PNG, WebP, BMP, PGM/PPM. EXIF orientation is
    applied; 16-bit grey is scaled to 8 bits; transparency is laid over white; palettes and CMYK become RGB;
    colour profiles are ignored; of an animation the first frame counts. Grey is ITU-R 601 luma.
    `square="crop"` cuts out the centre, `"pad"` repeats the edge pixels; the resize is Lanczos, antialiased.

    Raises:
        DdmError: empty, not an image, corrupt, truncated or too large; the message is the reason alone.
    """
    if not content:
        raise DdmError("the file is empty; replace it")
    try:
        image = _flatten(_open(content), "L" if channels == 1 else "RGB")
    except DdmError:
        raise
    except Exception as error:  # a decoder fed with damaged bytes raises almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DdmError(f"corrupt or truncated image ({reason}); replace it") from None
    return _to_square(image, image_size, square)


def encode_png(image: NDArray[numpy.uint8]) -> bytes:
    """Encode uint8 [channels, height, width] with 1 or 3 channels as PNG, the same bytes every time."""
    from PIL import Image

    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _open(content: bytes) -> Image:
    """Return the loaded, upright image; sizes are judged by the header, before any pixel is decoded."""
    from PIL import Image, ImageOps, UnidentifiedImageError

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
    image.load()
    return ImageOps.exif_transpose(image)


def _flatten(image: Image, mode: Literal["L", "RGB"]) -> Image:
    """Return 8-bit grey or RGB of any mode that the formats have."""
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
        image = image.convert("RGB").convert(mode)
    return image


def _to_square(image: Image, size: int, square: Literal["crop", "pad"]) -> NDArray[numpy.uint8]:
    """Return uint8 [channels, size, size]. Padding follows the resize, so a thin strip costs no memory."""
    import numpy
    from PIL import Image

    width, height = image.size
    if square == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        width = height = side
    scale = size / max(width, height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = numpy.asarray(image).reshape(height, width, -1).transpose(2, 0, 1)
    left, top = (size - width) // 2, (size - height) // 2
    margins = ((0, 0), (top, size - height - top), (left, size - width - left))
    return numpy.ascontiguousarray(numpy.pad(pixels, margins, mode="edge"))
