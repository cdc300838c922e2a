"""Master keys, nonces, and the keystream of Haar-uniform unit quaternions and octonions.

master key (32 bytes) --HKDF-SHA256, salted by the nonce--> subkey of one photo
subkey --ChaCha20--> uniform words --Box-Muller--> four Gaussians --normalised--> one unit quaternion

Four independent Gaussians, normalised, are uniform on the sphere S3, which is SU(2) with its Haar measure;
eight, an octonion, on S7.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from ddm_core.errors import DdmError
from ddm_core.seeding import derive_bytes

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 8
_KEYSTREAM_INFO = b"ddm-pipeline keystream v1"
_BLOCK_BYTES = 64  # of ChaCha20
_TAG_INFO = b"ddm-pipeline nonce tag v1"


class Grid(NamedTuple):
    """The rotations of one photo: so many quaternions a cell, the first joined in pairs to octonions."""

    octonions: int
    quaternions: int
    rows: int
    columns: int


def generate_key() -> bytes:
    """Return a new master key: 32 bytes of the operating system's randomness."""
    return os.urandom(KEY_BYTES)


def fresh_nonces(count: int) -> list[bytes]:
    """Return `count` new random 96-bit nonces, one a photo."""
    return [os.urandom(NONCE_BYTES) for _ in range(count)]


def nonce_stream(seed: int, name: str, count: int) -> Iterator[bytes]:
    """Yield `count` reproducible nonces for measurements, no two alike: a named prefix and a counter."""
    prefix = derive_bytes(seed, f"nonces/{name}", NONCE_BYTES - 4)
    for counter in range(count):
        yield prefix + counter.to_bytes(4, "big")


def nonce_tag(key: bytes, nonce: bytes) -> bytes:
    """Return the 8-byte HMAC-SHA256 tag that tells the right key from a wrong one without a picture."""
    tag_key = hmac.digest(key, _TAG_INFO, sha256)
    return hmac.digest(tag_key, nonce, sha256)[:TAG_BYTES]


def check_nonce_tag(key: bytes, nonce: bytes, tag: bytes) -> None:
    """Compare in constant time.

    Raises:
        DdmError: `tag` was not made with `key` for `nonce`.
    """
    if not hmac.compare_digest(nonce_tag(key, nonce), tag):
        raise DdmError(
            "wrong key, or a damaged nonce: the tag does not match; use the key it was encrypted with"
        )


def keystream(key: bytes, nonces: Sequence[bytes], length: int, purpose: str) -> numpy.ndarray:
    """Return `length` pseudo-random bytes a nonce: uint8 [len(nonces), length].

    `purpose` names the method that asks: under one key and nonce each method has a stream of its own.

    Raises:
        DdmError: a key or nonce of the wrong length.
    """
    import numpy

    check_key(key, "the master key")
    info = _KEYSTREAM_INFO + b"/" + purpose.encode()
    stream = bytearray(b"".join(_keystream(key, nonce, length, info) for nonce in nonces))
    return numpy.frombuffer(stream, dtype=numpy.uint8).reshape(len(nonces), length)


def haar_rotations(key: bytes, nonces: Sequence[bytes], grid: Grid) -> Tensor:
    """Return one keystream a nonce: float32 [len(nonces), quaternions, 4, rows, columns] of unit norm.

    Raises:
        DdmError: a key or nonce of the wrong length.
    """
    import torch

    check_key(key, "the master key")
    return torch.stack([haar_rows(key, nonce, grid, range(grid.rows)) for nonce in nonces])


def haar_rows(key: bytes, nonce: bytes, grid: Grid, rows: range) -> Tensor:
    """Return consecutive rows of one photo's keystream: float32 [quaternions, 4, len(rows), columns].

    They are those of `haar_rotations` for the whole `grid`; the cost is that of the rows alone, because
    ChaCha20 can start anywhere.

    Raises:
        DdmError: a key or nonce of the wrong length.
    """
    import numpy
    import torch

    check_key(key, "the master key")
    octonions, quaternions, height, width = grid
    subkey = _subkey(key, nonce)
    if len(rows) == height:
        gaussians = _gaussians(subkey, 0, 4 * quaternions * height * width)
    else:  # the stream runs plane by plane: the rows of one plane are neighbours in it
        starts = [(plane * height + rows.start) * width for plane in range(4 * quaternions)]
        gaussians = numpy.concatenate([_gaussians(subkey, start, len(rows) * width) for start in starts])
    gaussians = gaussians.reshape(quaternions, 4, len(rows), width)
    power = numpy.square(gaussians).sum(axis=1, keepdims=True)
    pairs = power[: 2 * octonions].reshape(octonions, 2, 1, len(rows), width)
    power[: 2 * octonions] = pairs.sum(axis=1).repeat(2, axis=0)
    return torch.from_numpy(gaussians / numpy.sqrt(power)).float()


def _gaussians(subkey: bytes, start: int, count: int) -> numpy.ndarray:
    import numpy

    first, last = start - start % 2, start + count + (start + count) % 2  # Box-Muller takes words in pairs
    stream = _chacha20(subkey, 4 * (last - first), skip=4 * first)
    words = numpy.frombuffer(stream, dtype="<u4").reshape(1, -1)
    return _box_muller(words)[0, start - first : start - first + count]


def _keystream(key: bytes, nonce: bytes, length: int, info: bytes = _KEYSTREAM_INFO) -> bytes:
    return _chacha20(_subkey(key, nonce, info), length)


def _subkey(key: bytes, nonce: bytes, info: bytes = _KEYSTREAM_INFO) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if len(nonce) != NONCE_BYTES:
        raise DdmError(f"a nonce has {len(nonce)} bytes; it must have {NONCE_BYTES}")
    return HKDF(SHA256(), KEY_BYTES, salt=nonce, info=info).derive(key)


def _chacha20(subkey: bytes, length: int, skip: int = 0) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    # The subkey is used for this one photo, so ChaCha20's own nonce may be zero. Before it stands the counter
    # of blocks, by which the stream can start anywhere.
    block, rest = divmod(skip, _BLOCK_BYTES)
    start = block.to_bytes(8, "little") + bytes(8)
    return Cipher(ChaCha20(subkey, start), mode=None).encryptor().update(bytes(rest + length))[rest:]


def _box_muller(words: numpy.ndarray) -> numpy.ndarray:
    import numpy

    uniform = (words.astype(numpy.float64) + 0.5) / 2.0**32  # strictly inside (0, 1): the logarithm is finite
    radius = numpy.sqrt(-2.0 * numpy.log(uniform[:, 0::2]))
    angle = 2.0 * numpy.pi * uniform[:, 1::2]
    pairs = numpy.stack([radius * numpy.cos(angle), radius * numpy.sin(angle)], axis=-1)
    return pairs.reshape(words.shape)


def check_key(key: bytes, where: str) -> None:
    """Raise a DdmError, with `where` the key is from, unless it has 32 bytes."""
    if len(key) != KEY_BYTES:
        raise DdmError(
            f"{where} has {len(key)} bytes; a master key has {KEY_BYTES}; make one: ddm key new FILE"
        )
