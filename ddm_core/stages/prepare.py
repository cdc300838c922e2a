"""Stage prepare: raw photos to squares of one size, splits, tar shards and a manifest.

The manifest's schema is documented in `ddm_core.data.manifest`, the shards' in `ddm_core.data.shards`.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ddm_core.data.imaging import decode, encode_png
from ddm_core.data.manifest import (
    Counts,
    PhotoRecord,
    QuarantinedFile,
    ShardRecord,
    make_manifest,
    write_manifest,
)
from ddm_core.data.shards import write_shards
from ddm_core.data.sources import SOURCE_NAME, RawSource, SourceFile, list_photos
from ddm_core.data.splits import Split, SplitItem, split_by_identity, split_by_image
from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, read_json, sha256_bytes
from ddm_core.params import PrepareParams
from ddm_core.strict import parse


@dataclass(frozen=True)
class PrepareResult:
    """The digest that names the dataset, and its counts."""

    dataset_digest: str
    counts: Counts


@dataclass(frozen=True)
class _Decoded:
    """A readable photo; its PNG lies in the spool at `offset`, `length` bytes long."""

    key: str
    file: SourceFile
    source_sha256: str
    pixel_sha256: str
    offset: int
    length: int


@dataclass(frozen=True)
class _Splits:
    """Split by image: source path -> split. Split by identity: person -> split."""

    by_image: dict[str, Split]
    by_identity: dict[str, Split]


def run(params: PrepareParams, *, raw: Path, prepared: Path) -> PrepareResult:
    """Make the dataset in the folder `prepared`; an earlier one stays untouched unless this run ends well.

    Unreadable files are named on stderr and in the manifest; `max_bad_fraction` bounds their share.

    Raises:
        DdmError: no photos, too many unreadable ones, or too few people or photos for a split.
    """
    files = list_photos(raw)
    metadata = _read_metadata(raw)
    prepared.parent.mkdir(parents=True, exist_ok=True)
    # Splits need every photo's pixel digest before the first shard is written; the spool holds the pixels
    # until then, on disk because a collection need not fit into memory. It has no name: a kill leaves none.
    with tempfile.TemporaryFile(dir=prepared.parent) as spool:
        decoded, quarantined = _decode_all(params, raw, files, spool)
        _check_quarantine(params, raw, len(files), quarantined)
        splits = _split(params, raw, decoded)
        with atomic_directory(prepared) as temporary:
            shard_of = _write_shards(params, temporary, decoded, splits, spool)
            records = [_record(photo, splits, shard_of[photo.key].name) for photo in decoded]
            shards = sorted(set(shard_of.values()), key=lambda shard: shard.name)
            manifest = make_manifest(params, metadata, records, quarantined, shards)
            write_manifest(temporary, manifest)
    return PrepareResult(manifest.dataset_digest, manifest.counts)


def _read_metadata(raw: Path) -> dict[str, str]:
    """Return what the raw folder says of itself; a folder that was not laid by fetch says nothing."""
    path = raw / SOURCE_NAME
    if not path.exists():
        return {}
    return dataclasses.asdict(parse(read_json(path), RawSource, str(path)))


def _decode_all(
    params: PrepareParams, raw: Path, files: Sequence[SourceFile], spool: IO[bytes]
) -> tuple[list[_Decoded], list[QuarantinedFile]]:
    from tqdm import tqdm

    decoded: list[_Decoded] = []
    quarantined: list[QuarantinedFile] = []
    for index, file in enumerate(tqdm(files, desc="prepare", unit="photo")):
        try:
            decoded.append(_decode_one(params, raw, f"{index:08}", file, spool))
        except DdmError as error:
            quarantined.append(QuarantinedFile(file.relative, str(error)))
            tqdm.write(f"quarantined {file.relative}: {error}", file=sys.stderr)
    return decoded, quarantined


def _decode_one(params: PrepareParams, raw: Path, key: str, file: SourceFile, spool: IO[bytes]) -> _Decoded:
    try:
        content = (raw / file.relative).read_bytes()
    except OSError as error:
        raise DdmError(f"cannot be read ({error.strerror}); replace it") from None
    pixels = decode(content, image_size=params.image_size, channels=params.channels, square=params.square)
    offset, png = spool.tell(), encode_png(pixels)
    spool.write(png)
    return _Decoded(key, file, sha256_bytes(content), sha256_bytes(pixels.tobytes()), offset, len(png))


def _check_quarantine(
    params: PrepareParams, raw: Path, found: int, quarantined: Sequence[QuarantinedFile]
) -> None:
    bad = len(quarantined)
    if bad > params.max_bad_fraction * found:
        first = "; ".join(f"{file.source}: {file.reason}" for file in quarantined[:3])
        raise DdmError(
            f"{raw}: {bad} of {found} files are unreadable, {bad / found:.2%}, more than max_bad_fraction"
            f" {params.max_bad_fraction:.2%}; mend them or raise it (first: {first})"
        )


def _split(params: PrepareParams, raw: Path, decoded: Sequence[_Decoded]) -> _Splits:
    items = [SplitItem(photo.file.relative, photo.file.identity, photo.pixel_sha256) for photo in decoded]
    people = sorted({item.identity for item in items})
    if len(people) < 2:
        raise DdmError(
            f"{raw}: readable photos of {len(people)} people {people}, at least 2 are needed; the folder's"
            " first level must be the people's names"
        )
    by_image = split_by_image(items, params.test_fraction, params.seed)
    if "test" not in by_image.values():
        raise DdmError(
            f"{raw}: no person has enough different photos for a test photo at test_fraction"
            f" {params.test_fraction}; add photos or raise test_fraction"
        )
    by_identity = split_by_identity(items, params.identity_test_fraction, params.seed)
    if "test" not in by_identity.values():
        raise DdmError(
            f"{raw}: too many people share the same photos, none is left for the test split by identity;"
            " remove the duplicates or raise identity_test_fraction"
        )
    return _Splits(by_image, by_identity)


def _write_shards(
    params: PrepareParams, folder: Path, decoded: Sequence[_Decoded], splits: _Splits, spool: IO[bytes]
) -> dict[str, ShardRecord]:
    """Write the shards of both splits by image and return key -> shard."""
    labels = {identity: label for label, identity in enumerate(sorted(splits.by_identity))}

    def members(split: Split) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        for photo in decoded:
            if splits.by_image[photo.file.relative] == split:
                spool.seek(photo.offset)
                description = {
                    "identity": photo.file.identity,
                    "label": labels[photo.file.identity],
                    "split": split,
                    "identity_split": splits.by_identity[photo.file.identity],
                    "source": photo.file.relative,
                }
                yield photo.key, spool.read(photo.length), description

    train = write_shards(members("train"), folder, "train", params.shard_megabytes)
    return train | write_shards(members("test"), folder, "test", params.shard_megabytes)


def _record(photo: _Decoded, splits: _Splits, shard: str) -> PhotoRecord:
    return PhotoRecord(
        key=photo.key,
        identity=photo.file.identity,
        split=splits.by_image[photo.file.relative],
        identity_split=splits.by_identity[photo.file.identity],
        source=photo.file.relative,
        source_sha256=photo.source_sha256,
        pixel_sha256=photo.pixel_sha256,
        shard=shard,
    )
