"""What lies at an address: whether, how much, with which checksum."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.storage.addresses import split_object_uri, split_uri
from ddm_core.storage.client import NO_OBJECT, PATIENT, Transfer, client_for, explained

SHA256_NAME = "sha256"  # of the entry in an object's own metadata


@dataclass(frozen=True)
class Content:
    """What a file or an object holds: bytes, hexadecimal SHA-256, S3's entity tag, and the MD5 in that tag.

    Of an object, `sha256` is `None` where nobody recorded it, `md5` where its tag is none. The MD5 of what
    went up in parts is that of the parts' MD5s, a dash and their number.
    """

    bytes: int
    sha256: str | None
    tag: str
    md5: str | None

    def is_same(self, other: Content) -> bool:
        """Tell whether both certainly hold the same bytes. MD5s count if both are of as many parts."""
        recorded = self.sha256 is not None and (self.bytes, self.sha256) == (other.bytes, other.sha256)
        return recorded and (_parts(self.md5) != _parts(other.md5) or self.md5 == other.md5)


def find(uri: str, *, transfer: Transfer = PATIENT) -> Content | None:
    """Return what the object at `s3://bucket/key` holds, `None` if there is no such object.

    Raises:
        DdmError: malformed address, no access, no answer.
    """
    from botocore.exceptions import ClientError

    bucket, key = split_object_uri(uri)
    with explained(uri):
        try:
            head = client_for(transfer).head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
    return content_of(head)


def exists(uri: str, *, transfer: Transfer = PATIENT) -> bool:
    """Tell whether there is an object at `s3://bucket/key`; raises as `find`."""
    return find(uri, transfer=transfer) is not None


def size(uri: str, *, transfer: Transfer = PATIENT) -> int:
    """Return the bytes of the object at `s3://bucket/key`.

    Raises:
        DdmError: no such object, or as `find`.
    """
    content = find(uri, transfer=transfer)
    if content is None:
        raise DdmError(f"{uri}: {NO_OBJECT}")
    return content.bytes


@dataclass(frozen=True)
class Listed:
    """An object as a listing names it: relative to the prefix, with its bytes and S3's entity tag, if any."""

    name: str
    bytes: int
    tag: str


def list_objects(uri: str, *, transfer: Transfer = PATIENT) -> Iterator[tuple[str, int]]:
    """Yield name relative to the prefix `uri` and bytes of every object below it; raises as `list_tagged`."""
    return ((listed.name, listed.bytes) for listed in list_tagged(uri, transfer=transfer))


def list_tagged(uri: str, *, transfer: Transfer = PATIENT) -> Iterator[Listed]:
    """Yield every object below the prefix `uri`, in the order of S3.

    Raises:
        DdmError: malformed address, no such bucket, no access, no answer, a name that leads elsewhere.
    """
    bucket, prefix = split_uri(uri)
    with explained(uri):
        pages = client_for(transfer).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in (item for page in pages for item in page.get("Contents", ())):
            name = item["Key"].removeprefix(prefix)
            if name.endswith("/") or not name:  # marks a folder
                continue
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise DdmError(f"{uri}: the object {name!a} is no plain relative path; rename it")
            yield Listed(name, item["Size"], item.get("ETag", ""))


def delete(uri: str, *, transfer: Transfer = PATIENT) -> None:
    """Delete the object at `s3://bucket/key`, if there is one.

    Raises:
        DdmError: malformed address, no access, no answer.
    """
    bucket, key = split_object_uri(uri)
    with explained(uri):
        client_for(transfer).delete_object(Bucket=bucket, Key=key)


def content_of(answer: dict[str, Any]) -> Content:
    """Return what an answer of S3 about a whole object says that it holds."""
    recorded = answer.get("Metadata", {}).get(SHA256_NAME, "")
    whole = answer.get("ChecksumSHA256", "-")
    if not re.fullmatch("[0-9a-f]{64}", recorded):  # another writer's own meaning of the word
        recorded = "" if "-" in whole else base64.b64decode(whole).hex()  # a dash: of the parts' checksums
    return Content(int(answer["ContentLength"]), recorded or None, answer.get("ETag", ""), _md5(answer))


def _md5(answer: dict[str, Any]) -> str | None:
    """Objects under a key of their own have tags that are no MD5, though they look alike."""
    own_key = answer.get("SSECustomerAlgorithm") or str(answer.get("ServerSideEncryption")).startswith("aws:")
    tag = str(answer.get("ETag", "")).strip('"')
    return tag if re.fullmatch(r"[0-9a-f]{32}(-\d+)?", tag) and not own_key else None


def _parts(md5: str | None) -> str | None:
    return None if md5 is None else md5[32:]
