"""Requests to a model for photos of any size: what decrypting needs travels in the pixels."""

from __future__ import annotations

from pandas import DataFrame

from ddm_core.errors import DdmError
from ddm_core.key_ring import KeyRing
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo
from ddm_core.photos.model import PhotoModel
from ddm_core.photos.picture import Output
from ddm_core.serving.parameters import Settings


def answer(
    model: PhotoModel, ring: KeyRing, table: DataFrame, settings: Settings
) -> tuple[list[bytes], list[bytes]]:
    """Return the pictures of a request, as `ddm encrypt` and `ddm decrypt` make them, and empty nonces.

    Raises:
        DdmError: an unreadable picture, or one that cannot be decrypted; the message names its row.
    """
    output = Output(settings.image_format, settings.quality)
    convert = encrypt_photo if settings.operation == "encrypt" else decrypt_photo
    pictures = []
    for row, content in enumerate(table["image"]):
        if not isinstance(content, bytes | bytearray):
            kind = type(content).__name__
            raise DdmError(f"row {row}: expected the bytes of an encoded picture, got {kind}")
        try:
            pictures.append(convert(bytes(content), model, ring, output))
        except DdmError as error:
            raise DdmError(f"row {row}: {error}") from None
    return pictures, [b""] * len(pictures)
