"""Atomic writes and content digests: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.places import require_local

OUTPUT_MARK = ".ddm-output"


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` to `path` through a temporary file beside it and a rename.

    What a killed process left behind beside `path` is removed first.

    Raises:
        DdmError: `path` is an address.
    """
    require_local(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held while we live: tells ours from a dead process's
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

    Only a folder that was written so before is ever replaced: it holds the file OUTPUT_MARK. What a killed
    process left behind beside `path` is removed first.

    Raises:
        DdmError: a file, or a folder of somebody else's, stands in the folder's place, or that is an address.
    """
    require_local(path)
    _refuse_foreign(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    lock = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held while we live: tells ours from a dead process's
        temporary.chmod(0o755)
        (temporary / OUTPUT_MARK).write_text("Written as a whole by ddm, and replaced at its next run.\n")
        yield temporary
        if path.exists():
            old = temporary.with_suffix(".old.tmp")
            path.replace(old)  # two renames, so that `path` is never half-deleted
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(lock)


@contextmanager
def alone(lock: Path, refusal: str) -> Iterator[None]:
    """Be the only process in the block that names this lock file; it stays, and its folder is made.

    Raises:
        DdmError: another process is; `refusal` is what it says.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DdmError(refusal) from None
        yield


@contextmanager
def joined(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield a temporary folder of ours with the content of all `folders`; it vanishes after the block.

    Raises:
        DdmError: two of them hold the same file.
    """
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary)
        (whole / OUTPUT_MARK).write_text("Several folders laid over each other for a while.\n")
        for folder in folders:
            _copy_into(folder, whole)
        yield whole


def join_folders(folders: Iterable[Path], whole: Path) -> None:
    """Write the content of all `folders` into the folder `whole`, at once.

    Raises:
        DdmError: two of them hold the same file, or `whole` is somebody else's.
    """
    with atomic_directory(whole) as temporary:
        for folder in folders:
            _copy_into(folder, temporary)


def _copy_into(folder: Path, whole: Path) -> None:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = file.relative_to(folder)
        if relative == Path(OUTPUT_MARK):  # speaks of the folder itself
            continue
        target = whole / relative
        if target.exists():
            raise DdmError(f"{file}: another folder holds {relative} too; results must not share a name")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _refuse_foreign(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise DdmError(f"{path}: is a file where a folder is to be written; move it away")
    if path.is_dir() and not (path / OUTPUT_MARK).exists() and any(path.iterdir()):
        raise DdmError(f"{path}: holds files that ddm did not write; move them away or name another folder")


def remove_leftovers_below(folder: Path) -> None:
    """Remove what killed processes left half-written anywhere below `folder`."""
    _remove_unlocked(folder.rglob(".*.tmp"))


def _remove_leftovers(path: Path) -> None:
    _remove_unlocked(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))


def _remove_unlocked(entries: Iterable[Path]) -> None:
    for entry in list(entries):
        with suppress(OSError):  # gone meanwhile, or locked by a living process
            handle = os.open(entry, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            finally:
                os.close(handle)


def sha256_bytes(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
