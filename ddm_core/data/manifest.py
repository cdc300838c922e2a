"""The prepared dataset's manifest: what is in it, where each photo came from, and digests of everything.

`prepared/manifest.json`, schema version 1, holds exactly the fields of `Manifest`:

- `schema_version`: 1.
- `dataset_digest`: SHA-256 over image size, channels, and per photo key, identity, both splits and pixels;
  equal digests mean that training and attacks see the same data, whatever the files looked like.
- `metadata`: what the raw folder says of itself: `source`, `credit`.
- `params`: the prepare section that made it.
- `counts`: files `found` = `read` + `quarantined`; photos and people of each split.
- `identities`: the people, sorted; a person's place in this list is the label.
- `photos`: one record a photo, sorted by key.
- `quarantined`: the unreadable files and why.
- `shards`: the tar files that hold the pixels.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddm_core.data.splits import Split
from ddm_core.errors import DdmError
from ddm_core.files import read_json, sha256_bytes, write_json
from ddm_core.params import PrepareParams
from ddm_core.strict import parse

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class PhotoRecord:
    """One photo.

    `source` is relative to the raw folder; `source_sha256` is of that file, `pixel_sha256` of the decoded
    uint8 [channels, size, size]; `shard` names the tar file that holds `<key>.png`.
    """

    key: str
    identity: str
    split: Split
    identity_split: Split
    source: str
    source_sha256: str
    pixel_sha256: str
    shard: str


@dataclass(frozen=True)
class QuarantinedFile:
    """A file that could not be read as a photo, and the reason in one line."""

    source: str
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """One tar file of the dataset."""

    name: str
    sha256: str
    bytes: int
    photos: int


@dataclass(frozen=True)
class Counts:
    """Files found = read + quarantined; photos per split, and people (`identities`) per identity split."""

    found: int
    read: int
    quarantined: int
    train: int
    test: int
    identities: int
    identity_train: int
    identity_test: int
    identity_train_photos: int
    identity_test_photos: int


@dataclass(frozen=True)
class Manifest:
    """The whole manifest; the module's docstring explains each field."""

    schema_version: int
    dataset_digest: str
    metadata: dict[str, str]
    params: PrepareParams
    counts: Counts
    identities: tuple[str, ...]
    photos: tuple[PhotoRecord, ...]
    quarantined: tuple[QuarantinedFile, ...]
    shards: tuple[ShardRecord, ...]


def make_manifest(
    params: PrepareParams,
    metadata: dict[str, str],
    photos: Sequence[PhotoRecord],
    quarantined: Sequence[QuarantinedFile],
    shards: Sequence[ShardRecord],
) -> Manifest:
    """Return the manifest with its counts and digest worked out."""
    photos = sorted(photos, key=lambda photo: photo.key)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        dataset_digest=dataset_digest(params, photos),
        metadata=metadata,
        params=params,
        counts=_count(photos, quarantined),
        identities=tuple(sorted({photo.identity for photo in photos})),
        photos=tuple(photos),
        quarantined=tuple(quarantined),
        shards=tuple(shards),
    )


def dataset_digest(params: PrepareParams, photos: Sequence[PhotoRecord]) -> str:
    """Return the SHA-256 over what training and attacks see of a dataset."""
    seen = [
        [photo.key, photo.identity, photo.split, photo.identity_split, photo.pixel_sha256] for photo in photos
    ]
    content = [SCHEMA_VERSION, params.image_size, params.channels, seen]
    return sha256_bytes(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


def write_manifest(prepared: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into the folder `prepared`."""
    write_json(prepared / MANIFEST_NAME, dataclasses.asdict(manifest))


def read_manifest(prepared: Path) -> Manifest:
    """Read and check the manifest of a prepared dataset.

    Raises:
        DdmError: missing, not ours, of another schema version, or edited so that the digest no longer fits.
    """
    path = prepared / MANIFEST_NAME
    content = read_json(path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise DdmError(
            f"{path}: schema version {version!r}, expected {SCHEMA_VERSION}; run ddm prepare again"
        )
    manifest = parse(content, Manifest, str(path))
    if dataset_digest(manifest.params, manifest.photos) != manifest.dataset_digest:
        raise DdmError(f"{path}: the photos do not fit dataset_digest; run ddm prepare again")
    return manifest


def _count(photos: Sequence[PhotoRecord], quarantined: Sequence[QuarantinedFile]) -> Counts:
    split = Counter(photo.split for photo in photos)
    identity_split = Counter(photo.identity_split for photo in photos)
    people = Counter({photo.identity: photo.identity_split for photo in photos}.values())
    return Counts(
        found=len(photos) + len(quarantined),
        read=len(photos),
        quarantined=len(quarantined),
        train=split["train"],
        test=split["test"],
        identities=people.total(),
        identity_train=people["train"],
        identity_test=people["test"],
        identity_train_photos=identity_split["train"],
        identity_test_photos=identity_split["test"],
    )
