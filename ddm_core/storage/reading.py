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
from typing import Any, BinaryIO, Protocol, cast

from ddm_core.data.sources import image_suffixes, photo_of
from ddm_core.errors import DdmError
from ddm_core.storage.addresses import split_object_uri, split_uri
from ddm_core.storage.client import PATIENT, Transfer, attempts_of, client_for, explained
from ddm_core.storage.objects import content_of, list_objects
from ddm_core.storage.parallel import in_parallel

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


def download_tree(uri: str, folder: Path, *, transfer: Transfer = PATIENT) -> None:
    """Download every photo below the S3 address `uri` into `folder`, by its name relative to the prefix.

    What is a photo, `ddm_core.data.sources.photo_of` says. All names are checked before the first download;
    each file must have the size that was listed.

    Raises:
        DdmError: malformed address, no credentials, no access, no such bucket, no photo below the prefix, an
            unsafe object name, an endpoint that does not answer, an object that changed or came down damaged.
    """
    bucket, prefix = split_uri(uri)
    photos = [(name, size) for name, size in list_objects(uri, transfer=transfer) if photo_of(name)]
    if not photos:
        raise DdmError(f"{uri}: no photo below it; expected identity/image objects ({image_suffixes()})")

    def fetch(photo: tuple[str, int]) -> None:
        name, listed = photo
        stream = _Stream(f"s3://{bucket}/{prefix}{name}", transfer)
        if stream.bytes != listed:
            stream.close()
            raise DdmError(f"{stream.name}: has another size than when it was listed; run again")
        _save(stream, folder / name)

    # All folders first: a thread that outlives an interrupt must not make one anew after they were removed.
    for place in {(folder / name).parent for name, _ in photos}:
        place.mkdir(parents=True, exist_ok=True)
    in_parallel(fetch, photos, "download")


def _save(stream: _Stream, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".download.", suffix=".tmp")
    try:
        with stream, os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held while we live, see ddm_core.files
            shutil.copyfileobj(cast(BinaryIO, stream), file, BLOCK)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
            Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class _Stream(io.RawIOBase):
    """An object's bytes in order, over as many connections as it takes."""

    def __init__(self, uri: str, transfer: Transfer) -> None:
        super().__init__()
        self.name = uri
        self._body: Any = None
        self._bucket, self._key = split_object_uri(uri)
        with explained(uri):
            self._client = client_for(transfer)
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key)
        self.bytes = int(answer["ContentLength"])
        self._body = answer["Body"]
        self._tag = answer.get("ETag")
        self._check, self._expected = _check_of(answer)
        self._position = 0

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
                count = int(self._body.readinto(piece))
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
        self._body.close()
        same = {"IfMatch": self._tag} if self._tag else {}
        rest = f"bytes={self._position}-"
        with explained(self.name):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key, Range=rest, **same)
        if answer.get("ContentRange") != f"bytes {self._position}-{self.bytes - 1}/{self.bytes}":
            raise DdmError(f"{self.name}: S3 answers with another part than the one asked for; run again")
        self._body = answer["Body"]

    def _damaged(self) -> DdmError:
        return DdmError(f"{self.name}: arrived damaged (wrong checksum); run again, and look at the object")


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
