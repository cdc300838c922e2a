"""Encoded pictures to tensors and back, one size and one number of channels, nothing resized in secret."""

from __future__ import annotations

import io

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ddm_core.errors import DdmError

_MODES = {1: "L", 3: "RGB"}


def decode_picture(content: object, channels: int, size: int, where: str) -> Tensor:
    """Return an encoded picture (PNG, JPEG, ...) as [channels, size, size] in [0, 1].

    Grey becomes RGB and the reverse; transparency is dropped; the EXIF orientation is applied. The size is
    looked at before any pixel is decoded, so that a huge picture costs nothing.

    Raises:
        DdmError: not bytes, not a readable picture, 16 bits a pixel, or of another size.
    """
    if not isinstance(content, bytes | bytearray):
        raise DdmError(f"{where}: expected the bytes of an encoded picture, got {type(content).__name__}")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.size != (size, size):
                raise DdmError(
                    f"{where}: the picture is {picture.width}x{picture.height}, the model takes {size}x{size}"
                    "; resize it first"
                )
            if picture.mode.startswith(("I", "F")):
                raise DdmError(f"{where}: more than 8 bits a pixel; save it with 8 bits first")
            pixels = numpy.asarray(ImageOps.exif_transpose(picture).convert(_MODES[channels]))
    except DdmError:
        raise
    except Exception as error:  # Pillow raises whatever its many decoders raise
        raise DdmError(f"{where}: not a readable picture ({error}); send PNG or JPEG") from None
    return torch.from_numpy(pixels.reshape(size, size, channels).copy()).permute(2, 0, 1).float() / 255


def encode_picture(image: Tensor, image_format: str = "png", quality: int = 95) -> bytes:
    """Return [channels, height, width] in [0, 1] as the bytes of an 8-bit picture.

    `image_format` is one that Pillow writes (png, jpeg, webp); `quality` 1..100 is for the lossy ones.
    """
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    picture.save(buffer, image_format.upper(), **({} if image_format == "png" else {"quality": quality}))
    return buffer.getvalue()
