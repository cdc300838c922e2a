"""Master keys, nonces, and the keystream of Haar-uniform unit quaternions.

master key (32 bytes) --HKDF-SHA256, salted by the nonce--> subkey of one photo
subkey --ChaCha20--> uniform words --Box-Muller--> four Gaussians --normalised--> one unit quaternion

Four independent Gaussians, normalised, are uniform on the sphere S3, which is SU(2) with its Haar measure.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.seeding import derive_bytes

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 8
_KEYSTREAM_INFO = b"ddm-pipeline keystream v1"
_TAG_INFO = b"ddm-pipeline nonce tag v1"


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


def write_key_file(path: Path, key: bytes) -> None:
    """Write a master key that only its owner can read (mode 0600).

    Raises:
        DdmError: the file exists (a lost key loses every photo under it), or `key` is not 32 bytes.
    """
    _check_key(key, "the new key")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise DdmError(f"{path}: exists and is never overwritten; choose another name") from None
    with os.fdopen(handle, "wb") as file:
        file.write(key)


def read_key_file(path: Path) -> bytes:
    """Read a master key.

    Raises:
        DdmError: missing, readable by others than its owner, or not 32 bytes long.
    """
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise DdmError(
            f"{path}: cannot read the key ({error.strerror}); make one: ddm key new FILE"
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise DdmError(f"{path}: readable by others than its owner; run chmod 600 on it")
    _check_key(key, str(path))
    return key


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

    _check_key(key, "the master key")
    info = _KEYSTREAM_INFO + b"/" + purpose.encode()
    stream = bytearray(b"".join(_keystream(key, nonce, length, info) for nonce in nonces))
    return numpy.frombuffer(stream, dtype=numpy.uint8).reshape(len(nonces), length)


def haar_quaternions(
    key: bytes, nonces: Sequence[bytes], quaternions: int, height: int, width: int
) -> Tensor:
    """Return one keystream a nonce: float32 unit quaternions [len(nonces), quaternions, 4, height, width].

    Raises:
        DdmError: a key or nonce of the wrong length.
    """
    import numpy
    import torch

    _check_key(key, "the master key")
    words = 4 * quaternions * height * width
    stream = numpy.empty((len(nonces), words), dtype="<u4")
    for row, nonce in zip(stream, nonces, strict=True):
        row[:] = numpy.frombuffer(_keystream(key, nonce, 4 * words), dtype="<u4")
    gaussians = _box_muller(stream).reshape(len(nonces), quaternions, 4, height, width)
    return torch.from_numpy(gaussians / numpy.linalg.norm(gaussians, axis=2, keepdims=True)).float()


def _keystream(key: bytes, nonce: bytes, length: int, info: bytes = _KEYSTREAM_INFO) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if len(nonce) != NONCE_BYTES:
        raise DdmError(f"a nonce has {len(nonce)} bytes; it must have {NONCE_BYTES}")
    subkey = HKDF(SHA256(), KEY_BYTES, salt=nonce, info=info).derive(key)
    # The subkey is used for this one photo, so ChaCha20's own counter and nonce may start at zero.
    return Cipher(ChaCha20(subkey, bytes(16)), mode=None).encryptor().update(bytes(length))


def _box_muller(words: numpy.ndarray) -> numpy.ndarray:
    import numpy

    uniform = (words.astype(numpy.float64) + 0.5) / 2.0**32  # strictly inside (0, 1): the logarithm is finite
    radius = numpy.sqrt(-2.0 * numpy.log(uniform[:, 0::2]))
    angle = 2.0 * numpy.pi * uniform[:, 1::2]
    pairs = numpy.stack([radius * numpy.cos(angle), radius * numpy.sin(angle)], axis=-1)
    return pairs.reshape(words.shape)


def _check_key(key: bytes, where: str) -> None:
    if len(key) != KEY_BYTES:
        raise DdmError(
            f"{where} has {len(key)} bytes; a master key has {KEY_BYTES}; make one: ddm key new FILE"
        )
