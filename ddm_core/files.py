"""Atomic writes and content digests: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` to `path` through a temporary file beside it and a rename.

    What a killed process left behind beside `path` is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    prefix = f".{path.name}.{os.getpid()}."
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write indented JSON atomically, keys in the order given, NaN refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file.

    Raises:
        DdmError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DdmError(f"{path}: not found; run the stage that writes it (dvc repro)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DdmError(f"{path}: not valid JSON ({error}); delete it and run the stage again") from None


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes `path`'s place when the block ends well, and vanishes otherwise.

    What a killed process left behind beside `path` is removed first.

    Raises:
        DdmError: a file stands in the folder's place.
    """
    if path.is_file():
        raise DdmError(f"{path}: is a file where a folder is to be written; move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            old = path.parent / f".{path.name}.{os.getpid()}.old.tmp"
            path.replace(old)  # two renames, so that `path` is never half-deleted
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _remove_leftovers(path: Path) -> None:
    for entry in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        owner = entry.name.removeprefix(f".{path.name}.").split(".")[0]
        if not owner.isdigit():
            continue
        ours = int(owner) == os.getpid()
        if entry.is_dir():
            if ours or not _alive(int(owner)):  # ours: from a process that had our number before
                shutil.rmtree(entry, ignore_errors=True)
        elif not ours and not _alive(int(owner)):  # ours: another thread may be writing it
            entry.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256_bytes(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
