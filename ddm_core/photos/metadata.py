"""A photo's metadata, sealed into the encrypted photo's own: photo sites may strip it, and then it is lost.

EXIF is compressed, sealed with ChaCha20-Poly1305 under a subkey of the photo's own, bound to the photo's
header, and put into a new EXIF's MakerNote, which PNG, JPEG and WebP all carry.
"""

from __future__ import annotations

import io
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from ddm_core.errors import DdmError
from ddm_core.photos.header import Header, pack_primary

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

MARK = b"ddm-sealed-metadata-1 "
MAX_BYTES = 60_000  # a JPEG segment ends at 65,533
_INFO = b"ddm-pipeline metadata v1"
_ONCE = bytes(12)  # the subkey belongs to one photo, so its nonce may be fixed


def read_metadata(content: bytes) -> bytes:
    """Return a photo's EXIF without the orientation, which its pixels have applied; empty for none."""
    with Image.open(io.BytesIO(content)) as image:
        exif = image.getexif()
        exif.pop(ExifTags.Base.Orientation, None)
        return exif.tobytes() if len(exif) else b""


def seal(metadata: bytes, key: bytes, header: Header) -> Image.Exif:
    """Return EXIF that holds nothing but the sealed metadata.

    Raises:
        DdmError: more than fits.
    """
    sealed = MARK + _cipher(key, header).encrypt(_ONCE, zlib.compress(metadata), pack_primary(header))
    if len(sealed) > MAX_BYTES:
        raise DdmError(
            f"its metadata takes {len(sealed)} bytes, at most {MAX_BYTES} can travel;"
            " go without --keep-metadata"
        )
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = sealed
    return exif


def unseal(content: bytes, key: bytes, header: Header) -> Image.Exif | None:
    """Return the photo's EXIF, or `None` where nothing was sealed, it was stripped, or it is damaged."""
    from cryptography.exceptions import InvalidTag

    with suppress(Exception), Image.open(io.BytesIO(content)) as image:  # a site may leave any debris
        note = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.MakerNote)
        if not isinstance(note, bytes) or not note.startswith(MARK):
            return None
        with suppress(InvalidTag):
            plain = _cipher(key, header).decrypt(_ONCE, note[len(MARK) :], pack_primary(header))
            exif = Image.Exif()
            exif.load(zlib.decompress(plain))
            return exif
    return None


def _cipher(key: bytes, header: Header) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return ChaCha20Poly1305(HKDF(SHA256(), 32, salt=header.nonce, info=_INFO).derive(key))
