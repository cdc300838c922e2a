"""Photos on S3 and whatever speaks its protocol (MinIO, Ceph). The only importer of boto3.

Credentials, region and endpoint (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3) are found as boto3 finds them; it
addresses an endpoint of your own path-style, which is what MinIO and Ceph want.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ddm_core.data.sources import image_suffixes, photo_of
from ddm_core.errors import DdmError

PARALLEL_DOWNLOADS = 8
BATCH = 1000  # downloads that wait at a time: each takes memory
MAX_OBJECT_BYTES = 50 * 1024**4  # the bound of S3 itself


def is_remote(uri: str) -> bool:
    """Tell whether `uri` names a service, such as `s3://bucket`, and no local path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", uri) is not None


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and prefix of `s3://bucket/prefix`; the prefix ends in `/` or is empty (whole bucket).

    Raises:
        DdmError: not of that form. What was given is not repeated: it may hold a password.
    """
    parts = re.fullmatch(r"s3://([A-Za-z0-9._-]{3,63})(?:/([^\x00-\x1f\x7f-\x9f]*))?", uri)
    if parts is None:
        raise DdmError("uri is neither a local path nor s3://bucket/prefix; credentials have no place in it")
    prefix = parts[2] or ""
    return parts[1], prefix if prefix.endswith("/") or not prefix else f"{prefix}/"


def download_tree(uri: str, folder: Path) -> None:
    """Download every photo below the S3 address `uri` into `folder`, by its name relative to the prefix.

    What is a photo, `ddm_core.data.sources.photo_of` says. All names are checked before the first download;
    each file must have the size that was listed.

    Raises:
        DdmError: malformed address, no credentials, no access, no such bucket, no photo below the prefix, an
            unsafe object name, an endpoint that does not answer, an object that changed; one line.
    """
    from boto3.s3.transfer import TransferConfig
    from tqdm import tqdm

    bucket, prefix = split_uri(uri)
    with _explained(uri):
        client = _client()
        photos = _list_photos(client, bucket, prefix, uri)
    # Photos are small: many at a time, each in one piece by the thread that asks for it.
    whole = TransferConfig(use_threads=False, multipart_threshold=MAX_OBJECT_BYTES)

    def download(photo: tuple[str, int]) -> None:
        name, size = photo
        target, place = folder / name, f"s3://{bucket}/{prefix}{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with _explained(place):
            client.download_file(bucket, prefix + name, str(target), Config=whole)
        if target.stat().st_size != size:
            raise DdmError(f"{place}: has another size than when it was listed; run again")

    progress = tqdm(total=len(photos), desc="download", unit="photo")
    with progress, ThreadPoolExecutor(PARALLEL_DOWNLOADS) as executor:
        for start in range(0, len(photos), BATCH):
            for _ in executor.map(download, photos[start : start + BATCH]):
                progress.update()


def _client() -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    from boto3.session import Session
    from botocore.config import Config

    config = Config(retries={"mode": "adaptive"}, connect_timeout=10, max_pool_connections=PARALLEL_DOWNLOADS)
    try:
        return Session().client("s3", config=config)  # a session of its own reads the settings of now
    except ValueError:  # its text repeats the address, which may hold a password
        raise DdmError("AWS_ENDPOINT_URL is no address; write it like https://host:port") from None


def _list_photos(client: Any, bucket: str, prefix: str, uri: str) -> list[tuple[str, int]]:  # noqa: ANN401
    """Return name relative to the prefix and size in bytes of every photo."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    photos = []
    for item in (item for page in pages for item in page.get("Contents", ())):
        name = item["Key"].removeprefix(prefix)
        if name.endswith("/") or not name:  # marks a folder
            continue
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise DdmError(f"{uri}: the object {name!a} is no plain relative path; rename it")
        if photo_of(name):
            photos.append((name, item["Size"]))
    if not photos:
        raise DdmError(f"{uri}: no photo below it; expected identity/image objects ({image_suffixes()})")
    return photos


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn what boto3 raises into a one-line DdmError without its own text, which may hold secrets."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, Boto3Error, ClientError) as error:
        raise DdmError(f"{place}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    from botocore import exceptions

    kind = type(error).__name__
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return "no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        host = urlsplit(error.kwargs.get("endpoint_url", "")).hostname or "the S3 endpoint"
        return f"{host} does not answer ({kind}); check the network and AWS_ENDPOINT_URL"
    if not isinstance(error, exceptions.ClientError):
        return f"S3 failed ({kind}); run again, and check the AWS settings if it stays"
    code = re.sub(r"\W", "", str(error.response["Error"].get("Code")))
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code == "NoSuchBucket":
        return "no such bucket; check its name and AWS_ENDPOINT_URL"
    if status == 403:
        return f"S3 denies access ({code}); check the credentials and the bucket's policy"
    return f"S3 answers {code} (HTTP {status}); run again, and check region and AWS_ENDPOINT_URL if it stays"
