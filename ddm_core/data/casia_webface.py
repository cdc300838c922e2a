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

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ddm_core.data.archives import UnfitError, photos
from ddm_core.data.imaging import MAX_BYTES
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
from ddm_core.data.sources import photo_of
from ddm_core.errors import DdmError

RECORDS_NAME, PROPERTY_NAME = "train.rec", "property"
PROPERTY = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*")
IDENTITY = re.compile(r"[0-9]{1,12}")
SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
EXPECTED = "expected 0000045/001.jpg and the like, or train.rec, train.idx and property unpacked"


def read(uri: Path) -> Iterator[RawPhoto | Rejected]:
    """Yield every photo of the set: a folder, an archive, or the path of a `.rec` file.

    Records come in the order of people and then of photos, folders and archives in the order and by the
    rules of `archives.entries`. People of records are named `id_000045`, their photos by the record's key.
    A missing `.idx` is rebuilt from intact records.

    Raises:
        DdmError: no such path, another form, no photo in it, an archive or `.rec` cut off, an index or
            `property` that does not fit the records.
    """
    if uri.is_dir() and (uri / RECORDS_NAME).exists():
        return _read_records(uri / RECORDS_NAME)
    if uri.suffix.lower() == ".rec" and uri.is_file():
        return _read_records(uri)
    return photos(uri, _relative, expected=f"CASIA-WebFace in it; {EXPECTED}")


def _relative(name: str) -> str | None:
    """Return `identity/image.ext` of a photo's name, `None` for hidden files and those of another kind."""
    try:
        if photo_of(name) is None:
            return None
    except DdmError as error:
        raise UnfitError(str(error)) from None
    path = PurePosixPath(name)
    if IDENTITY.fullmatch(path.parent.name) is None:
        raise UnfitError("lies in no identity folder, one that a number names; move it into one")
    return f"{path.parent.name}/{path.name}"


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
