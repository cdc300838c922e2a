"""Whole prefixes brought down from S3, in as many attempts as it takes.

A mirror is a folder here that holds what lies below an address. Beside its content it keeps `objects.jsonl`,
one line an object that has arrived whole and was checked, and `parts/`, the begun ones. Whoever is killed in
the middle leaves both; the next attempt asks for what is missing, of a begun object for its rest.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ddm_core.data.sources import has_photo_suffix, image_suffixes
from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes, write_text
from ddm_core.storage.addresses import split_uri
from ddm_core.storage.client import PATIENT, Transfer
from ddm_core.storage.objects import Listed, find, list_tagged
from ddm_core.storage.parallel import in_parallel
from ddm_core.storage.reading import go_on

JOURNAL = "objects.jsonl"
PARTS = "parts"
LONGEST_NAME = 255  # bytes, of a file or folder
PAUSE = 0.2  # seconds between two looks at what other processes do


@dataclass(frozen=True)
class Selection:
    """Which objects below a prefix come down, and which there must be at least one of.

    `takes` and `needs` judge names relative to the prefix, hidden ones excepted, which never come; `missing`
    says what is wrong where nothing is that `needs` wants.
    """

    takes: Callable[[str], bool] = bool
    needs: Callable[[str], bool] = bool
    missing: str = "nothing below it; check the address and AWS_ENDPOINT_URL"


EVERYTHING = Selection()
RAW = Selection(
    needs=has_photo_suffix,
    missing=f"no photo below it; expected identity/image objects ({image_suffixes()})",
)
"""A folder of photos. All that lies there comes, so that what is no photo is accounted for as it is here."""


def published(manifest: str) -> Selection:
    """Return the selection of a set that was published with `manifest` last."""
    missing = (
        f"no {manifest} below it, so nothing is published there, or not yet the whole; check the address"
    )
    return Selection(needs=lambda name: name == manifest, missing=missing)


@contextmanager
def mirrored(
    uri: str, place: Path, *, selection: Selection = EVERYTHING, transfer: Transfer = PATIENT
) -> Iterator[Path]:
    """Yield what lies at the S3 address `uri`, brought up to date below the folder `place`.

    That is a folder, or where there is nothing below the address an object's file, with the name that the
    address ends in; files in a folder have their names relative to the prefix. All names are checked before
    the first download, and each file must be the object that was listed. What is there already is not asked
    for again, and all stays afterwards. Other processes may use the same place: whoever has to change it
    waits for them.

    Raises:
        DdmError: malformed address, no credentials, no access, no such bucket, nothing at the address that is
            needed, an unsafe object name, an endpoint that does not answer, an object that changed or came
            down damaged.
    """
    bucket, prefix = split_uri(uri)
    name = PurePosixPath(prefix).name or bucket
    below = _visible(uri, transfer)
    single = None if below or not prefix or uri.endswith("/") else find(uri, transfer=transfer)
    if single:
        mirror = _Mirror(uri.removesuffix(name), place / "object", place, transfer)
        objects = [Listed(name, single.bytes, single.tag)]
    else:
        mirror = _Mirror(f"s3://{bucket}/{prefix}", place / "folder" / name, place, transfer)
        objects = [item for item in below if selection.takes(item.name)]
        if not any(selection.needs(item.name) for item in objects):
            raise DdmError(f"{uri}: {selection.missing}")
    lock = _locked(place)
    try:
        while not mirror.holds(objects):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another reads here, or brings what we want too
                time.sleep(PAUSE)
                fcntl.flock(lock, fcntl.LOCK_SH)
                continue
            mirror.bring(objects)
            fcntl.flock(lock, fcntl.LOCK_SH)
            break
        yield mirror.folder / name if single else mirror.folder
    finally:
        os.close(lock)


def discard(staging: Path) -> None:
    """Remove the mirrors in the folder `staging`, but for those that another process is using."""
    for place in staging.glob("*"):
        lock = os.open(place, os.O_RDONLY)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place)
        finally:
            os.close(lock)
    with suppress(OSError):  # not there, or not empty
        staging.rmdir()


def _locked(place: Path) -> int:
    """Return an open handle of the folder `place`, made if need be, with a lock that is shared."""
    while True:
        place.mkdir(parents=True, exist_ok=True)
        lock = os.open(place, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):  # removed by whoever held it before
            if os.path.samestat(os.fstat(lock), place.stat()):
                return lock
        os.close(lock)


def _visible(uri: str, transfer: Transfer) -> list[Listed]:
    """Return the objects that can be files here, hidden ones and marks of folders left out."""
    listed = list(list_tagged(uri, transfer=transfer))
    folders = {str(folder) for item in listed for folder in PurePosixPath(item.name).parents}
    found = []
    for item in listed:
        parts = item.name.split("/")
        if any(part.startswith(".") for part in parts) or (item.name in folders and not item.bytes):
            continue
        if item.name in folders:
            raise DdmError(f"{uri}: the object {item.name!a} has the name of a folder; rename it")
        if not item.name.isprintable():
            raise DdmError(f"{uri}: the object {item.name!a} holds unprintable characters; rename it")
        if any(len(part.encode()) > LONGEST_NAME for part in parts):
            raise DdmError(f"{uri}: the object {item.name!a} has too long a name for a file; rename it")
        found.append(item)
    return found


@dataclass(frozen=True)
class _Mirror:
    """The objects below `root` as files in `folder`; `state` holds the journal and begun files."""

    root: str
    folder: Path
    state: Path
    transfer: Transfer

    def holds(self, objects: Sequence[Listed]) -> bool:
        """Tell whether every object is here, and nothing else."""
        return not self._missing(objects) and not self._strangers(objects)

    def bring(self, objects: Sequence[Listed]) -> None:
        """Remove what is no object's, and download what is missing."""
        for path in self._strangers(objects):
            path.unlink()
        missing = self._missing(objects)
        self._tidy()
        parts, write = self.state / PARTS, threading.Lock()
        # All folders first: a thread that outlives an interrupt must not make one anew after their removal.
        for folder in {self.folder, parts, *((self.folder / item.name).parent for item in missing)}:
            folder.mkdir(parents=True, exist_ok=True)

        def download(item: Listed) -> None:
            uri, path = self.root + item.name, self.folder / item.name
            part = parts / sha256_bytes(f"{uri} {item.tag} {item.bytes}".encode())
            if not item.tag:  # nothing tells what an earlier part was of
                part.unlink(missing_ok=True)
            go_on(uri, part, path, expected=item, transfer=self.transfer)
            with write:
                self._note(item, path)

        if missing:
            in_parallel(download, missing, "download")
        shutil.rmtree(parts)

    def _missing(self, objects: Sequence[Listed]) -> list[Listed]:
        noted = self._noted()
        return [item for item in objects if noted.get(item.name, {}) != self._evidence(item)]

    def _strangers(self, objects: Sequence[Listed]) -> list[Path]:
        wanted = {self.folder / item.name for item in objects}
        return [path for path in self.folder.rglob("*") if not path.is_dir() and path not in wanted]

    def _evidence(self, item: Listed) -> dict[str, Any] | None:
        """Return what the journal says of an object whose file is here untouched."""
        try:
            status = (self.folder / item.name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not item.tag or status.st_size != item.bytes:
            return None
        return {"name": item.name, "tag": item.tag, "bytes": item.bytes, "modified": status.st_mtime_ns}

    def _note(self, item: Listed, path: Path) -> None:
        evidence = self._evidence(item)
        if evidence:
            with (self.state / JOURNAL).open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(evidence) + "\n")

    def _tidy(self) -> None:
        """Write the journal anew: a line that was cut off would spoil the one after it."""
        lines = (json.dumps(entry) + "\n" for entry in self._noted().values())
        write_text(self.state / JOURNAL, "".join(lines))

    def _noted(self) -> dict[str, dict[str, Any]]:
        noted: dict[str, dict[str, Any]] = {}
        path = self.state / JOURNAL
        lines = path.read_bytes().splitlines() if path.exists() else []
        for line in lines:
            with suppress(ValueError):  # the last line of a process that was killed
                entry = json.loads(line)
                noted[entry["name"]] = entry
        return noted
