"""A folder published as a whole: its data first, then the manifest that says the data are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ddm_core.data.sources import combined_digest
from ddm_core.errors import DdmError
from ddm_core.files import OUTPUT_MARK
from ddm_core.storage.addresses import split_uri
from ddm_core.storage.client import PATIENT, Transfer
from ddm_core.storage.objects import Content, delete, find
from ddm_core.storage.parallel import in_parallel
from ddm_core.storage.reading import open_stream
from ddm_core.storage.writing import measure, put_if, upload_measured

CLAIM = ".publishing"  # the object that says whose files are being published below a prefix


@dataclass(frozen=True)
class Published:
    """How many objects were sent, how many were there already, and the bytes of both together."""

    sent: int
    kept: int
    bytes: int


def publish_tree(
    folder: Path,
    uri: str,
    *,
    manifest: str,
    alone: bool = False,
    replace: bool = False,
    transfer: Transfer = PATIENT,
) -> Published:
    """Write every file of `folder` below `s3://bucket/prefix`, the file `manifest` last.

    Who sees the manifest can read all the rest. Objects that are there already with the same content are not
    sent again, so a broken run goes on where it stopped. Of two writers with different files one wins, and
    the other is told. What a manifest stands over never changes; with `replace` another manifest may take
    its place, over new objects of other names. A manifest may stand `alone`, where there need be no data.

    Raises:
        DdmError: no manifest, nothing beside it, another writer, another set is published there, or as
            `ddm_core.storage.upload`.
    """
    bucket, prefix = split_uri(uri)
    root = f"s3://{bucket}/{prefix}"
    contents = _measure_all(folder, manifest, transfer, alone=alone)
    digest = combined_digest((name, str(content.sha256)) for name, content in contents.items())
    with _claimed(root, digest, transfer):
        standing = find(root + manifest, transfer=transfer)
        other = standing is not None and not standing.is_same(contents[manifest])
        if other and not replace:
            raise DdmError(f"{root}{manifest}: another set is published there; publish to another prefix")

        def send(name: str) -> bool:
            there = find(root + name, transfer=transfer)
            if there is not None and there.is_same(contents[name]):
                return False
            if there is not None and other:
                raise DdmError(f"{root}{name}: is part of a published set; give the new file another name")
            upload_measured(folder / name, contents[name], root + name, transfer=transfer)
            return True

        sent = in_parallel(send, [name for name in contents if name != manifest], "publish")
        # Another process with the same files may have ended first, and taken the claim with it.
        now = find(root + manifest, transfer=transfer)
        if now is None or not now.is_same(contents[manifest]):
            _require_claim(root, digest, transfer)
            _put_manifest(folder / manifest, root + manifest, standing, transfer)
            sent.append(True)
    total = sum(content.bytes for content in contents.values())
    return Published(sum(sent), len(contents) - sum(sent), total)


def _measure_all(folder: Path, manifest: str, transfer: Transfer, *, alone: bool) -> dict[str, Content]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != OUTPUT_MARK)
    names = [path.relative_to(folder).as_posix() for path in files]
    if manifest not in names:
        raise DdmError(f"{folder / manifest}: not found; publish a folder that is finished")
    if len(names) == 1 and not alone:
        raise DdmError(f"{folder}: holds nothing but {manifest}; publish a folder that is finished")
    return {name: measure(folder / name, transfer) for name in names}


def _put_manifest(path: Path, uri: str, standing: Content | None, transfer: Transfer) -> None:
    if not put_if(path.read_bytes(), uri, replaces=standing.tag if standing else None, transfer=transfer):
        raise DdmError(f"{uri}: another writer was first; read what is there, or publish to another prefix")


@contextmanager
def _claimed(root: str, digest: str, transfer: Transfer) -> Iterator[None]:
    """Hold the claim on a prefix. A process that dies leaves it; the same files take it up again."""
    if not put_if(digest.encode(), root + CLAIM, transfer=transfer):
        raise DdmError(
            f"{root}: another writer is publishing other files there; wait for it,"
            f" or delete {root}{CLAIM} if that writer is dead"
        )
    try:
        yield
    except BaseException:
        with suppress(DdmError):  # what went wrong first is what people must read
            delete(root + CLAIM, transfer=dataclasses.replace(transfer, attempts=1))
        raise
    delete(root + CLAIM, transfer=transfer)


def _require_claim(root: str, digest: str, transfer: Transfer) -> None:
    """Somebody who took this writer for dead may have gone ahead."""
    if find(root + CLAIM, transfer=transfer) is None:
        raise DdmError(f"{root}{CLAIM}: was deleted meanwhile; run again, what is there is not sent again")
    with open_stream(root + CLAIM, transfer=transfer) as claim:
        if claim.read() != digest.encode():
            raise DdmError(f"{root}: another writer has taken over; read what it publishes")
