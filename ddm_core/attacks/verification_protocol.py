"""The pairs of LFW's view 2 as the verification attacker gets them: ten folds, half of each one person twice.

They are those of `protocol/pairs.txt` among the prepared photos, or those of `protocol/lfw.bin`, which holds
pictures of its own. Of a set that has both, pairs.txt counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddm_core.attacks.verification_pairs import Pairs
from ddm_core.data import lfw_bin
from ddm_core.data.imaging import decode
from ddm_core.data.lfw_protocol import PairFolds, read_pairs
from ddm_core.data.manifest import Manifest, read_manifest
from ddm_core.data.raw import Rejected
from ddm_core.data.sources import LFW_BIN_NAME, PROTOCOL_FOLDER
from ddm_core.errors import DdmError
from ddm_core.files import sha256_file

if TYPE_CHECKING:
    from ddm_core.data.shards import PhotoSet
    from ddm_core.params import PrepareParams

PAIRS_NAME = "pairs.txt"


@dataclass(frozen=True)
class VerificationSet:
    """Pairs of places in `images`, uint8 [photos, c, h, w], and the labels of the people that they show.

    Nobody may train on these people. The people of lfw.bin have no labels: `fetch.exclude_people` keeps them
    out of the prepared photos.
    """

    images: Tensor
    pairs: Pairs
    people: frozenset[int]


def load_verification_set(prepared: Path, train: PhotoSet, test: PhotoSet) -> VerificationSet:
    """Return the pairs that the prepared dataset carries; `train` and `test` are its photos.

    Raises:
        DdmError: it carries none; they were changed since; one of their photos is missing or unreadable.
    """
    manifest = read_manifest(prepared)
    if path := _protocol_file(prepared, manifest, PAIRS_NAME):
        return _of_photos(path, manifest, train, test)
    if path := _protocol_file(prepared, manifest, LFW_BIN_NAME):
        return _of_pictures(path, manifest.params)
    raise DdmError(
        f"{prepared}: carries no pairs of LFW; name pairs.txt in fetch.lists, or lfw.bin in"
        " fetch.verification, or set attack.verification_protocol to drawn"
    )


def _protocol_file(prepared: Path, manifest: Manifest, name: str) -> Path | None:
    expected = (manifest.protocol or {}).get(name)
    if expected is None:
        return None
    path = prepared / PROTOCOL_FOLDER / name
    if not path.is_file() or sha256_file(path) != expected:
        raise DdmError(f"{path}: missing or changed since ddm prepare; run it again")
    return path


def _of_photos(path: Path, manifest: Manifest, train: PhotoSet, test: PhotoSet) -> VerificationSet:
    place_of_key = {key: place for place, key in enumerate(train.keys + test.keys)}
    place_of = {photo.source: place_of_key[photo.key] for photo in manifest.photos}
    folds = read_pairs(path)
    missing = sorted({name for name in _names(folds) if name not in place_of})
    if missing:
        raise DdmError(
            f"{path}: {len(missing)} of its photos are not among the prepared ones, such as {missing[0]};"
            " a result without them would not be LFW's: complete the set"
        )
    labels = torch.cat([train.labels, test.labels])
    people = frozenset(int(labels[place_of[name]]) for name in _names(folds))
    return VerificationSet(torch.cat([train.images, test.images]), _pairs(folds, place_of), people)


def _of_pictures(path: Path, params: PrepareParams) -> VerificationSet:
    folds = lfw_bin.read_pairs(path)
    images: list[NDArray[numpy.uint8]] = []
    place_of: dict[str, int] = {}
    for photo in lfw_bin.read(path):
        if isinstance(photo, Rejected):
            raise DdmError(f"{path}: {photo.relative} is {photo.reason}")
        try:
            pixels = decode(
                photo.content, image_size=params.image_size, channels=params.channels, square=params.square
            )
        except DdmError as error:
            raise DdmError(f"{path}: {photo.relative}: {error}") from None
        place_of[photo.relative] = len(images)
        images.append(pixels)
    return VerificationSet(torch.from_numpy(numpy.stack(images)), _pairs(folds, place_of), frozenset())


def _names(folds: PairFolds) -> Iterator[str]:
    return (name for fold in folds for pair in fold for name in (pair.first, pair.second))


def _pairs(folds: PairFolds, place_of: dict[str, int]) -> Pairs:
    pairs = [pair for fold in folds for pair in fold]
    return Pairs(
        first=numpy.array([place_of[pair.first] for pair in pairs]),
        second=numpy.array([place_of[pair.second] for pair in pairs]),
        same=numpy.array([pair.same for pair in pairs]),
        fold=numpy.repeat(numpy.arange(len(folds)), [len(fold) for fold in folds]),
    )
