"""CASIA-WebFace: 494,414 photos of 10,575 people (Yi, Lei, Liao, Li 2014), in the forms people hold.

- A tree of identity folders named by numbers, `0000045/001.jpg`, as folder, `.tar` (plain or compressed)
  or `.zip`; folders around the identity folders do not matter.
- InsightFace's `train.rec`, `train.idx` and `property`: faces aligned to 112 x 112. Record 0 has two labels,
  the key of the first identity record and the one after the last. The records before that block are the
  images; an identity record has two labels too, the key of the person's first image and the one after the
  last. An image's first label is the person's place in the block. `property` holds the number of people,
  height and width.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Self, TypeAlias, cast
from zipfile import BadZipFile, ZipFile, ZipInfo

from ddm_core.data.imaging import MAX_BYTES, read_photo
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.data.recordio import (
    ImageRecord,
    RecordFile,
    RecordIndex,
    open_records,
    read_index,
    read_record,
    rebuild_index,
    unpack_image,
)
from ddm_core.data.regions import printable
from ddm_core.data.sources import photo_of
from ddm_core.errors import DdmError

RECORDS_NAME, PROPERTY_NAME = "train.rec", "property"
PROPERTY = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*")
IDENTITY = re.compile(r"[0-9]{1,12}")
SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
EXPECTED = "expected 0000045/001.jpg and the like, or train.rec, train.idx and property unpacked"
ARCHIVE_ERRORS = (tarfile.TarError, BadZipFile, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)

Entry: TypeAlias = tuple[str, Callable[[], bytes]]
"""A file's name with forward slashes, and a function that reads it or raises DdmError with the reason."""


def read(uri: Path) -> Iterator[RawPhoto | Rejected]:
    """Yield every photo of the set: a folder, an archive, or the path of a `.rec` file.

    Folders and records come in the order of people and then of photos, archives in their own order. People
    of records are named `id_000045`, their photos by the record's key. A missing `.idx` is rebuilt from
    intact records.

    Raises:
        DdmError: no such path, another form, no photo in it, an archive or `.rec` cut off, an index or
            `property` that does not fit the records.
    """
    if not uri.exists():
        raise DdmError(f"{uri}: not found; {EXPECTED}")
    if uri.is_dir() and (uri / RECORDS_NAME).exists():
        return _read_records(uri / RECORDS_NAME)
    if uri.is_dir():
        return _read_tree(uri, _folder_entries(uri))
    if not uri.is_file():
        raise DdmError(f"{uri}: neither a file nor a folder; {EXPECTED}")
    if uri.suffix.lower() == ".rec":
        return _read_records(uri)
    return _read_tree(uri, _zip_entries(uri) if uri.suffix.lower() == ".zip" else _tar_entries(uri))


def _read_tree(uri: Path, entries: Iterable[Entry | Rejected]) -> Iterator[RawPhoto | Rejected]:
    seen: set[str] = set()
    for entry in entries:
        if isinstance(entry, Rejected):
            yield entry
            continue
        name, content = entry
        try:
            relative = _relative(name)
            if relative is None:
                continue
            if relative in seen:
                raise DdmError(f"a second {relative}; remove one of the two")
            photo = RawPhoto(relative, content())
        except DdmError as error:
            yield Rejected(printable(name), str(error))
        else:
            seen.add(relative)
            yield photo
    if not seen:
        raise DdmError(f"{uri}: no photo of CASIA-WebFace in it; {EXPECTED}")


