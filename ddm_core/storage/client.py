"""The connection to S3, and what its failures mean in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from ddm_core.errors import DdmError

ATTEMPTS = 6
CONNECTIONS = 32
CLOCK = "this computer's clock and the service's differ too much; set the clock right"
DAMAGE = "was damaged on its way to S3, and nothing was written; run again"
NO_OBJECT = "no such object; check the address and AWS_ENDPOINT_URL"
REFUSALS = {
    "NoSuchBucket": "no such bucket; check its name and AWS_ENDPOINT_URL",
    "NoSuchKey": NO_OBJECT,
    "RequestTimeTooSkewed": CLOCK,
    "RequestExpired": CLOCK,
    "BadDigest": DAMAGE,
    "InvalidDigest": DAMAGE,
    "XAmzContentSHA256Mismatch": DAMAGE,
    "XAmzContentChecksumMismatch": DAMAGE,
    "PreconditionFailed": "changed while it was read; run again",
    "NotImplemented": "the service lacks what is needed here, such as conditional writes; use a newer one",
}


@dataclass(frozen=True)
class Transfer:
    """How patiently, in what pieces and under whose name S3 is spoken to.

    `connect_seconds` and `read_seconds` (above 0) bound a connection and every wait for more bytes.
    `attempts` (from 1) bounds the tries of one request; `None`: what AWS_MAX_ATTEMPTS or the profile says,
    or else ATTEMPTS. Files of `part_bytes` (from 5 MiB) or more go up in parts. `anonymous` signs nothing,
    for public buckets; AWS_NO_SIGN_REQUEST=1 does the same.
    """

    connect_seconds: float = 10
    read_seconds: float = 30
    attempts: int | None = None
    part_bytes: int = 64 << 20
    anonymous: bool = False


PATIENT = Transfer()


def client_for(transfer: Transfer) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    """Return a client that threads may share, with the credentials and settings of now.

    Raises:
        DdmError: AWS_ENDPOINT_URL is malformed.
    """
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _client(transfer, settings, os.getpid())  # a connection must not be shared with a forked process


@lru_cache(maxsize=8)
def _client(transfer: Transfer, settings: tuple[tuple[str, str], ...], process: int) -> Any:  # noqa: ANN401
    from boto3.session import Session
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import get_session

    core = get_session()
    attempts = transfer.attempts or core.get_config_variable("max_attempts") or ATTEMPTS
    unsigned = transfer.anonymous or dict(settings).get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "true")
    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        connect_timeout=transfer.connect_seconds,
        read_timeout=transfer.read_seconds,
        max_pool_connections=CONNECTIONS,
        signature_version=UNSIGNED if unsigned else None,
    )
    try:
        return Session(botocore_session=core).client("s3", config=config)
    except ValueError:  # its text repeats the address, which may hold a password
        raise DdmError("AWS_ENDPOINT_URL is no address; write it like https://host:port") from None


def attempts_of(client: Any) -> int:  # noqa: ANN401
    """Return how often a client tries a request."""
    return int(client.meta.config.retries["total_max_attempts"])


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what boto3 raises into a one-line DdmError without its own text, which may hold secrets."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, Boto3Error, ClientError) as error:
        cause = error.__context__
        raise DdmError(f"{place}: {_reason(cause if isinstance(cause, ClientError) else error)}") from None


def _reason(error: BaseException) -> str:
    from botocore import exceptions

    kind = type(error).__name__
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return "no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        host = urlsplit(str(error.kwargs.get("endpoint_url") or "")).hostname or "the S3 endpoint"
        return f"{host} does not answer ({kind}); check the network and AWS_ENDPOINT_URL"
    if not isinstance(error, exceptions.ClientError):
        return f"S3 failed ({kind}); run again, and check the AWS settings if it stays"
    code = re.sub(r"\W", "", str(error.response.get("Error", {}).get("Code", "Unknown")))
    if error.operation_name.startswith("AssumeRole"):
        return f"the role is not granted ({code}); check AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE"
    return _refusal(code, error.response["ResponseMetadata"]["HTTPStatusCode"])


def _refusal(code: str, status: int) -> str:
    if code in REFUSALS:
        return f"{REFUSALS[code]} ({code})"
    if status == 403:
        return f"S3 denies access ({code}); check the credentials and the bucket's policy"
    return f"S3 answers {code} (HTTP {status}); run again, and check region and AWS_ENDPOINT_URL if it stays"
