"""Deterministic tar shards in the WebDataset layout, and their verified reader.

A shard is a plain tar file whose members come in pairs, `<key>.png` (the pixels, lossless) and
`<key>.json` (identity, label, splits, source), sorted by key, without times or owners. Photos of the train
split by image lie in `train-NNNNNN.tar`, those of the test split in `test-NNNNNN.tar`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddm_core.data.imaging import decode
from ddm_core.data.manifest import MANIFEST_NAME, Manifest, PhotoRecord, ShardRecord, read_manifest
from ddm_core.data.splits import Split
from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes, sha256_file

if TYPE_CHECKING:
    from torch import Tensor

TAR_BLOCK = 512  # bytes


@dataclass(frozen=True)
class PhotoSet:
    """Photos in memory: uint8 images [photos, channels, size, size] and int64 labels [photos].

    A label is the place of the person in `identities`, which lists the whole dataset's people, so labels
    mean the same in every split. `keys` name the photos as the manifest does; all are in the order of keys.
    """

    images: Tensor
    labels: Tensor
    identities: tuple[str, ...]
    keys: tuple[str, ...]


def write_shards(
    photos: Iterable[tuple[str, bytes, dict[str, Any]]], folder: Path, prefix: str, megabytes: int
) -> dict[str, ShardRecord]:
    """Write (key, PNG bytes, description) triples to `<prefix>-000000.tar`, ... and return key -> shard.

    A shard holds at most `megabytes` (of 10^6 bytes), or one photo that is larger by itself.
    """
    shard_of: dict[str, ShardRecord] = {}
    for index, members in enumerate(_batches(photos, megabytes * 10**6)):
        path = folder / f"{prefix}-{index:06}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in members:
                header = tarfile.TarInfo(name)  # times and owners are zero, the mode is 0644
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
        keys = [name.removesuffix(".png") for name, _ in members if name.endswith(".png")]
        record = ShardRecord(path.name, sha256_file(path), path.stat().st_size, len(keys))
        shard_of.update(dict.fromkeys(keys, record))
    return shard_of


def load_photos(prepared: Path, *, split: Split, by: Literal["image", "identity"] = "image") -> PhotoSet:
    """Load one split of a prepared dataset; `by` chooses the split by photo or by person.

    Raises:
        DdmError: no manifest, no photo in the split, or a shard that is missing or damaged.
    """
    import numpy
    import torch

    manifest = read_manifest(prepared)
    wanted = [p for p in manifest.photos if (p.split if by == "image" else p.identity_split) == split]
    if not wanted:
        raise DdmError(f"{prepared}: no photo in the {split} split by {by}; give more photos a person")
    arrays = _read_pixels(prepared, manifest, wanted)
    label_of = {identity: label for label, identity in enumerate(manifest.identities)}
    return PhotoSet(
        images=torch.from_numpy(numpy.stack([arrays[photo.key] for photo in wanted])),
        labels=torch.tensor([label_of[photo.identity] for photo in wanted], dtype=torch.int64),
        identities=manifest.identities,
        keys=tuple(photo.key for photo in wanted),
    )


def _batches(
    photos: Iterable[tuple[str, bytes, dict[str, Any]]], limit: int
) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    filled = 0
    for key, png, description in photos:
        about = json.dumps(description, ensure_ascii=False, sort_keys=True).encode()
        pair = [(f"{key}.json", about), (f"{key}.png", png)]
        size = sum(TAR_BLOCK + -(-len(content) // TAR_BLOCK) * TAR_BLOCK for _, content in pair)
        if batch and filled + size > limit:
            yield batch
            batch, filled = [], 0
        batch += pair
        filled += size
    if batch:
        yield batch


def _read_pixels(prepared: Path, manifest: Manifest, photos: Iterable[PhotoRecord]) -> dict[str, Any]:
    """Return key -> uint8 [channels, size, size], opening only the shards that hold these photos."""
    shards = {shard.name: shard for shard in manifest.shards}
    photos_in: dict[str, list[PhotoRecord]] = defaultdict(list)
    for photo in photos:
        photos_in[photo.shard].append(photo)
    arrays: dict[str, Any] = {}
    for name, members in photos_in.items():
        if name not in shards:
            raise DdmError(f"{prepared / MANIFEST_NAME}: knows no shard '{name}'; run ddm prepare again")
        contents = _read_shard(prepared / name, shards[name], {f"{photo.key}.png" for photo in members})
        for photo in members:
            arrays[photo.key] = decode(
                contents[f"{photo.key}.png"],
                image_size=manifest.params.image_size,
                channels=manifest.params.channels,
                square="crop",
            )
    return arrays


def _read_shard(path: Path, record: ShardRecord, names: set[str]) -> dict[str, bytes]:
    """Return the named members of a shard whose SHA-256 is the one in the manifest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DdmError(f"{path}: cannot be read ({error.strerror}); run ddm prepare again") from None
    if sha256_bytes(content) != record.sha256:
        raise DdmError(f"{path}: damaged, its SHA-256 is not the manifest's; run ddm prepare again")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {member.name: tar.extractfile(member) for member in tar if member.name in names}
        contents = {name: file.read() for name, file in found.items() if file is not None}
    missing = names - contents.keys()
    if missing:
        raise DdmError(f"{path}: holds no '{min(missing)}'; run ddm prepare again")
    return contents