def _relative(name: str) -> str | None:
    """Return `identity/image.ext` of a photo's name, `None` for hidden files and those of another kind."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DdmError("leads out of the archive; remove it")
    if photo_of(name) is None:
        return None
    if IDENTITY.fullmatch(path.parent.name) is None:
        raise DdmError("lies in no identity folder, one that a number names; move it into one")
    return f"{path.parent.name}/{path.name}"


def _folder_entries(root: Path) -> Iterator[Entry | Rejected]:
    real_root = root.resolve()
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=unreadable.append):
        folders.sort(key=_order)
        for path in (Path(folder, name) for name in folders):
            if path.is_symlink():  # os.walk does not follow it, so that loops end
                name = printable(path.relative_to(root).as_posix())
                yield Rejected(name, "a link to a folder; replace it by the folder")
        for path in (Path(folder, name) for name in sorted(names, key=_order)):
            yield path.relative_to(root).as_posix(), partial(_read_file, path, real_root)
    for error in unreadable:
        name = printable(os.path.relpath(error.filename, root))
        yield Rejected(name, f"the folder cannot be read ({error.strerror}); mend its permissions")


def _read_file(path: Path, real_root: Path) -> bytes:
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(real_root):
        raise DdmError("a link out of the folder; replace it by the file")
    return read_photo(path)


def _zip_entries(uri: Path) -> Iterator[Entry]:
    try:
        archive = ZipFile(uri)
    except (*ARCHIVE_ERRORS, NotImplementedError) as error:
        raise DdmError(f"{uri}: not a whole zip file ({printable(str(error))}); download it again") from None
    with archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, partial(_unzip, archive, member)


def _unzip(archive: ZipFile, member: ZipInfo) -> bytes:
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DdmError("is a link, not a file; replace it by the file")
    _refuse_large(member.file_size)
    try:
        return archive.read(member)
    except NotImplementedError as error:
        raise DdmError(f"packed in an unknown way ({error}); pack the archive anew") from None
    except RuntimeError:  # zipfile's word for it
        raise DdmError("is encrypted; unpack the archive") from None
    except ARCHIVE_ERRORS as error:
        raise DdmError(f"damaged in the archive ({printable(str(error))}); download it again") from None


class _StrictHeader(tarfile.TarInfo):
    """tarfile takes a damaged header, or a missing end mark, for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _tar_entries(uri: Path) -> Iterator[Entry]:
    last = "its start"
    try:
        with (
            _decompressed(uri) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictHeader) as archive,
        ):
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
                if not member.isdir():
                    yield member.name, partial(_untar, archive, member)
                last = member.name
            while stream.read(2**16):  # the checksum of compressed bytes stands at their end
                pass
    except ARCHIVE_ERRORS as error:
        raise DdmError(
            f"{uri}: no tar archive, or damaged after {printable(last)} ({printable(str(error))});"
            " download it again"
        ) from None


def _decompressed(uri: Path) -> IO[bytes]:
    """Open a tar archive; tarfile's own decompression would not look at checksums."""
    with uri.open("rb") as file:
        start = file.read(6)
    for signature, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if start.startswith(signature):
            return cast("IO[bytes]", opener(uri))
    return uri.open("rb")


def _untar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isreg():
        raise DdmError("is a link or a device, not a file; replace it by the file")
    _refuse_large(member.size)
    try:
        file = archive.extractfile(member)
        assert file is not None  # a regular file has content
        return file.read()
    except ARCHIVE_ERRORS as error:
        raise DdmError(f"damaged in the archive ({printable(str(error))}); download it again") from None


def _refuse_large(size: int) -> None:
    if size > MAX_BYTES:
        raise DdmError(f"larger than {MAX_BYTES >> 20} MiB; make it smaller")


def _order(name: str) -> tuple[bool, int, str]:
    """Numbers first, by value where they have no leading zeros or all the same length."""
    return IDENTITY.match(name) is None, len(name), name


def _read_records(path: Path) -> Iterator[RawPhoto | Rejected]:
    with open_records(path) as records:
        index = _index_of(records)
        identity_keys = _identity_keys(records, index)
        _check_property(path.with_name(PROPERTY_NAME), len(identity_keys))
        people: list[range | None] = []
        for key in identity_keys:
            try:
                people.append(_image_keys(records, index, key, identity_keys.start))
            except DdmError as error:
                people.append(None)
                yield Rejected(_record_name(path, key), f"identity record: {error}")
        for key in range(1, identity_keys.start):
            try:
                image = _image_at(records, index, key)
                identity = _identity_of(image, key, people)
                relative = f"id_{identity:06}/{key:08}{_suffix_of(image.content)}"
            except DdmError as error:
                yield Rejected(_record_name(path, key), str(error))
            else:
                yield RawPhoto(relative, image.content)


