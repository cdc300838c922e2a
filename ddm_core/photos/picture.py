"""Photo files to upright 8-bit arrays, and arrays to PNG, JPEG or WebP, without metadata unless given."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ddm_core.data.imaging import flatten, open_upright
from ddm_core.errors import DdmError

Format = Literal["png", "jpeg", "webp"]
SUFFIXES: dict[Format, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
MAX_SIDES: dict[Format, int] = {"png": 1 << 31, "jpeg": 65_500, "webp": 16_383}
Pixels = NDArray[numpy.uint8]


@dataclass(frozen=True)
class Output:
    """The file to make; `quality` (1..100) is for JPEG and WebP, and PNG is without loss."""

    format: Format = "png"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise DdmError(f"format '{self.format}' is unknown; take {', '.join(SUFFIXES)}")
        if not 1 <= self.quality <= 100:
            raise DdmError(f"quality {self.quality} is out of range; take 1 to 100")


def read_pixels(content: bytes) -> Pixels:
    """Return a photo upright: uint8 [height, width, 1] where it has no colour, else [height, width, 3].

    Transparency is laid over white; a colour profile is applied and the result is sRGB.

    Raises:
        DdmError: not a readable photo (see `ddm_core.data.imaging.decode`).
    """
    image = open_upright(content)[0]
    pixels = numpy.asarray(flatten(_to_srgb(image), "RGB"))
    red = pixels[:, :, :1]
    has_colour = bool((pixels[:, :, 1:] != red).any())
    return pixels if has_colour else numpy.ascontiguousarray(red)


def read_image(content: bytes) -> Image.Image:
    """Return a received encrypted photo, upright, "L" or "RGB".

    Raises:
        DdmError: not a readable photo.
    """
    image = open_upright(content)[0]
    return flatten(image, "L" if image.mode in ("L", "1", "LA", "I;16") else "RGB")


def write_pixels(pixels: Pixels, output: Output, exif: Image.Exif | None = None) -> bytes:
    """Encode uint8 [height, width] or [height, width, 1 or 3].

    Raises:
        DdmError: the format cannot hold a picture of this size.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_SIDES[output.format]:
        raise DdmError(
            f"{width}x{height} pixels are more than {output.format} holds"
            f" ({MAX_SIDES[output.format]} a side); take --format png"
        )
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)
    settings: dict[str, object] = {} if exif is None else {"exif": exif.tobytes()}
    if output.format == "png":
        settings["compress_type"] = zlib.Z_RLE  # an encrypted photo has no repeats to search for
    else:
        settings["quality"] = output.quality
    buffer = io.BytesIO()
    image.save(buffer, output.format, **settings)
    return buffer.getvalue()


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    mode = image.mode if image.mode in ("RGB", "RGBA") else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a damaged profile, or one of another kind of picture: as most viewers show it
    return image if converted is None else converted
