"""Large files go up to S3 in parts, and on after the parts that an earlier upload of the same file left."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

PARTS_AT_A_TIME = 4
GONE = "NoSuchUpload"

Part: TypeAlias = dict[str, str]
"""What S3 wants to hear again of a part when all are there: its tag, and its checksum if it has one."""


def send_in_parts(
    client: Any,  # noqa: ANN401 - boto3 makes its classes at run time
    path: Path,
    bucket: str,
    key: str,
    *,
    part_bytes: int,
    options: dict[str, Any],
) -> None:
    """Write a file to an object that appears when all parts are there; `options` are those of the object.

    Whoever is killed or loses the connection leaves the parts that have arrived, and the next upload of the
    same bytes sends the others alone. What S3 refuses leaves none. Another process that sends the same may
    be the one that ends it: so look at the object afterwards.

    Raises:
        BotoCoreError, ClientError: as boto3.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.utils import ReadFileChunk

    count = -(-path.stat().st_size // part_bytes)
    checksums = {name: value for name, value in options.items() if name == "ChecksumAlgorithm"}
    place = {"Bucket": bucket, "Key": key}
    parts = _begun(client, path, place, part_bytes, checksums.get("ChecksumAlgorithm"))
    if not parts:
        place["UploadId"] = client.create_multipart_upload(**place, **options)["UploadId"]

    def send(number: int) -> Part:
        with ReadFileChunk.from_filename(str(path), (number - 1) * part_bytes, part_bytes) as content:
            return _said(client.upload_part(**place, PartNumber=number, Body=content, **checksums))

    try:
        missing = [number for number in range(1, count + 1) if number not in parts]
        with ThreadPoolExecutor(PARTS_AT_A_TIME, "upload") as pool:
            parts |= zip(missing, pool.map(send, missing), strict=True)
        listed = [{"PartNumber": number, **part} for number, part in sorted(parts.items())]
        client.complete_multipart_upload(**place, MultipartUpload={"Parts": listed})
    except ClientError as error:
        if error.response["Error"]["Code"] == GONE:
            return
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            with suppress(BotoCoreError, ClientError):  # what went wrong first is what people must read
                client.abort_multipart_upload(**place)
        raise


def _begun(
    client: Any,  # noqa: ANN401
    path: Path,
    place: dict[str, str],
    part_bytes: int,
    algorithm: str | None,
) -> dict[int, Part]:
    """Return the parts, by number from 1, of an unfinished upload of this file, and note its id in `place`.

    None of its parts may be another file's. A service that does not tell has none.
    """
    from botocore.exceptions import ClientError

    uploads = client.get_paginator("list_multipart_uploads")
    try:
        pages = uploads.paginate(Bucket=place["Bucket"], Prefix=place["Key"])
        for upload in (upload for page in pages for upload in page.get("Uploads", ())):
            if upload["Key"] != place["Key"] or upload.get("ChecksumAlgorithm", algorithm) != algorithm:
                continue
            there = place | {"UploadId": upload["UploadId"]}
            pages_of_parts = client.get_paginator("list_parts").paginate(**there)
            parts = [part for page in pages_of_parts for part in page.get("Parts", ())]
            if parts and all(_fits(part, path, part_bytes) for part in parts):
                place["UploadId"] = upload["UploadId"]
                return {part["PartNumber"]: _said(part) for part in parts}
    except ClientError:
        # The right to list is not granted, the service has no such list, or the upload ended meanwhile. Going
        # on only saves work: all parts are sent instead, and an error that stays is raised there.
        pass
    return {}


def _fits(part: dict[str, Any], path: Path, part_bytes: int) -> bool:
    """Tell whether a part on S3 is that part of the file. Under a key of their own their tags are no MD5s."""
    digest, left = hashlib.md5(usedforsecurity=False), part_bytes
    with path.open("rb") as file:
        file.seek((part["PartNumber"] - 1) * part_bytes)
        while block := file.read(min(1 << 20, left)):
            digest.update(block)
            left -= len(block)
    return bool(part["Size"] == part_bytes - left and part["ETag"].strip('"') == digest.hexdigest())


def _said(part: dict[str, Any]) -> Part:
    return {name: part[name] for name in ("ETag", "ChecksumSHA256") if name in part}
