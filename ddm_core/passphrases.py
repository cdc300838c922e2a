"""Where a passphrase comes from: a prompt, a file, or an environment variable; never the command line."""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path

from ddm_core.errors import DdmError

MIN_BYTES = 8


def prompted(path: Path, *, twice: bool = False) -> bytes:
    """Ask at the terminal for the passphrase of a key file, `twice` for a new one.

    Raises:
        DdmError: no terminal, an empty passphrase, or two that differ.
    """
    if not sys.stdin.isatty():
        raise DdmError(
            f"{path}: needs a passphrase and there is no terminal to ask at;"
            " give --passphrase-file FILE or --passphrase-env NAME"
        )
    words = getpass.getpass(f"Passphrase of {path}: ")
    if twice and getpass.getpass("Again: ") != words:
        raise DdmError("the two passphrases differ; nothing was written, try again")
    return words.encode()


def from_file(path: Path) -> bytes:
    """Return the first line of a file that only its owner can read.

    Raises:
        DdmError: missing, or open to others.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise DdmError(f"{path}: readable by others than its owner; run chmod 600 on it")
            return file.readline().rstrip(b"\r\n")
    except OSError as error:
        raise DdmError(f"{path}: cannot read the passphrase ({error.strerror})") from None


def from_environment(name: str) -> bytes:
    """Return the value of an environment variable.

    Raises:
        DdmError: it is not set.
    """
    try:
        return os.environb[name.encode()]
    except KeyError:
        raise DdmError(f"the environment has no variable {name}; set it to the passphrase") from None


def check_strength(words: bytes) -> bytes:
    """Return a new passphrase if it is not too short to be one.

    Raises:
        DdmError: fewer than 8 bytes.
    """
    if len(words) < MIN_BYTES:
        raise DdmError(
            f"a passphrase of {len(words)} characters is guessed at once; take {MIN_BYTES} or more"
        )
    return words
