"""Folders and archives (tar plain, gzip, bzip2 or xz; zip) of photos, read one file at a time.

Both are somebody else's: nothing in them draws in a file from outside, and a damaged or cut-off archive is an
error, never a smaller set.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from ddm_core.data.imaging import MAX_BYTES, open_photo
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.data.regions import printable
from ddm_core.data.sources import has_photo_suffix, is_hidden
from ddm_core.errors import DdmError

FORMS = "a folder or an archive (.tar, .tgz, .tar.bz2, .tar.xz or .zip)"
NOT_FOLLOWED = "a link or device, which is not followed; put the file itself into the archive"

_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
# tarfile's own decompression would not check that a compressed file is complete; these modules do.
_TAR_OPENERS: tuple[tuple[bytes, Callable[[Path], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
    (b"", lambda path: path.open("rb")),
)
# What the modules above raise on damaged bytes; ValueError on names, NotImplementedError on odd versions.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, NotImplementedError),
)


class UnfitError(Exception):
    """One file that cannot be taken, while the others can; the message is the reason alone."""


@dataclass(frozen=True)
class Entry:
    """A file: its name with forward slashes, and a function that returns its bytes.

    `read` is called before the next entry is asked for, or never. It raises UnfitError for a link or device,
    a file that is too large, encrypted or damaged by itself, and DdmError for an archive that is damaged.
    """

    name: str
    read: Callable[[], bytes]


def photos(
    uri: Path, relative_of: Callable[[str], str | None], *, expected: str, max_bytes: int = MAX_BYTES
) -> Iterator[RawPhoto | Rejected]:
    """Yield those `entries` that are photos, each under the name that `relative_of` gives it.

    Hidden files are passed over. `relative_of` returns `None` for one of the set's own lists, which is passed
    over too, and raises UnfitError for a file to reject; of two photos of one name the second is rejected.
    `expected` says in an error what photos the set should hold.

    Raises:
        DdmError: as `entries`, or no photo in it.
    """
    found: set[str] = set()
    for entry in entries(uri, max_bytes=max_bytes):
        if is_hidden(entry.name if isinstance(entry, Entry) else entry.relative):
            continue
        if isinstance(entry, Rejected):
            yield entry
            continue
        try:
            relative = relative_of(entry.name)
            if relative is None:
                continue
            if relative in found:
                raise UnfitError(f"a second {relative}; remove one of the two")
            photo = RawPhoto(relative, entry.read())
        except UnfitError as reason:
            yield Rejected(printable(entry.name), str(reason))
        else:
            found.add(relative)
            yield photo
    if not found:
        raise DdmError(f"{uri}: no photo of {expected}")


def entries(uri: Path, *, max_bytes: int = MAX_BYTES) -> Iterator[Entry | Rejected]:
    """Yield every file, hidden ones too: a folder's in the order of names, an archive's in its own order.

    Numbers in names count by their value. A name that leads out of the set is rejected at once, and so is a
    folder that cannot be read. What is wrong with one file (a link or device, more than `max_bytes`, damage
    to it alone) shows when it is read: a reader passes over what is none of its photos.

    Symbolic links in a folder go by the rule of `sources.list_files`: a link to a file in the set's folder is
    that file under another name; a link to a folder in it is passed over, for the folder is read at its own
    place; links that lead out of the set's folder, nowhere, or to a hidden folder are rejected. So a folder
    that DVC made of links to its cache has to be laid out as files first (DVC's `cache.type copy`).

    Raises:
        DdmError: no such file or folder, another format, an archive that is damaged or cut off.
    """
    for entry in _entries(uri, max_bytes):
        if isinstance(entry, Entry) and _leads_out(entry.name):
            yield Rejected(
                printable(entry.name), "its name leads out of the set, here or on Windows; rename it"
            )
        else:
            yield entry


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/")


def _entries(uri: Path, max_bytes: int) -> Iterator[Entry | Rejected]:
    if uri.is_dir():
        return _folder_entries(uri, max_bytes)
    if not uri.is_file():
        raise DdmError(f"{uri}: no such file or folder; name {FORMS}")
    try:
        with uri.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DdmError(f"{uri}: cannot be read ({error.strerror}); mend its permissions") from None
    if start.startswith(_ZIP_SIGNATURES) or uri.suffix.lower() == ".zip":
        return _zip_entries(uri, max_bytes)
    opener = next(opener for signature, opener in _TAR_OPENERS if start.startswith(signature))
    return _tar_entries(uri, opener, max_bytes)


def _folder_entries(root: Path, max_bytes: int) -> Iterator[Entry | Rejected]:
    real_root = os.path.realpath(root)
    pending = [""]  # not recursive: folders may nest deeper than Python's stack
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(f"{root}/{folder}") as listing:
                items = sorted(listing, key=lambda item: _order(item.name))
        except OSError as error:
            if not folder:
                raise DdmError(f"{root}: cannot be listed ({error.strerror}); mend its permissions") from None
            reason = f"the folder cannot be read ({error.strerror}); mend its permissions"
            yield Rejected(printable(folder[:-1]), reason)
            continue
        if has_photo_suffix(folder[:-1]) and all(item.name.startswith(".") for item in items):
            yield Rejected(printable(folder[:-1]), "an empty folder with a photo's name; remove it")
        for item in items:
            if item.is_symlink() and os.path.isdir(item.path):  # noqa: PTH112 - where Path.is_dir may raise
                if fault := _fault_of_folder_link(item.path, real_root):
                    yield Rejected(printable(folder + item.name), fault)
            elif not item.is_dir(follow_symlinks=False):
                yield Entry(folder + item.name, partial(_read_file, Path(item.path), real_root, max_bytes))
        folders = [item.name for item in items if item.is_dir(follow_symlinks=False)]
        pending += [f"{folder}{name}/" for name in reversed(folders)]


def _order(name: str) -> tuple[list[int | str], str]:
    """Numbers by value: text stands at the even places of the split, a number at each odd one."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _fault_of_folder_link(path: str, real_root: str) -> str | None:
    target = f"{os.path.realpath(path)}/"
    if not target.startswith(f"{real_root}/"):
        return "a link out of the folder; put what it leads to in its place"
    if "/." in target.removeprefix(real_root):
        return "a link to a hidden folder; put what it leads to in its place"
    return None


def _read_file(path: Path, real_root: str, max_bytes: int) -> bytes:
    if path.is_symlink():
        try:
            target = os.path.realpath(path, strict=True)
        except OSError as error:
            raise UnfitError(f"a link that leads nowhere ({error.strerror}); remove it") from None
        if not target.startswith(f"{real_root}/"):
            raise UnfitError("a link out of the folder; put what it leads to in its place")
    try:
        with open_photo(path) as file:
            _refuse_large(os.fstat(file.fileno()).st_size, max_bytes)
            return file.read()
    except DdmError as error:
        raise UnfitError(str(error)) from None
    except OSError as error:
        raise UnfitError(f"cannot be read ({error.strerror}); mend or replace it") from None


def _zip_entries(uri: Path, max_bytes: int) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(uri) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield Entry(member.filename, partial(_unzip, archive, member, max_bytes))
    except _DAMAGE as error:
        raise _damaged(uri, "its directory", error) from None


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes:
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise UnfitError(NOT_FOLLOWED)
    if member.flag_bits & 1:
        raise UnfitError("encrypted; unpack the archive and name the folder")
    _refuse_large(member.file_size, max_bytes)
    try:
        with archive.open(member) as file:
            return file.read(member.file_size)  # more would be unpacked where the directory lies
    except _DAMAGE as error:
        raise UnfitError(
            f"damaged in the archive ({_reason(error)}); take it from its source again"
        ) from None


def _tar_entries(uri: Path, opener: Callable[[Path], Any], max_bytes: int) -> Iterator[Entry]:
    """tarfile takes a damaged header, or none at all, for the end of an archive; here that is an error."""
    place = "at its start"
    try:
        with opener(uri) as file:
            stream = _Tail(file)
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
                while member := archive.next():
                    archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
                    place = f"from {printable(member.name)} on"
                    if not member.isdir():
                        yield Entry(member.name, partial(_untar, uri, archive, member, max_bytes))
                end: int = archive.offset
            while stream.read(2**16):  # the checksum of compressed bytes stands at their end
                pass
        if stream.zeros_from > end or stream.length < end + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"no proper end at byte {end}")
    except _DAMAGE as error:
        raise _damaged(uri, place, error) from None


def _untar(uri: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int) -> bytes:
    if not member.isreg():
        raise UnfitError(NOT_FOLLOWED)
    _refuse_large(member.size, max_bytes)
    try:
        return cast("IO[bytes]", archive.extractfile(member)).read()  # a regular file has content
    except _DAMAGE as error:
        raise _damaged(uri, f"in {printable(member.name)}", error) from None


class _Tail:
    """A stream that knows its length so far and where the zero bytes at its end begin."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.length = 0
        self.zeros_from = 0

    def read(self, size: int) -> bytes:
        content = self.stream.read(size)
        if nonzero := len(content.rstrip(b"\0")):
            self.zeros_from = self.length + nonzero
        self.length += len(content)
        return content


def _refuse_large(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise UnfitError(f"larger than {max_bytes / 2**20:g} MiB; make it smaller")


def _damaged(uri: Path, place: str, error: Exception) -> DdmError:
    reason = f"{place}: {_reason(error)}"
    return DdmError(f"{uri}: a damaged archive or none at all ({reason}); take it from its source again")


def _reason(error: Exception) -> str:
    return " ".join(printable(str(error)).split()) or type(error).__name__
