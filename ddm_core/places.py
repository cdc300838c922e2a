"""Where people's options point to: a path on this machine, or for some a prefix on S3. Light to import."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ddm_core.errors import DdmError


@dataclass(frozen=True)
class RemotePlace:
    """`s3://bucket/prefix`, without a slash at its end."""

    uri: str

    def __truediv__(self, name: str) -> RemotePlace:
        return RemotePlace(f"{self.uri}/{name}")

    def __str__(self) -> str:
        return self.uri


Place: TypeAlias = Path | RemotePlace


def is_remote(uri: str) -> bool:
    """Tell whether `uri` names a service, such as `s3://bucket`, and no local path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", uri) is not None


def local_path(text: str) -> Path:
    """Read an option that takes nothing but a path on this machine; a type of argparse.

    Raises:
        argparse.ArgumentTypeError: an address. It is not repeated: it may hold a password.
    """
    if is_remote(text):
        raise argparse.ArgumentTypeError("takes a local path, and was given an address")
    return Path(text)


def local_text(text: str) -> str:
    """Do as `local_path` with an option that may also be `-` or a pattern, and so stays text."""
    local_path(text)
    return text


def place(text: str) -> Place:
    """Read an option that takes a local path or `s3://bucket/prefix`; a type of argparse.

    Raises:
        argparse.ArgumentTypeError: another address, a whole bucket, or a prefix that is no plain path.
    """
    if not is_remote(text):
        return Path(text)
    from ddm_core.storage.addresses import split_uri

    try:
        bucket, prefix = split_uri(text)
    except DdmError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    prefix = prefix.rstrip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")):
        raise argparse.ArgumentTypeError("names no plain prefix in a bucket; write s3://bucket/prefix")
    return RemotePlace(f"s3://{bucket}/{prefix}")


# Stages know local paths alone and speak to MLflow themselves: the addresses do not come as arguments.
_addresses: ContextVar[dict[Path, str]] = ContextVar("addresses", default={})  # noqa: B039 - never changed


@contextmanager
def shown_as(local: Path, address: str) -> Iterator[None]:
    """Let errors in the block name `address` where they name the path that what lies there has here.

    `address_of` knows it within the block.
    """
    token = _addresses.set(_addresses.get() | {local: address})
    try:
        yield
    except DdmError as error:
        if str(local) in str(error):
            raise DdmError(str(error).replace(str(local), address)) from None
        raise
    finally:
        _addresses.reset(token)


def address_of(path: Path) -> str:
    """Return the address of what was brought to this path, of any other its own as a `file:` address."""
    return _addresses.get().get(path) or path.absolute().as_uri()


def require_local(path: Path) -> None:
    """Refuse a path that is an address: `Path("s3://bucket")` would be a folder `s3:` here.

    Raises:
        DdmError: it is one.
    """
    if is_remote(str(path)):
        raise DdmError(
            "a local path is needed here, and an address was given; see docs/datasets.md, Addresses"
        )
