"""MXNet RecordIO files, read by their format: records by offset, by the key of an index, or in sequence.

A file is a sequence of parts, each aligned to 4 bytes: the magic, a 32-bit word, the part's bytes, zero bytes
up to the next multiple of 4. All numbers are little-endian. The upper 3 bits of the word say which part it is
(0 a whole record, 1 the first, 2 a middle, 3 the last part of one), the lower 29 bits its length. A payload
is cut wherever it holds the magic at a multiple of 4 bytes, and the magic itself is left out: so the magic
at such a place is always a header, and the length of a damaged header can be told from a true one.

An index (`.idx`) has a line a record, `key, tab, offset`; in any order, for image sets of MXNet are written
so that record 0 follows the images.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from ddm_core.errors import DdmError

MAGIC = b"\x0a\x23\xd7\xce"  # 0xced7230a
MAX_RECORD_BYTES = 2**29 - 1
HEADER_BYTES = 8
WHOLE, FIRST, MIDDLE, LAST = range(4)

BUFFER_BYTES = 2**18
INDEX_LINE = re.compile(rb"([0-9]{1,18})\t([0-9]{1,18})\r?\n?")
MAX_INDEX_LINE = 64  # bytes; two numbers of 18 digits fit
IMAGE_HEADER = struct.Struct("<IfQQ")


@dataclass(frozen=True)
class RecordFile:
    """An open RecordIO file and its length in bytes."""

    path: Path
    file: BinaryIO
    size: int


@dataclass(frozen=True)
class Record:
    """A record's payload, the offset at which it begins, and the one at which the next record begins."""

    offset: int
    end: int
    payload: bytes


@dataclass(frozen=True)
class ImageRecord:
    """A payload as MXNet packs images: labels, two numbers that name the record, and the image file."""

    labels: Sequence[float]
    id: int
    second_id: int
    content: bytes


@dataclass(frozen=True)
class RecordIndex:
    """Where records lie: ascending `keys`, the offset of each, and all offsets in ascending order."""

    keys: array[int]
    offsets: array[int]
    ascending: array[int]

    def extent(self, key: int) -> tuple[int, int | None]:
        """Return the offset of a record and that of the record after it in the file, `None` after the last.

        Raises:
            DdmError: the index has no such key.
        """
        place = bisect_left(self.keys, key)
        if place == len(self.keys) or self.keys[place] != key:
            raise DdmError(f"the index has no record {key}; copy the set again")
        offset = self.offsets[place]
        after = bisect_right(self.ascending, offset)
        return offset, self.ascending[after] if after < len(self.ascending) else None


@contextmanager
def open_records(path: Path) -> Iterator[RecordFile]:
    """Open a RecordIO file for the block.

    Raises:
        DdmError: it cannot be opened, is empty or begins with something else than a record.
    """
    try:
        with path.open("rb", buffering=BUFFER_BYTES) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise DdmError(f"{path}: not a RecordIO file (no magic at its start); copy it again")
            yield RecordFile(path, file, file.seek(0, 2))
    except OSError as error:
        raise DdmError(f"{path}: cannot be read ({error.strerror}); give a RecordIO file") from None


def read_record(
    records: RecordFile, offset: int, after: int | None = None, max_bytes: int = MAX_RECORD_BYTES
) -> Record:
    """Read the record that begins at `offset`; `after` is the next record's offset where an index tells it.

    Nothing is read beyond `after`, and no payload larger than `max_bytes`.

    Raises:
        DdmError: no intact record lies there; the message is the reason alone.
    """
    limit = records.size if after is None else min(after, records.size)
    kind, payload, end = _read_part(records, offset, limit, max_bytes)
    if kind in (MIDDLE, LAST):
        raise DdmError(f"no record begins at byte {offset}, only its later part; copy the file again")
    if kind == FIRST:
        payload, end = _join_parts(records, payload, end, limit, max_bytes)
    if end not in (after, records.size):
        _require_start(records, end, offset)
    return Record(offset, end, payload)


def read_records(records: RecordFile) -> Iterator[Record]:
    """Yield every record in the order of the file, without an index.

    Raises:
        DdmError: at the first damaged record, for where the next one begins is then unknown.
    """
    offset = 0
    while offset < records.size:
        try:
            record = read_record(records, offset)
        except DdmError as error:
            raise DdmError(f"{records.path}: {error}") from None
        yield record
        offset = record.end


def unpack_image(payload: bytes) -> ImageRecord:
    """Split a payload into MXNet's image header and the image file behind it.

    Raises:
        DdmError: it is too short for its header; the message is the reason alone.
    """
    if len(payload) < IMAGE_HEADER.size:
        raise DdmError(f"{len(payload)} bytes are too few for an image header; copy the set again")
    count, label, number, second_number = IMAGE_HEADER.unpack_from(payload)
    start = IMAGE_HEADER.size + 4 * count
    if start > len(payload):
        raise DdmError(f"{count} labels do not fit into {len(payload)} bytes; copy the set again")
    labels = array("f", payload[IMAGE_HEADER.size : start] if count else struct.pack("=f", label))
    if count and sys.byteorder == "big":
        labels.byteswap()
    return ImageRecord(labels, number, second_number, payload[start:])


