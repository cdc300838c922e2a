"""Where checkpoints lie: a folder here or a prefix on S3. A checkpoint is there as a whole or not at all.

A checkpoint is a folder `step-000000100` with the files STATE and RECORD. NOTE lies beside the checkpoints.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, remove_leftovers_below, write_text

STATE = "state.safetensors"
RECORD = "checkpoint.json"
NOTE = "note.txt"


class DamagedCheckpointError(Exception):
    """A checkpoint that cannot be used; the message says why in a few words."""


class UnreachablePlaceError(DdmError):
    """A place that refuses or is silent now, and may serve later."""


class Place(Protocol):
    """The checkpoints of one training."""

    @property
    def address(self) -> str:
        """Return the folder's path or s3://bucket/prefix."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Keep other processes on this machine away, and check that the place can be used."""
        ...

    def names(self) -> list[str]:
        """Return the names of the checkpoints, the newest first."""
        ...

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Let `fill` write a checkpoint's files into a folder, and add them at once.

        Raises:
            UnreachablePlaceError: they are not there, for now; writing and removing may be tried again.
        """
        ...

    def opened(self, name: str, *files: str) -> AbstractContextManager[Path]:
        """Yield a folder with these files of a checkpoint; DamagedCheckpointError if that cannot be."""
        ...

    def remove(self, name: str) -> None:
        """Remove a checkpoint."""
        ...

    def clear(self) -> None:
        """Remove everything."""
        ...

    def note(self) -> str | None:
        """Return the text that lies beside the checkpoints, if any."""
        ...

    def write_note(self, text: str) -> None:
        """Write the text that lies beside the checkpoints."""
        ...


def place_at(address: str, key: str) -> Place:
    """Return the place of the training `key` in a folder or below s3://bucket/prefix.

    Raises:
        DdmError: an address of another service.
    """
    from ddm_core.storage import is_remote, split_uri

    if not is_remote(address):
        return LocalPlace(Path(address) / key)
    bucket, prefix = split_uri(address)
    return RemotePlace(f"s3://{bucket}/{prefix}{key}")


@dataclass(frozen=True)
class LocalPlace:
    """A folder."""

    folder: Path

    @property
    def address(self) -> str:
        """Return the folder's path."""
        return str(self.folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder's lock, which dies with the process; clear up what killed processes left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DdmError(
                    f"{self.folder}: the same training is running already; wait for it, or end it"
                ) from None
            remove_leftovers_below(self.folder)
            yield
        finally:
            os.close(handle)

    def names(self) -> list[str]:
        """Return the names of the checkpoints, the newest first."""
        return sorted((path.name for path in self.folder.glob("step-*")), reverse=True)

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Add a checkpoint by a rename."""
        with atomic_directory(self.folder / name) as new:
            fill(new)

    @contextmanager
    def opened(self, name: str, *files: str) -> Iterator[Path]:
        """Yield the checkpoint's own folder."""
        for file in files:
            if not (self.folder / name / file).is_file():
                raise DamagedCheckpointError(f"{file} is missing")
        yield self.folder / name

    def remove(self, name: str) -> None:
        """Remove a checkpoint; killed meanwhile it is gone too."""
        doomed = self.folder / f".{name}.removed.tmp"
        (self.folder / name).replace(doomed)
        shutil.rmtree(doomed)

    def clear(self) -> None:
        """Remove what is in the folder, and the folder."""
        for name in self.names():
            self.remove(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def note(self) -> str | None:
        """Return the text of the file NOTE."""
        path = self.folder / NOTE
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write_note(self, text: str) -> None:
        """Write the file NOTE."""
        write_text(self.folder / NOTE, text)


@dataclass(frozen=True)
class RemotePlace:
    """A prefix on S3, without a slash at its end. A checkpoint is there when its RECORD is."""

    address: str

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ask S3 once, so that a wrong address or missing credentials show before the training."""
        self.names()
        yield

    def names(self) -> list[str]:
        """Return the names of the checkpoints, the newest first."""
        from ddm_core.storage import list_objects

        ends = [name.partition("/") for name, _ in list_objects(f"{self.address}/")]
        return sorted((name for name, _, file in ends if file == RECORD), reverse=True)

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Upload a checkpoint, its RECORD last."""
        from ddm_core.storage import delete, upload

        with tempfile.TemporaryDirectory() as temporary:
            fill(Path(temporary))
            with _may_serve_later():
                # An older RECORD of this step must not speak for the new STATE.
                delete(f"{self.address}/{name}/{RECORD}")
                for file in (STATE, RECORD):
                    upload(Path(temporary) / file, f"{self.address}/{name}/{file}")

    @contextmanager
    def opened(self, name: str, *files: str) -> Iterator[Path]:
        """Yield a temporary folder with these files, downloaded."""
        with tempfile.TemporaryDirectory() as temporary:
            for file in files:
                _download(f"{self.address}/{name}/{file}", Path(temporary) / file)
            yield Path(temporary)

    def remove(self, name: str) -> None:
        """Remove a checkpoint, its RECORD first."""
        from ddm_core.storage import delete

        with _may_serve_later():
            for file in (RECORD, STATE):
                delete(f"{self.address}/{name}/{file}")

    def clear(self) -> None:
        """Remove every object below the prefix."""
        from ddm_core.storage import delete, list_objects

        for name in self.names():
            self.remove(name)
        for rest, _ in list(list_objects(f"{self.address}/")):
            delete(f"{self.address}/{rest}")

    def note(self) -> str | None:
        """Return the text of the object NOTE."""
        from ddm_core.storage import exists, open_stream

        uri = f"{self.address}/{NOTE}"
        if not exists(uri):
            return None
        with open_stream(uri) as stream:
            return stream.read().decode()

    def write_note(self, text: str) -> None:
        """Write the object NOTE."""
        from ddm_core.storage import upload

        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / NOTE
            path.write_text(text, encoding="utf-8")
            upload(path, f"{self.address}/{NOTE}")


@contextmanager
def _may_serve_later() -> Iterator[None]:
    try:
        yield
    except DdmError as error:
        raise UnreachablePlaceError(str(error)) from None


def _download(uri: str, path: Path) -> None:
    from ddm_core.storage import download, exists

    try:
        download(uri, path)
    except DdmError as error:
        # Damage and silence both end the download; S3 that is silent now must not cost what it holds.
        reason = str(error).removeprefix(f"{uri}: ") if exists(uri) else f"{path.name} is missing"
        raise DamagedCheckpointError(reason) from None