def _index_of(records: RecordFile) -> RecordIndex:
    path = records.path.with_suffix(".idx")
    if not path.exists():
        return rebuild_index(records)
    index = read_index(path)
    if index.ascending[-1] >= records.size:
        raise DdmError(
            f"{records.path}: cut off at {records.size} bytes, {path.name} goes on to {index.ascending[-1]};"
            " copy it again"
        )
    return index


def _identity_keys(records: RecordFile, index: RecordIndex) -> range:
    """Return the keys of the identity records, which follow those of the images."""
    try:
        first, after_last = _two_keys(_image_at(records, index, 0))
    except DdmError as error:
        raise DdmError(f"{records.path}: record 0 is no header of an image set: {error}") from None
    if not 1 < first < after_last:
        raise DdmError(f"{records.path}: record 0 puts the people at {first} to {after_last}; copy it again")
    if len(index.keys) != after_last or index.keys[-1] != after_last - 1:
        raise DdmError(
            f"{records.path}: {after_last} records by record 0, {len(index.keys)} by the index;"
            " copy both again"
        )
    return range(first, after_last)


def _check_property(path: Path, people: int) -> None:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            text = file.read(100)
    except OSError as error:
        raise DdmError(f"{path}: cannot be read ({error.strerror}); copy it beside {RECORDS_NAME}") from None
    match = PROPERTY.fullmatch(text)
    if match is None:
        raise DdmError(f"{path}: {text.strip()!a} is not `people,height,width`, as 10572,112,112; mend it")
    if int(match[1]) != people:
        raise DdmError(f"{path}: {match[1]} people, {people} in {RECORDS_NAME}; take both from one set")


def _image_keys(records: RecordFile, index: RecordIndex, key: int, end: int) -> range:
    """Return the keys of the images that an identity record gives to its person."""
    first, after_last = _two_keys(_image_at(records, index, key))
    if not 1 <= first <= after_last <= end:
        raise DdmError(f"holds the images {first} to {after_last} of 1 to {end}; copy the set again")
    return range(first, after_last)


def _two_keys(record: ImageRecord) -> tuple[int, int]:
    if len(record.labels) != 2:
        raise DdmError(f"{len(record.labels)} labels, not two; copy the set again")
    return _whole_number(record.labels[0]), _whole_number(record.labels[1])


def _image_at(records: RecordFile, index: RecordIndex, key: int) -> ImageRecord:
    return unpack_image(read_record(records, *index.extent(key), max_bytes=MAX_BYTES).payload)


def _identity_of(image: ImageRecord, key: int, people: Sequence[range | None]) -> int:
    """Return the person by the image's label, which the person's identity record must confirm."""
    identity = _whole_number(image.labels[0])
    if identity >= len(people):
        raise DdmError(f"shows person {identity} of 0 to {len(people) - 1}; copy the set again")
    keys = people[identity]
    if keys is None or key not in keys:
        raise DdmError(f"shows person {identity}, whose identity record does not name it; copy the set again")
    return identity


def _whole_number(label: float) -> int:
    if not math.isfinite(label) or label < 0 or label != int(label):
        raise DdmError(f"the label {label} is not a whole number from 0; copy the set again")
    return int(label)


def _suffix_of(content: bytes) -> str:
    for signature, suffix in SIGNATURES.items():
        if content.startswith(signature):
            return suffix
    raise DdmError("neither JPEG nor PNG; copy the set again")


def _record_name(path: Path, key: int) -> str:
    return f"{path.name}/{key:08}"
