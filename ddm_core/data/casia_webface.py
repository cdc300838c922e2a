"""CASIA-WebFace: 494,414 photos of 10,575 people (Yi, Lei, Liao, Li 2014), in the forms people hold.

- A tree of identity folders, named by numbers, `0000045/001.jpg`, or by people, `Anna_Lee/001.jpg`, as
  folder, `.tar` (plain or compressed) or `.zip`; folders around the identity folders do not matter.
- InsightFace's `train.rec`, `train.idx` and `property`: faces aligned to 112 x 112. Record 0 has two labels,
  the key of the first identity record and the one after the last. The records before that block are the
  images; an identity record has two labels too, the key of the person's first image and the one after the
  last. An image's first label is the person's place in the block. `property` holds the number of people,
  height and width.

Whom a number stands for is in a list, as `names.txt`: a line a person, `0000045 Anna_Lee`. For `train.rec`
the numbers are places in the block of people, and a list that somebody has made names them `id_000045`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from functools import partial
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
from ddm_core.data.regions import printable
from ddm_core.data.sources import has_photo_suffix, photo_of, why_no_photo
from ddm_core.errors import DdmError

RECORDS_NAME, PROPERTY_NAME = "train.rec", "property"
PROPERTY = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*")
IDENTITY = re.compile(r"(id_)?([0-9]{1,12})", re.ASCII)
NAMED = re.compile(r"((?:id_)?[0-9]{1,12})[ \t,]+(\S.*)", re.ASCII)
NAMES_LIST = "names.txt"
OUTER_FOLDERS = frozenset({"casia-webface", "casia_webface", "casia", "webface"})
SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
EXPECTED = "expected 0000045/001.jpg and the like, or train.rec, train.idx and property unpacked"


def read(uri: Path, *, lists: Collection[str] = ()) -> Iterator[RawPhoto | Rejected]:
    """Yield every photo of the set: a folder, an archive, or the path of a `.rec` file.

    `lists` are the names of files in a folder or archive that are no photos and need not be.
    Records come in the order of people and then of photos, folders and archives in the order and by the
    rules of `archives.entries`. People of records are named `id_000045`, their photos by the record's key.
    A missing `.idx` is rebuilt from intact records.

    Raises:
        DdmError: no such path, another form, no photo in it, an archive or `.rec` cut off, an index or
            `property` that does not fit the records.
    """
    if records := _records_of(uri):
        return _read_records(records)
    return photos(uri, partial(_relative, lists), expected=f"CASIA-WebFace in it; {EXPECTED}")


def count_records(uri: Path) -> int | None:
    """Return how many images `train.rec` holds by its record 0, `None` if the set is not in records.

    Raises:
        DdmError: as `read`.
    """
    path = _records_of(uri)
    if path is None:
        return None
    with open_records(path) as records:
        return _identity_keys(records, _index_of(records)).start - 1


def is_list(lists: Collection[str], relative: str) -> bool:
    """Tell whether a file of a folder or archive is one of `lists` or `names.txt`."""
    return PurePosixPath(relative).name in (*lists, NAMES_LIST)


def read_names(lists: Sequence[Path]) -> dict[str, str]:
    """Return the people's names by their numbers as `plain_number` writes them.

    Raises:
        DdmError: a list that cannot be read, a line of another form, a number with two names.
    """
    names: dict[str, str] = {}
    for path in lists:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DdmError(
                f"{path}: cannot be read ({printable(str(error))}); name the list's file"
            ) from None
        for place, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            found = NAMED.fullmatch(line.strip())
            if found is None:
                raise DdmError(f"{path}:{place}: expected a number and a name, as 0000045 Anna_Lee; mend it")
            if names.setdefault(plain_number(found[1]), found[2]) != found[2]:
                raise DdmError(f"{path}:{place}: {found[1]} has another name above; remove one of the two")
    return names


def name_of(names: dict[str, str], identity: str) -> str:
    """Return the person's name: the folder's, or what the lists give for its number.

    Raises:
        DdmError: a number without a name.
    """
    if IDENTITY.fullmatch(identity) is None:
        return identity
    try:
        return names[plain_number(identity)]
    except KeyError:
        raise DdmError(
            f"CASIA-WebFace: person {identity} has no name to compare with fetch.exclude_people; name a list"
            " of numbers and names in fetch.lists, or set exclude_people to null"
        ) from None


def plain_number(identity: str) -> str:
    """Return a folder's number without leading zeros; `id_` stays, for it counts other people."""
    found = IDENTITY.fullmatch(identity)
    assert found is not None
    return f"{found[1] or ''}{int(found[2])}"


def _records_of(uri: Path) -> Path | None:
    if uri.is_dir() and (uri / RECORDS_NAME).exists():
        return uri / RECORDS_NAME
    return uri if uri.suffix.lower() == ".rec" and uri.is_file() else None


def _relative(lists: Collection[str], name: str) -> str | None:
    """Return `identity/image.ext` of a photo's name, `None` for one of the lists."""
    if is_list(lists, name):
        return None
    if not has_photo_suffix(name):
        raise UnfitError(why_no_photo(name))
    try:
        photo_of(name)
    except DdmError as error:
        raise UnfitError(str(error)) from None
    path = PurePosixPath(name)
    if path.parent.name.lower() in ("", *OUTER_FOLDERS):
        raise UnfitError("lies in no identity folder; move it into one")
    return f"{path.parent.name}/{path.name}"


def _read_records(path: Path) -> Iterator[RawPhoto | Rejected]:
    with open_records(path) as records:
        index = _index_of(records)
        identity_keys = _identity_keys(records, index)
        _check_property(path.with_name(PROPERTY_NAME), len(identity_keys))
        people: list[range | str] = []
        for key in identity_keys:
            try:
                people.append(_image_keys(records, index, key, identity_keys.start))
            except DdmError as error:
                people.append(str(error))
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


def _identity_of(image: ImageRecord, key: int, people: Sequence[range | str]) -> int:
    """Return the person by the image's label, which the person's identity record must confirm."""
    identity = _whole_number(image.labels[0])
    if identity >= len(people):
        raise DdmError(f"shows person {identity} of 0 to {len(people) - 1}; copy the set again")
    keys = people[identity]
    if isinstance(keys, str):
        raise DdmError(f"shows person {identity}, whose identity record cannot be used: {keys}")
    if key not in keys:
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
