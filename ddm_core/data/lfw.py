"""Labeled Faces in the Wild: its photos, from a folder or an archive.

Huang, Ramesh, Berg, Learned-Miller (2007): 13,233 photos of 5,749 people, 250 x 250 pixels, as
`Person_Name/Person_Name_0001.jpg`; raw, funneled and deep-funneled sets have the same layout.
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
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from ddm_core.data.lfw_protocol import read_people
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.data.sources import IMAGE_SUFFIXES
from ddm_core.errors import DdmError

OUTER_FOLDERS = frozenset({"lfw", "lfw_funneled", "lfw-funneled", "lfw_deepfunneled", "lfw-deepfunneled"})
LAYOUT = "Person_Name/Person_Name_0001.jpg"
MAX_PHOTO_BYTES = 16 * 2**20  # a thousand times a usual photo of the set
NOT_FOLLOWED = "a link or device, which is not followed; put the photo itself into the archive"

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


@dataclass(frozen=True)
class _File:
    """A file of the set, its name with forward slashes: its bytes, or what stands against reading it."""

    name: str
    content: bytes = b""
    fault: str | None = None


class _UnfitError(Exception):
    """A file that is no photo of the set; the message is the reason."""


def read(uri: Path, *, people: Path | None = None) -> Iterator[RawPhoto | Rejected]:
    """Yield the photos of a folder, sorted, or of a .tar, .tgz, .tar.bz2, .tar.xz or .zip, as they lie in it.

    An outer folder (OUTER_FOLDERS) may be there or not. Hidden files, and files beside the people's folders
    that are no images, such as pairs.txt, are passed over. Links in an archive are rejected, never followed.
    `people` is the set's people.txt: after the last photo, everybody's number of photos is compared with it.

    Raises:
        DdmError: no such file, another format, a damaged archive, no photo in it, not the people listed.
    """
    listed = None if people is None else {p.name: p.photos for fold in read_people(people) for p in fold}
    found: set[str] = set()
    for file in _files(uri):
        try:
            relative = _relative(file)
            if relative in found:
                raise _UnfitError("stands twice in the set; remove one")
        except _UnfitError as reason:
            yield Rejected(_printable(file.name), str(reason))
            continue
        if relative is not None:
            found.add(relative)
            yield RawPhoto(relative, file.content)
    if not found:
        raise DdmError(f"{uri}: no photo of LFW in it; expected files {LAYOUT}")
    if listed is not None:
        _compare(Counter(relative.partition("/")[0] for relative in found), listed, f"{uri}: not as {people}")


def _compare(found: Counter[str], listed: dict[str, int], what: str) -> None:
    others = sorted(name for name in found.keys() | listed.keys() if found[name] != listed.get(name, 0))
    if others:
        shown = ", ".join(f"{name} has {found[name]} of {listed.get(name, 0)} photos" for name in others[:3])
        more = f" and {len(others) - 3} more people" if len(others) > 3 else ""
        raise DdmError(f"{what} lists: {shown}{more}; take set and list from one place, unchanged")


def _relative(file: _File) -> str | None:
    """Return `person/file` of a photo, `None` for a file that is not one of the photos and need not be."""
    if file.fault is not None:
        raise _UnfitError(file.fault)
    name = unicodedata.normalize("NFC", file.name)
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise _UnfitError("its name leads out of the set; take the archive from its own source")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    while parts and parts[0] in OUTER_FOLDERS:
        parts.pop(0)
    if not parts or parts[-1].startswith("."):
        return None
    if len(parts) == 1 and PurePosixPath(parts[0]).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    if len(parts) != 2:
        raise _UnfitError(f"expected {LAYOUT}; move it")
    _refuse_misnamed(*parts)
    if len(file.content) > MAX_PHOTO_BYTES:
        raise _UnfitError(f"larger than {MAX_PHOTO_BYTES // 2**20} MB; replace it")
    return "/".join(parts)


def _refuse_misnamed(person: str, photo: str) -> None:
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in person + photo):
        raise _UnfitError("its name holds control or undecodable characters; rename it")
    if person.startswith("."):
        raise _UnfitError("a person's folder must not begin with a dot; rename it")
    if len(photo.encode()) > 255:
        raise _UnfitError("its name is longer than 255 bytes; rename it")
    named = re.fullmatch(r"(.+)_([0-9]{4})\.jpg", photo)
    if named is None or named[2] == "0000":
        raise _UnfitError("its name must be the person's, four digits from 0001, and .jpg; rename it")
    if named[1] != person:
        raise _UnfitError(f"named after {named[1]}, in the folder of {person}; move it")


def _files(uri: Path) -> Iterator[_File]:
    if uri.is_dir():
        return _folder_files(uri)
    if not uri.is_file():
        raise DdmError(f"{uri}: no such file or folder; name LFW's folder or its .tgz, .tar or .zip")
    with uri.open("rb") as file:
        start = file.read(4)
    return _zip_files(uri) if start.startswith(b"PK") else _tar_files(uri)


def _folder_files(root: Path) -> Iterator[_File]:
    """Symbolic links are followed, as a data cache lays them; a folder reached twice is read once."""
    unreadable: list[OSError] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable.append):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(folders)
        for name in sorted(names) if real not in seen else ():
            path = Path(folder, name)
            yield _file_of_folder(path.relative_to(root).as_posix(), path)
        seen.add(real)
    for error in unreadable:
        name = Path(error.filename).relative_to(root).as_posix()
        yield _File(name, fault=f"cannot be read ({error.strerror}); mend its permissions")


def _file_of_folder(name: str, path: Path) -> _File:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return _File(name, fault="neither a file nor a folder; remove it")
        with path.open("rb") as file:
            return _File(name, file.read(MAX_PHOTO_BYTES + 1))
    except OSError as error:
        return _File(name, fault=f"cannot be read ({error.strerror}); mend or replace it")


def _zip_files(uri: Path) -> Iterator[_File]:
    try:
        with zipfile.ZipFile(uri) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield _file_of_zip(archive, member)
    except _DAMAGE as error:
        raise _damaged(uri, error) from None


def _file_of_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _File:
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return _File(member.filename, fault=NOT_FOLLOWED)
    if member.flag_bits & 1:
        return _File(member.filename, fault="encrypted; unpack the archive and name the folder")
    try:
        with archive.open(member) as file:
            return _File(member.filename, file.read(MAX_PHOTO_BYTES + 1))
    except _DAMAGE as error:
        return _File(member.filename, fault=f"damaged ({_reason(error)}); take the archive again")


def _tar_files(uri: Path) -> Iterator[_File]:
    try:
        with uri.open("rb") as file:
            start = file.read(8)
        opener = next(opener for magic, opener in _TAR_OPENERS if start.startswith(magic))
        with opener(uri) as stream:
            yield from _files_of_tar(_Tail(stream))
    except _DAMAGE as error:
        raise _damaged(uri, error) from None


def _files_of_tar(stream: _Tail) -> Iterator[_File]:
    """tarfile takes a damaged header, or none at all, for the end of an archive; here that is an error."""
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
        while member := archive.next():
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                yield _File(member.name, content.read(MAX_PHOTO_BYTES + 1))
            elif not member.isdir():
                yield _File(member.name, fault=NOT_FOLLOWED)
        end: int = archive.offset
    while stream.read(2**16):
        pass
    if stream.zeros_from > end or stream.length < end + tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"no proper end at byte {end}")


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


def _damaged(uri: Path, error: Exception) -> DdmError:
    return DdmError(
        f"{uri}: a damaged archive or none at all ({_reason(error)}); take it from its source again"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
