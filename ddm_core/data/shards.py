"""The photos of a prepared dataset in memory, read from its shards and verified."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ddm_core.data.manifest import MANIFEST_NAME, Manifest, ShardRecord, read_manifest
from ddm_core.data.photo_table import PhotoRecord
from ddm_core.data.splits import Split
from ddm_core.data.tar_shards import Stored, decode_stored, read_shard
from ddm_core.errors import DdmError

if TYPE_CHECKING:
    from torch import Tensor


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


def load_photos(prepared: Path, *, split: Split, by: Literal["image", "identity"] = "image") -> PhotoSet:
    """Load one split of a prepared dataset; `by` chooses the split by photo or by person.

    Raises:
        DdmError: no manifest, no photo in the split, or a shard that is missing or damaged.
    """
    import torch

    manifest = read_manifest(prepared)
    wanted = manifest.photos.of_split(split, by)
    if not wanted:
        raise DdmError(f"{prepared}: no photo in the {split} split by {by}; give more photos a person")
    label_of = {identity: label for label, identity in enumerate(manifest.identities)}
    return PhotoSet(
        images=_read_pixels(prepared, manifest, wanted),
        labels=torch.tensor([label_of[photo.identity] for photo in wanted], dtype=torch.int64),
        identities=manifest.identities,
        keys=tuple(photo.key for photo in wanted),
    )


def _read_pixels(prepared: Path, manifest: Manifest, photos: Sequence[PhotoRecord]) -> Tensor:
    """Return uint8 [photos, channels, size, size], opening only the shards that hold these photos."""
    import torch

    params = manifest.params
    images = torch.empty(
        (len(photos), params.channels, params.image_size, params.image_size), dtype=torch.uint8
    )
    pixels = images.numpy()
    shards = {shard.name: shard for shard in manifest.shards}
    places: dict[str, dict[str, int]] = defaultdict(dict)
    for place, photo in enumerate(photos):
        places[photo.shard][photo.key] = place
    for name, place_of in places.items():
        path = prepared / name
        if name not in shards:
            raise DdmError(f"{prepared / MANIFEST_NAME}: knows no shard '{name}'; run ddm prepare again")
        for stored in _read_local(path, shards[name]):
            if stored.key in place_of:
                pixels[place_of.pop(stored.key)] = decode_stored(stored.png, str(path))
        if place_of:
            raise DdmError(f"{path}: holds no '{min(place_of)}.png'; run ddm prepare again")
    return images


def _read_local(path: Path, shard: ShardRecord) -> Iterator[Stored]:
    try:
        with path.open("rb") as file:
            yield from read_shard(file, shard, str(path))
    except OSError as error:
        raise DdmError(f"{path}: cannot be read ({error.strerror}); run ddm prepare again") from None
