"""Parts joined to a dataset: quarantine, splits, shards, the table of photos and the manifest.

No photo is held in memory, and of each one only what the splits need: its name and the digest of its pixels.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddm_core.data.manifest import QuarantinedFile, ShardRecord, Summary, make_summary, write_summary
from ddm_core.data.parts import Task, read_members, read_photos, read_quarantined
from ddm_core.data.photo_table import Counts, PhotoRecord, Tally, write_photos
from ddm_core.data.regions import read_rejected
from ddm_core.data.sources import PROTOCOL_FOLDER, Listing, is_own, read_source
from ddm_core.data.splits import Split, SplitItem, split_by_identity, split_by_image
from ddm_core.data.tar_shards import ShardWriter, tar_member
from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, sha256_file
from ddm_core.params import PrepareParams


@dataclass(frozen=True)
class _Splits:
    """Split by image: source path -> split. Split by identity: person -> split."""

    by_image: dict[str, Split]
    by_identity: dict[str, Split]


def merge_parts(
    params: PrepareParams, *, raw: Path, listing: Listing, found: int, tasks: Sequence[Task], prepared: Path
) -> Summary:
    """Write the dataset of the finished parts `tasks`, all of it at once; return its summary.

    `found` files were counted in `raw`.

    Raises:
        DdmError: too many unreadable files, too few people or photos for a split, or files that are neither
            read nor quarantined.
    """
    quarantined = _quarantined(params, raw, listing, tasks)
    splits = _split(params, raw, tasks)
    # The parts pass a second time: the first shard could not be written before all pixels were known.
    with atomic_directory(prepared) as temporary:
        tally, shards = _write(params, tasks, splits, temporary)
        summary = make_summary(
            params,
            read_source(raw),
            tally,
            quarantined,
            shards,
            found=found + len(read_rejected(raw)),
            protocol=_copy_protocol(raw, temporary),
        )
        _refuse_unaccounted(raw, summary.counts)
        write_summary(temporary, summary)
    return summary


def _refuse_unaccounted(raw: Path, counts: Counts) -> None:
    if counts.found != counts.read + counts.quarantined:
        raise DdmError(
            f"{raw}: {counts.found} files were found, {counts.read} read, {counts.quarantined} quarantined;"
            " the folder changed meanwhile: run ddm prepare again"
        )


def _copy_protocol(raw: Path, folder: Path) -> dict[str, str]:
    """Take over the lists that fetch kept; return the SHA-256 of each."""
    place = raw / PROTOCOL_FOLDER
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    kept = [name for name in names if is_own(f"{PROTOCOL_FOLDER}/{name}")]
    for name in kept:
        (folder / PROTOCOL_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(place / name, folder / PROTOCOL_FOLDER / name)
    return {name: sha256_file(folder / PROTOCOL_FOLDER / name) for name in kept}


def _quarantined(
    params: PrepareParams, raw: Path, listing: Listing, tasks: Sequence[Task]
) -> tuple[QuarantinedFile, ...]:
    """Return every file that is no photo, also those that were rejected when the raw folder was laid.

    Only those with a photo's name count for max_bad_fraction: others are no loss.
    """
    bad = [QuarantinedFile(file.relative, file.reason) for file in listing.rejected]
    for task in tasks:
        bad += read_quarantined(task.folder)
    bad.sort(key=lambda file: file.source)
    for file in bad:
        print(f"quarantined {file.source}: {file.reason}", file=sys.stderr)
    found = len(listing.photos) + len(listing.rejected)
    if len(bad) > params.max_bad_fraction * found:
        first = "; ".join(f"{file.source}: {file.reason}" for file in bad[:3])
        raise DdmError(
            f"{raw}: {len(bad)} of {found} files are unreadable, {len(bad) / found:.2%}, more than"
            f" max_bad_fraction {params.max_bad_fraction:.2%}; mend them or raise it (first: {first})"
        )
    if listing.others:
        print(f"quarantined {len(listing.others)} files that are no photos by their names", file=sys.stderr)
    others = (*listing.others, *read_rejected(raw))
    bad += (QuarantinedFile(file.relative, file.reason) for file in others)
    return tuple(sorted(bad, key=lambda file: file.source))


def _split(params: PrepareParams, raw: Path, tasks: Sequence[Task]) -> _Splits:
    known: dict[str, str] = {}  # a person's name is kept once
    items = [
        SplitItem(photo.source, known.setdefault(photo.identity, photo.identity), photo.pixel_sha256)
        for task in tasks
        for photo in read_photos(task.folder)
    ]
    people = sorted(known)
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


def _write(
    params: PrepareParams, tasks: Sequence[Task], splits: _Splits, folder: Path
) -> tuple[Tally, tuple[ShardRecord, ...]]:
    """Write the shards and the table of photos."""
    with (
        ShardWriter(folder, "train", params.shard_megabytes) as train,
        ShardWriter(folder, "test", params.shard_megabytes) as test,
    ):
        photos = _store(tasks, splits, {"train": train, "test": test})
        tally = write_photos(folder, params, photos)
    return tally, tuple(sorted(train.records + test.records, key=lambda shard: shard.name))


def _store(
    tasks: Sequence[Task], splits: _Splits, writers: Mapping[Split, ShardWriter]
) -> Iterator[PhotoRecord]:
    """Put every photo into a shard, and yield what is known of it."""
    labels = {identity: label for label, identity in enumerate(sorted(splits.by_identity))}
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
    for task in tasks:
        for photo, png in read_members(task.folder):
            key, identity, source, source_sha256, pixel_sha256, _ = photo
            split, identity_split = splits.by_image[source], splits.by_identity[identity]
            description = {
                "identity": identity,
                "label": labels[identity],
                "split": split,
                "identity_split": identity_split,
                "source": source,
            }
            shard = writers[split].add(tar_member(f"{key}.json", encode(description).encode()) + png)
            yield PhotoRecord(
                key, identity, split, identity_split, source, source_sha256, pixel_sha256, shard
            )
