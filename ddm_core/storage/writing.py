"""Writing to S3: files in parts, small objects under a condition; what arrived is checked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.storage.addresses import split_object_uri
from ddm_core.storage.client import PATIENT, Transfer, client_for, explained
from ddm_core.storage.multipart import send_in_parts
from ddm_core.storage.objects import SHA256_NAME, Content, delete, find

BLOCK = 1 << 20
MOST_PARTS = 10_000  # of one object, a bound of S3 itself
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def upload(path: Path, uri: str, *, transfer: Transfer = PATIENT) -> None:
    """Write the file `path` to the object at `s3://bucket/key`, in place of what is there, and check it.

    Parts that a broken upload of the same file left there are not sent again.

    Raises:
        DdmError: malformed address, no access, no answer, or other bytes arrived than were sent.
    """
    upload_measured(path, measure(path, transfer), uri, transfer=transfer)


def upload_measured(path: Path, content: Content, uri: str, *, transfer: Transfer = PATIENT) -> None:
    """Do as `upload` with a file that `measure` has read already."""
    bucket, key = split_object_uri(uri)
    part_bytes = _part_bytes(content.bytes, transfer)
    with explained(uri):
        client = client_for(transfer)
        options = _checksums(client, content)
        if content.bytes < part_bytes:
            with path.open("rb") as file:
                client.put_object(Bucket=bucket, Key=key, Body=file, **options)
        else:
            send_in_parts(client, path, bucket, key, part_bytes=part_bytes, options=options)
    _require_arrival(uri, content, transfer)


def put_if(content: bytes, uri: str, *, replaces: str | None = None, transfer: Transfer = PATIENT) -> bool:
    """Write a small object only if none is there, or only in place of the one whose entity tag is `replaces`.

    Return whether `content` stands there now; `False` says that another writer was first. What arrives
    damaged is withdrawn.

    Raises:
        DdmError: as `upload`.
    """
    from botocore.exceptions import ClientError

    bucket, key = split_object_uri(uri)
    condition = {"IfMatch": replaces} if replaces else {"IfNoneMatch": "*"}
    wanted = _content(len(content), hashlib.sha256(content).hexdigest(), _md5(content).hexdigest())
    with explained(uri):
        client = client_for(transfer)
        try:
            client.put_object(Bucket=bucket, Key=key, Body=content, **condition, **_checksums(client, wanted))
        except ClientError as error:
            if error.response["Error"]["Code"] not in TAKEN:
                raise
            standing = find(uri, transfer=transfer)  # perhaps what the first try of this same request wrote
            return standing is not None and standing.is_same(wanted)
    try:
        _require_arrival(uri, wanted, transfer)
    except DdmError:
        delete(uri, transfer=transfer)
        raise
    return True


def measure(path: Path, transfer: Transfer = PATIENT) -> Content:
    """Return what the file `path` holds, with the entity tag that `upload` gives it; it is read once."""
    part_bytes = _part_bytes(path.stat().st_size, transfer)
    whole, part, filled, total = hashlib.sha256(), _md5(), 0, 0
    parts: list[bytes] = []
    with path.open("rb") as file:
        while block := file.read(min(BLOCK, part_bytes - filled)):
            whole.update(block)
            part.update(block)
            total, filled = total + len(block), filled + len(block)
            if filled == part_bytes:
                parts.append(part.digest())
                part, filled = _md5(), 0
    if not parts:
        return _content(total, whole.hexdigest(), part.hexdigest())
    parts += [part.digest()] if filled else []
    return _content(total, whole.hexdigest(), f"{_md5(b''.join(parts)).hexdigest()}-{len(parts)}")


def _content(size: int, sha256: str, md5: str) -> Content:
    return Content(size, sha256, f'"{md5}"', md5)


def _md5(content: bytes = b"") -> Any:  # noqa: ANN401 - hashlib does not name its type
    return hashlib.md5(content, usedforsecurity=False)


def _part_bytes(size: int, transfer: Transfer) -> int:
    return max(transfer.part_bytes, -(-size // MOST_PARTS))


def _checksums(client: Any, content: Content) -> dict[str, Any]:  # noqa: ANN401
    """Some older services refuse them: AWS_REQUEST_CHECKSUM_CALCULATION=when_required leaves them out."""
    recorded = {"Metadata": {SHA256_NAME: content.sha256}}
    if client.meta.config.request_checksum_calculation == "when_required":
        return recorded
    return recorded | {"ChecksumAlgorithm": "SHA256"}


def _require_arrival(uri: str, content: Content, transfer: Transfer) -> None:
    arrived = find(uri, transfer=transfer)
    if arrived is None or not arrived.is_same(content):
        raise DdmError(f"{uri}: arrived damaged, or another writer changed it; run again")
