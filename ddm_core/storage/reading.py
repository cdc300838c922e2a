"""Reading from S3: streams that survive broken connections, files that come down whole or not at all."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import time
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

from ddm_core.errors import DdmError
from ddm_core.storage.addresses import split_object_uri
from ddm_core.storage.client import PATIENT, Transfer, attempts_of, client_for, explained
from ddm_core.storage.objects import Listed, content_of

BLOCK = 1 << 20
PIECE = 1 << 16  # what a broken connection may cost
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a connection is taken up again; doubled each time


def open_stream(uri: str, *, transfer: Transfer = PATIENT) -> BinaryIO:
    """Return the object at `s3://bucket/key` for reading from its beginning to its end; close it after use.

    A connection that breaks is taken up where it broke. The read that meets the end checks the whole: what
    must not use damaged bytes reads to the end first.

    Raises:
        DdmError: here or while reading: no such object, no access, no answer, an object that changed
            meanwhile, damaged bytes.
    """
    return cast(BinaryIO, io.BufferedReader(_Stream(uri, transfer), BLOCK))


def download(uri: str, path: Path, *, transfer: Transfer = PATIENT) -> None:
    """Write the object at `uri` to the file `path`, which appears whole and checked, or not at all.

    Raises:
        DdmError: as `open_stream`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(_Stream(uri, transfer), path)


def go_on(uri: str, part: Path, path: Path, *, expected: Listed, transfer: Transfer = PATIENT) -> None:
    """Do as `download`, but keep what has come in the file `part` if this breaks off, and begin after that.

    The object must still be as it is `expected` from a listing. Where S3 knows no checksum of the whole,
    nothing would show that an earlier part fits, and the download begins anew.

    Raises:
        DdmError: as `open_stream`; what arrived damaged is not kept.
    """
    with part.open("a+b") as file:
        try:
            with _Stream(uri, transfer, file) as stream:
                if stream.bytes != expected.bytes or expected.tag not in ("", stream.tag):
                    raise DdmError(f"{uri}: is another one than when it was listed; run again")
                shutil.copyfileobj(cast(BinaryIO, stream), file, BLOCK)
        except DamagedError:
            part.unlink()
            raise
        _finish(file)
    part.replace(path)


def _save(stream: _Stream, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".download.", suffix=".tmp")
    try:
        with stream, os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held while we live, see ddm_core.files
            shutil.copyfileobj(cast(BinaryIO, stream), file, BLOCK)
            _finish(file)
            Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _finish(file: IO[bytes]) -> None:
    os.fchmod(file.fileno(), 0o644)
    file.flush()
    os.fsync(file.fileno())


class DamagedError(DdmError):
    """Bytes that are not those of the object."""


class _Stream(io.RawIOBase):
    """An object's bytes in order, over as many connections as it takes.

    With the file `earlier`, which an earlier stream was written to, its bytes are checked again and those
    after them are read.
    """

    def __init__(self, uri: str, transfer: Transfer, earlier: IO[bytes] | None = None) -> None:
        super().__init__()
        self.name = uri
        self._body: Any = None
        self._position = 0
        self._bucket, self._key = split_object_uri(uri)
        with explained(uri):
            self._client = client_for(transfer)
        if earlier is None or not self._go_on(earlier):
            with explained(uri):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key)
            self._take(answer)
            self._body = answer["Body"]

    def _take(self, answer: dict[str, Any]) -> None:
        self.bytes = int(answer["ContentLength"])
        self.tag = answer.get("ETag", "")
        self._check, self._expected = _check_of(answer)

    def _go_on(self, earlier: IO[bytes]) -> bool:
        """Tell whether the bytes of `earlier` can be the object's first; it is emptied if not."""
        begun = earlier.seek(0, os.SEEK_END)
        if not begun:
            return False
        with explained(self.name):
            head = self._client.head_object(Bucket=self._bucket, Key=self._key, ChecksumMode="ENABLED")
        self._take(head)
        if begun > self.bytes or not self._expected:
            earlier.truncate(0)
            return False
        earlier.seek(0)
        while block := earlier.read(BLOCK):
            self._check.update(memoryview(block))
        self._position = begun
        if begun < self.bytes:
            self._take_up()
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        super().close()

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        from botocore.exceptions import BotoCoreError, FlexibleChecksumError

        piece = memoryview(buffer)[:PIECE]
        for failed in range(attempts_of(self._client)):
            try:
                count = int(self._body.readinto(piece)) if self._body else 0
            except FlexibleChecksumError:
                raise self._damaged() from None
            except (BotoCoreError, OSError):
                count = 0
            self._position += count
            self._check.update(piece[:count])
            if count:
                return count
            if self._position >= self.bytes:
                if self._check.hexdigest() != self._expected:
                    raise self._damaged()
                return 0
            time.sleep(min(FIRST_PAUSE * 2**failed, LONGEST_PAUSE))
            self._take_up()
        raise DdmError(f"{self.name}: breaks off at byte {self._position} again and again; check the network")

    def _take_up(self) -> None:
        if self._body is not None:
            self._body.close()
        same = {"IfMatch": self.tag} if self.tag else {}
        rest = f"bytes={self._position}-"
        with explained(self.name):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key, Range=rest, **same)
        if answer.get("ContentRange") != f"bytes {self._position}-{self.bytes - 1}/{self.bytes}":
            raise DdmError(f"{self.name}: S3 answers with another part than the one asked for; run again")
        self._body = answer["Body"]

    def _damaged(self) -> DdmError:
        return DamagedError(
            f"{self.name}: arrived damaged (wrong checksum); run again, and look at the object"
        )


class _Check(Protocol):
    def update(self, content: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, content: memoryview, /) -> None:
        self._value = zlib.crc32(content, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


class _Nothing:
    """The check of an object of which S3 knows no checksum as a whole."""

    def update(self, content: memoryview, /) -> None:
        pass

    def hexdigest(self) -> str:
        return ""


def _check_of(answer: dict[str, Any]) -> tuple[_Check, str]:
    """Return the strongest check of the whole object that an answer allows, and what it must come to."""
    content = content_of(answer)
    if content.sha256:
        return hashlib.sha256(), content.sha256
    crc32 = answer.get("ChecksumCRC32", "-")
    if "-" not in crc32:  # a dash: of the parts' checksums
        return _Crc32(), base64.b64decode(crc32).hex()
    if content.md5 and "-" not in content.md5:
        return hashlib.md5(usedforsecurity=False), content.md5
    return _Nothing(), ""
