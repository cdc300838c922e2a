"""Deterministic tar shards in the WebDataset layout: their writer and their verified reader.

A shard is a plain tar file whose members come in pairs, `<key>.json` (identity, label, splits, source) and
`<key>.png` (the pixels, lossless), sorted by key, without times or owners. Photos of the train split by image
lie in `train-NNNNNN.tar`, those of the test split in `test-NNNNNN.tar`.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ddm_core.data.manifest import ShardRecord
from ddm_core.errors import DdmError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

READ_AHEAD = 2**20  # bytes
_HEADER = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)  # times and owners are zero, the mode is 0644


class Stored(NamedTuple):
    """One photo as a shard holds it: its key, its JSON description and its PNG."""

    key: str
    description: bytes
    png: bytes


def tar_member(name: str, content: bytes) -> bytes:
    """Return a file as a member of a tar file: header, content, padding to whole blocks.

    The same bytes as tarfile's, in a quarter of the time; `name` has at most 100 ASCII characters.
    """
    header = bytearray(_HEADER)
    header[: len(name)] = name.encode("ascii")
    header[124:135] = b"%011o" % len(content)
    header[148:156] = b" " * 8  # the checksum counts itself as blanks
    header[148:155] = b"%06o\0" % sum(header)
    return b"".join((header, content, bytes(-len(content) % tarfile.BLOCKSIZE)))


class ShardWriter:
    """Writes photos to `<prefix>-000000.tar`, ... of at most `megabytes` (of 10^6 bytes) in a folder.

    A photo that is larger by itself gets a shard of its own. Use it in a `with` block; `records` is complete
    when the block has ended.
    """

    def __init__(self, folder: Path, prefix: str, megabytes: int) -> None:
        self.records: list[ShardRecord] = []
        self._folder, self._prefix, self._limit = folder, prefix, megabytes * 10**6
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._bytes = self._photos = 0

    def add(self, members: bytes) -> str:
        """Write one photo's tar members and return the name of the shard that holds them."""
        if self._file is not None and self._bytes + len(members) > self._limit:
            self._finish(self._file)
        if self._file is None:
            self._file = (self._folder / self._name()).open("wb")
        self._write(self._file, members)
        self._photos += 1
        return self._name()

    def _name(self) -> str:
        return f"{self._prefix}-{len(self.records):06}.tar"

    def _write(self, file: IO[bytes], content: bytes) -> None:
        file.write(content)
        self._digest.update(content)
        self._bytes += len(content)

    def _finish(self, file: IO[bytes]) -> None:
        end = 2 * tarfile.BLOCKSIZE
        self._write(file, bytes(end + -(self._bytes + end) % tarfile.RECORDSIZE))
        file.close()
        self.records.append(ShardRecord(self._name(), self._digest.hexdigest(), self._bytes, self._photos))
        self._file, self._digest = None, hashlib.sha256()
        self._bytes = self._photos = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and error is None:
            self._finish(self._file)
        elif self._file is not None:
            self._file.close()


def read_shard(stream: BinaryIO, shard: ShardRecord, where: str, *, verify: bool = True) -> Iterator[Stored]:
    """Yield the photos of a shard in its order; `where` names it in messages.

    With `verify`, size and SHA-256 are compared with the manifest's when the last photo has passed.

    Raises:
        DdmError: damaged: not a tar file of such pairs, other bytes or another number of photos.
    """
    source = _Digested(stream, verify)
    reader = io.BufferedReader(source, READ_AHEAD)
    photos = 0
    try:
        while (member := _read_member(reader)) is not None:
            name, description = member
            image, png = _read_member(reader) or ("", b"")
            key = name.removesuffix(".json")
            if name == key or image != f"{key}.png":
                raise ValueError(f"'{name}' is followed by '{image}'")
            photos += 1
            yield Stored(key, description, png)
        while verify and reader.read(READ_AHEAD):
            pass
    except (ValueError, UnicodeDecodeError):
        raise _damaged(where) from None
    if photos != shard.photos or (verify and source.digest.hexdigest() != shard.sha256):
        raise _damaged(where)


def decode_stored(png: bytes, where: str) -> NDArray[numpy.uint8]:
    """Return the pixels of a PNG that prepare wrote: uint8 [channels, size, size]."""
    import numpy
    from PIL import Image

    try:
        pixels = numpy.asarray(Image.open(io.BytesIO(png), formats=("PNG",)))
    except (OSError, SyntaxError, ValueError):
        raise _damaged(where) from None
    return pixels[None] if pixels.ndim == 2 else numpy.ascontiguousarray(pixels.transpose(2, 0, 1))


def _read_member(reader: IO[bytes]) -> tuple[str, bytes] | None:
    """Return the next member's name and content, `None` at the end."""
    header = reader.read(tarfile.BLOCKSIZE)
    if not header.strip(b"\0") and len(header) == tarfile.BLOCKSIZE:
        return None
    size = int(header[124:135], 8)
    padded = size + -size % tarfile.BLOCKSIZE
    content = reader.read(padded)
    if len(content) != padded:
        raise ValueError("the file ends within a member")
    return header[:100].rstrip(b"\0").decode("ascii"), content[:size]


def _damaged(where: str) -> DdmError:
    return DdmError(f"{where}: damaged, its SHA-256 is not the manifest's; run ddm prepare again")


class _Digested(io.RawIOBase):
    """A stream that digests, if asked to, what is read from it."""

    def __init__(self, stream: BinaryIO, active: bool) -> None:
        self._stream, self._active = stream, active
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        content = self._stream.read(len(buffer))
        if self._active:
            self.digest.update(content)
        buffer[: len(content)] = content
        return len(content)
