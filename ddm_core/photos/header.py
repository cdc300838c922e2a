"""What travels in the pixels beside an encrypted photo, as bytes: public, error-corrected, authenticated.

primary block, 64 bytes: 44 of the header (the last four a CRC-32) and 20 of Reed-Solomon parity
extension, only where there are regions: their boxes and a CRC-32, in Reed-Solomon blocks of its own

The header holds no secret: format version, flags, nonce, id of the key, id of the model, sizes. Its tag is an
HMAC of all of it (the boxes too) under the master key: a wrong key, or a header that somebody changed on
purpose, is noticed before any picture is made.
"""

from __future__ import annotations

import hmac
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from ddm_core.errors import DdmError
from ddm_core.key_ring import KEY_ID_BYTES
from ddm_core.keys import NONCE_BYTES, TAG_BYTES

if TYPE_CHECKING:
    from reedsolo import RSCodec

VERSION = 1
MODEL_ID_BYTES = 4
MAX_SIDE = 30_000  # pixels, as for every photo that is read
MAX_REGIONS = 64
HEADER_BYTES = 44
PARITY_BYTES = 20  # up to 10 wrong bytes of a block are corrected
PRIMARY_BYTES = HEADER_BYTES + PARITY_BYTES
_BLOCK_DATA = 255 - PARITY_BYTES
_CRC_BYTES = 4
_FIELDS = struct.Struct(f">BB{NONCE_BYTES}s{KEY_ID_BYTES}s{MODEL_ID_BYTES}sHHBB{TAG_BYTES}s")
_BOX = struct.Struct(">HHHH")
_TAG_INFO = b"ddm-pipeline photo header v1"
_GREY, _REGIONS = 1, 2
_CELL = 16  # patch and carrier share a byte
assert _FIELDS.size + _CRC_BYTES == HEADER_BYTES


class Box(NamedTuple):
    """A rectangle in pixels of the upright photo, from its left upper corner."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Header:
    """One encrypted photo's public facts.

    `width` and `height` are the photo's, in pixels, upright; cells of `patch` pixels a side became cells of
    `carrier` pixels; `grey` photos come back grey; `regions` empty means that all is encrypted.
    """

    nonce: bytes
    key_id: bytes
    model_id: bytes
    width: int
    height: int
    patch: int
    carrier: int
    grey: bool
    regions: tuple[Box, ...] = ()
    tag: bytes = bytes(TAG_BYTES)

    def signed(self, key: bytes) -> Header:
        """Return the header with its tag under this master key."""
        return replace(self, tag=self._tag(key))

    def check(self, key: bytes) -> None:
        """Compare the tag in constant time.

        Raises:
            DdmError: another key made it, or the header was changed.
        """
        if not hmac.compare_digest(self._tag(key), self.tag):
            raise DdmError(
                "wrong key, or a header that was changed: its tag does not match;"
                " use the key it was encrypted with"
            )

    def _tag(self, key: bytes) -> bytes:
        content = _fields(replace(self, tag=bytes(TAG_BYTES))) + _boxes(self.regions)
        return hmac.digest(hmac.digest(key, _TAG_INFO, sha256), content, sha256)[:TAG_BYTES]


def pack_primary(header: Header) -> bytes:
    """Return the 64 bytes of the primary block, parity included."""
    return _encode(_with_crc(_fields(header)))


def pack_extension(header: Header) -> bytes:
    """Return the extension with its parity; nothing for a header without regions."""
    if not header.regions:
        return b""
    content = _with_crc(_boxes(header.regions))
    return b"".join(_encode(content[at : at + _BLOCK_DATA]) for at in range(0, len(content), _BLOCK_DATA))


def extension_bytes(regions: int) -> int:
    """Return the length of the extension that so many regions take, in bytes."""
    if not regions:
        return 0
    content = regions * _BOX.size + _CRC_BYTES
    return content + PARITY_BYTES * -(-content // _BLOCK_DATA)


def unpack_primary(block: bytes) -> tuple[Header, int]:
    """Return the header, still without its regions, and how many of them the extension holds.

    Raises:
        DamagedError: too many errors to correct.
        DdmError: a header of a later format version, or with values that no photo has.
    """
    content = _without_crc(_decode(block))
    version, flags, nonce, key_id, model_id, width, height, cell, regions, tag = _FIELDS.unpack(content)
    patch, carrier = divmod(cell, _CELL)
    if version != VERSION:
        raise DdmError(
            f"unsupported format version {version}, this code reads {VERSION}; use the code that encrypted it"
        )
    possible = (
        0 < width <= MAX_SIDE
        and 0 < height <= MAX_SIDE
        and patch > 0
        and carrier > 0
        and flags <= _GREY + _REGIONS
        and regions <= MAX_REGIONS
        and bool(flags & _REGIONS) == bool(regions)
    )
    if not possible:
        raise DdmError("its header says what no photo has; it was not made by this project")
    grey = bool(flags & _GREY)
    return Header(nonce, key_id, model_id, width, height, patch, carrier, grey, tag=tag), regions


def unpack_extension(header: Header, blocks: bytes) -> Header:
    """Return the header with its regions.

    Raises:
        DamagedError: too many errors to correct, or boxes outside of the photo.
    """
    step = _BLOCK_DATA + PARITY_BYTES
    content = _without_crc(b"".join(_decode(blocks[at : at + step]) for at in range(0, len(blocks), step)))
    boxes = tuple(Box(*fields) for fields in _BOX.iter_unpack(content))
    if not all(_inside(box, header) for box in boxes):
        raise DamagedError
    return replace(header, regions=boxes)


class DamagedError(DdmError):
    """More errors in the code band than its Reed-Solomon code corrects."""

    def __init__(self) -> None:
        super().__init__(
            "damaged header: its code band cannot be read; get a copy that was recompressed or scaled less"
        )


def _inside(box: Box, header: Header) -> bool:
    right, bottom = box.left + box.width, box.top + box.height
    return box.width > 0 and box.height > 0 and right <= header.width and bottom <= header.height


def _fields(header: Header) -> bytes:
    flags = _GREY * header.grey + _REGIONS * bool(header.regions)
    return _FIELDS.pack(
        VERSION, flags, header.nonce, header.key_id, header.model_id, header.width, header.height,
        header.patch * _CELL + header.carrier, len(header.regions), header.tag,
    )  # fmt: skip


def _boxes(regions: Iterable[Box]) -> bytes:
    return b"".join(_BOX.pack(*box) for box in regions)


def _with_crc(content: bytes) -> bytes:
    return content + zlib.crc32(content).to_bytes(_CRC_BYTES, "big")


def _without_crc(content: bytes) -> bytes:
    body, crc = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
    if zlib.crc32(body).to_bytes(_CRC_BYTES, "big") != crc:
        raise DamagedError
    return body


def _encode(content: bytes) -> bytes:
    return bytes(_codec().encode(content))


def _decode(block: bytes) -> bytes:
    from reedsolo import ReedSolomonError

    try:
        return bytes(_codec().decode(block)[0])
    except (ReedSolomonError, ZeroDivisionError, IndexError):
        raise DamagedError from None


@cache
def _codec() -> RSCodec:
    from reedsolo import RSCodec

    return RSCodec(PARITY_BYTES)