def read_index(path: Path) -> RecordIndex:
    """Read an `.idx` file.

    Raises:
        DdmError: it cannot be read, is empty, has a line of another form, or names a key or an offset twice.
    """
    try:
        with path.open("rb") as file:
            return _make_index(path, _index_entries(path, file))
    except OSError as error:
        raise DdmError(f"{path}: cannot be read ({error.strerror}); give the index of the set") from None


def rebuild_index(records: RecordFile) -> RecordIndex:
    """Make the index from the records themselves, each of which holds its key as `ImageRecord.id`.

    Raises:
        DdmError: a record is damaged, or two hold the same key.
    """
    entries = ((unpack_image(record.payload).id, record.offset) for record in read_records(records))
    return _make_index(records.path, entries)


def _join_parts(records: RecordFile, first: bytes, end: int, limit: int, max_bytes: int) -> tuple[bytes, int]:
    """Return the payload that begins with the part `first`, and where its last part ends."""
    payload, kind = bytearray(first), FIRST
    while kind != LAST:
        offset = end
        payload += MAGIC
        kind, part, end = _read_part(records, offset, limit, max_bytes - len(payload))
        if kind not in (MIDDLE, LAST):
            raise DdmError(f"a record lacks its last part before byte {offset}; copy the file again")
        payload += part
    return bytes(payload), end


def _read_part(records: RecordFile, offset: int, limit: int, max_bytes: int) -> tuple[int, bytes, int]:
    """Return what kind of part lies at `offset`, its bytes and where it ends."""
    kind, length = _read_header(records, offset, limit)
    start = offset + HEADER_BYTES
    padded = (length + 3) // 4 * 4
    if start + padded > limit:
        raise DdmError(
            f"the record part at byte {offset} claims {padded} bytes, where {limit - start} are left;"
            " copy the file again"
        )
    if length > max_bytes:
        raise DdmError(f"the record part at byte {offset} has {length} bytes, too many; replace the record")
    part, padding = records.file.read(length), records.file.read(padded - length)
    if len(part) + len(padding) != padded:
        raise DdmError(f"the record part at byte {offset} is cut off; copy the file again")
    if any(padding) or (kind in (FIRST, MIDDLE) and length % 4) or _holds_aligned_magic(part):
        raise DdmError(
            f"the record part at byte {offset} has a wrong length, {length} bytes; copy the file again"
        )
    return kind, part, start + padded


def _read_header(records: RecordFile, offset: int, limit: int) -> tuple[int, int]:
    """Return kind and length of the part at `offset`."""
    if offset + HEADER_BYTES > limit:
        raise DdmError(f"the record part at byte {offset} is cut off at byte {limit}; copy the file again")
    records.file.seek(offset)
    header = records.file.read(HEADER_BYTES)
    if offset % 4 or len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise DdmError(f"no magic at byte {offset}, where a record part must begin; copy the file again")
    word = int.from_bytes(header[len(MAGIC) :], "little")
    kind, length = word >> 29, word & MAX_RECORD_BYTES
    if kind > LAST:
        raise DdmError(f"the record part at byte {offset} is of unknown kind {kind}; copy the file again")
    return kind, length


def _require_start(records: RecordFile, end: int, offset: int) -> None:
    """A true length leads to the start of the next record; a damaged one leads anywhere."""
    try:
        kind, _ = _read_header(records, end, records.size)
    except DdmError:
        kind = LAST
    if kind not in (WHOLE, FIRST):
        raise DdmError(f"the record at byte {offset} ends at {end}, where none begins; copy the file again")


def _holds_aligned_magic(part: bytes) -> bool:
    place = part.find(MAGIC)
    while place >= 0 and place % 4:
        place = part.find(MAGIC, place + 1)
    return place >= 0


def _index_entries(path: Path, file: BinaryIO) -> Iterator[tuple[int, int]]:
    number = 0
    while line := file.readline(MAX_INDEX_LINE):
        number += 1
        match = INDEX_LINE.fullmatch(line)
        if match is None:
            raise DdmError(f"{path}: line {number} is not `key, tab, offset`; copy the index again")
        yield int(match[1]), int(match[2])


def _make_index(path: Path, entries: Iterable[tuple[int, int]]) -> RecordIndex:
    keys, offsets = array("Q"), array("Q")
    for key, offset in entries:
        keys.append(key)
        offsets.append(offset)
    if not keys:
        raise DdmError(f"{path}: no record in it; copy it again")
    order = sorted(range(len(keys)), key=keys.__getitem__)
    index = RecordIndex(
        array("Q", (keys[place] for place in order)),
        array("Q", (offsets[place] for place in order)),
        array("Q", sorted(offsets)),
    )
    for name, ascending in (("key", index.keys), ("offset", index.ascending)):
        for one, other in pairwise(ascending):
            if one == other:
                raise DdmError(f"{path}: the {name} {one} occurs twice; copy the index again")
    return index
