"""Key files on disk: read, made, and rotated; open to their owner alone, never overwritten."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ddm_core.errors import DdmError
from ddm_core.files import write_bytes
from ddm_core.key_ring import (
    MAX_FILE_BYTES,
    KeyFile,
    KeyRing,
    MasterKey,
    close_ring,
    format_key_file,
    new_key,
    open_ring,
    parse_key_file,
)
from ddm_core.keys import check_key

PRIVATE = 0o600
Passphrase = Callable[[], bytes]
"""Asked only when a key file needs it."""


def new_key_file(path: Path, passphrase: Passphrase | None = None) -> MasterKey:
    """Write a new key file with one fresh key, under a passphrase if one is given; return the key.

    Raises:
        DdmError: the file exists: a lost key loses every photo under it.
    """
    if path.exists():
        raise _existing(path)
    key = new_key(datetime.now(UTC))
    _create(path, format_key_file(close_ring(KeyRing((key,)), passphrase() if passphrase else None)))
    return key


def write_key_file(path: Path, key: bytes) -> None:
    """Write a master key that only its owner can read (mode 0600).

    Raises:
        DdmError: the file exists, or `key` is not 32 bytes.
    """
    check_key(key, "the new key")
    _create(path, format_key_file(close_ring(KeyRing((MasterKey(key),)))))


def read_key_file(path: Path) -> bytes:
    """Return the current master key of a key file without a passphrase.

    Raises:
        DdmError: as `read_key_ring`.
    """
    return read_key_ring(path).current.secret


def read_key_ring(path: Path, passphrase: Passphrase | None = None) -> KeyRing:
    """Return all keys of a key file.

    Raises:
        DdmError: missing, open to others than its owner, damaged, or the passphrase is missing or wrong.
    """
    file = describe_key_file(path)
    return open_ring(file, passphrase() if file.wrapped and passphrase else None, str(path))


def describe_key_file(path: Path) -> KeyFile:
    """Return what a key file says without its passphrase.

    Raises:
        DdmError: missing, open to others than its owner, or damaged.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DdmError(
            f"{path}: cannot read the key ({error.strerror}); make one: ddm key new FILE"
        ) from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)  # of what was opened, not of what may lie there by now
        if not stat.S_ISREG(status.st_mode):
            raise DdmError(f"{path}: is no regular file; make one: ddm key new FILE")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise DdmError(f"{path}: readable by others than its owner; run chmod 600 on it")
        content = file.read(MAX_FILE_BYTES)
    return parse_key_file(content, str(path))


def rotate_key_file(path: Path, passphrase: Passphrase | None = None) -> KeyRing:
    """Add a fresh key, which becomes the current one; the older ones stay and still decrypt.

    A file under a passphrase stays under it; a bare key of 32 bytes becomes a key file. Two rotations at once
    both count.

    Raises:
        DdmError: as `read_key_ring`.
    """
    with _lock(path):
        file = describe_key_file(path)
        words = passphrase() if file.wrapped and passphrase else None
        ring = open_ring(file, words, str(path))
        rotated = KeyRing((*ring.keys, new_key(datetime.now(UTC))))
        write_bytes(path, format_key_file(close_ring(rotated, words)), mode=PRIVATE)
    return rotated


def _create(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    except FileExistsError:
        raise _existing(path) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _existing(path: Path) -> DdmError:
    return DdmError(f"{path}: exists and is never overwritten; choose another name")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the folder's lock: the file itself is replaced by a rename."""
    try:
        handle = os.open(path.absolute().parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DdmError(f"{path}: cannot read the key ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
