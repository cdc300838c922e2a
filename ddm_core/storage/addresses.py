"""Addresses: `s3://bucket/prefix` and `s3://bucket/key`."""

from __future__ import annotations

import re

from ddm_core.errors import DdmError
from ddm_core.places import is_remote

__all__ = ["is_remote", "split_object_uri", "split_uri"]


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


def split_object_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of `s3://bucket/key`.

    Raises:
        DdmError: as `split_uri`, or a whole bucket or a folder is named.
    """
    bucket, prefix = split_uri(uri)
    if uri.endswith("/") or not prefix:
        raise DdmError(f"{uri}: names no object; write s3://bucket/key")
    return bucket, prefix.removesuffix("/")
