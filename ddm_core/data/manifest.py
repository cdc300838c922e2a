"""The prepared dataset's manifest: what is in it, where each photo came from, and digests of everything.

`prepared/manifest.json`, schema version 2, holds exactly the fields of `Summary`:

- `schema_version`: 2.
- `dataset_digest`: SHA-256 over image size, channels, and per photo key, identity, both splits and pixels;
  equal digests mean that training and attacks see the same data, whatever the files looked like.
- `metadata`: what the raw folder says of itself: `source`, `credit`, and if known `licence` and `origin`.
- `fetched`: what became of everything in the source (`ddm_core.data.sources.SourceCounts`), people left out
  and dead links too; not there if no `ddm fetch` laid the photos, or a package carries them.
- `params`: the prepare section that made it.
- `counts`: files `found` in the raw folder or rejected by fetch = `read` + `quarantined`; photos and people
  of each split.
- `identities`: the people, sorted; a person's place in this list is the label.
- `quarantined`: the files that are no photos of the set, and why.
- `protocol`: SHA-256 of each file in `prepared/protocol`: LFW's lists or lfw.bin; not there without any.
- `shards`: the tar files that hold the pixels, sorted by name.

The single photos lie beside it, see `ddm_core.data.photo_table`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_core.data.photo_table import PHOTOS_NAME, Counts, PhotoRecord, PhotoTable, Tally, read_photos
from ddm_core.data.sources import RawSource, SourceCounts
from ddm_core.errors import DdmError
from ddm_core.files import read_json, write_json
from ddm_core.params import PrepareParams
from ddm_core.strict import parse

__all__ = [
    "Counts",
    "Manifest",
    "PhotoRecord",
    "QuarantinedFile",
    "ShardRecord",
    "Summary",
    "make_summary",
    "parse_summary",
    "read_manifest",
    "read_summary",
    "write_summary",
]

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class QuarantinedFile:
    """A file that could not be read as a photo, and the reason in one line."""

    source: str
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """One tar file of the dataset; `bytes` is its size."""

    name: str
    sha256: str
    bytes: int
    photos: int


@dataclass(frozen=True)
class Summary:
    """Everything but the single photos; the module's docstring explains each field."""

    schema_version: int
    dataset_digest: str
    metadata: dict[str, str]
    params: PrepareParams
    counts: Counts
    identities: tuple[str, ...]
    quarantined: tuple[QuarantinedFile, ...]
    shards: tuple[ShardRecord, ...]
    fetched: SourceCounts | None = None
    protocol: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest(Summary):
    """The summary and the photos, sorted by key."""

    photos: PhotoTable


def make_summary(
    params: PrepareParams,
    about: RawSource | None,
    tally: Tally,
    quarantined: tuple[QuarantinedFile, ...],
    shards: tuple[ShardRecord, ...],
    *,
    found: int,
    protocol: dict[str, str],
) -> Summary:
    """Return the summary of the photos that `tally` has seen; `about` is the raw folder's `source.json`."""
    metadata = {"source": about.source, "credit": about.credit, "origin": about.origin} if about else {}
    return Summary(
        schema_version=SCHEMA_VERSION,
        dataset_digest=tally.dataset_digest(),
        metadata={name: value for name, value in metadata.items() if value is not None},
        params=params,
        counts=tally.counts(found, len(quarantined)),
        identities=tally.identities(),
        quarantined=quarantined,
        shards=shards,
        fetched=about.counts if about else None,
        protocol=protocol or None,
    )


def write_summary(prepared: Path, summary: Summary) -> None:
    """Write `manifest.json` into the folder `prepared`."""
    content = {name: value for name, value in dataclasses.asdict(summary).items() if value is not None}
    write_json(prepared / MANIFEST_NAME, content)


def read_summary(prepared: Path) -> Summary:
    """Read the manifest of a prepared dataset without its photos.

    Raises:
        DdmError: missing, not ours, or of another schema version.
    """
    path = prepared / MANIFEST_NAME
    return parse_summary(read_json(path), str(path))


def parse_summary(content: Any, where: str) -> Summary:  # noqa: ANN401 - any JSON value
    """Turn the content of `manifest.json` into a summary; `where` names it in messages.

    Raises:
        DdmError: not ours, or of another schema version.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise DdmError(
            f"{where}: schema version {version!r}, expected {SCHEMA_VERSION}; run ddm prepare again"
        )
    return parse(content, Summary, where)


def read_manifest(prepared: Path) -> Manifest:
    """Read and check the manifest of a prepared dataset, photos and all.

    Raises:
        DdmError: missing, not ours, of another schema version, or edited so that digest or counts no longer
            fit the photos.
    """
    summary = read_summary(prepared)
    photos, tally = read_photos(prepared, summary.params)
    path = prepared / PHOTOS_NAME
    if tally.dataset_digest() != summary.dataset_digest:
        raise DdmError(f"{path}: the photos do not fit dataset_digest; run ddm prepare again")
    counts = tally.counts(summary.counts.found, len(summary.quarantined))
    if counts != summary.counts or counts.found != counts.read + counts.quarantined:
        raise DdmError(f"{path}: the photos do not fit the manifest's counts; run ddm prepare again")
    return Manifest(**vars(summary), photos=photos)
