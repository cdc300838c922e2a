"""The pretrained attacker: a face embedding that others trained, and a gallery of clean photos.

Whoever is named is the person with the clean training photo nearest to the obfuscated one. The attacker
trains nothing. It first names clean photos: an embedding that fails there would prove nothing here.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ddm_core.attacks.applicability import DoesNotApplyError
from ddm_core.attacks.face_embedding import NOT_INSTALLED, embed_faces, is_installed
from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.attacks.recognition import RANKS
from ddm_core.data.shards import PhotoSet
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.results import CleanLevel

STRONG_ENOUGH = 0.9  # top-1 on clean photos
ARCHITECTURE = "dlib_resnet"


def pretrained(target: Target) -> Outcome:
    """Name the people in the obfuscated test photos by the nearest clean training photo.

    Raises:
        DoesNotApplyError: the extra is not installed, or the embedding is too weak on these clean photos.
    """
    if not is_installed():
        raise DoesNotApplyError(NOT_INSTALLED)
    gallery = _embed_gallery(target.train)
    top1 = clean_level(gallery, target.train.labels)
    level = CleanLevel(top1, STRONG_ENOUGH, top1 >= STRONG_ENOUGH)
    if not level.strong_enough:
        raise DoesNotApplyError(
            f"the pretrained embedding is too weak to count: it names {top1:.1%} of the clean training "
            f"photos right from the others, and {STRONG_ENOUGH:.0%} is the least",
            level,
        )
    encrypted = encrypt_test_photos(target, "pretrained")
    vectors = embed_faces(encrypted.hidden)
    ranking = rank_by_nearest(vectors, gallery, target.train.labels, len(target.train.identities))
    return Outcome(encrypted.labels, ranking, architecture=ARCHITECTURE, clean_level=level)


def clean_level(gallery: Tensor, labels: Tensor) -> float:
    """Return how often the nearest other gallery photo shows the same person, a fraction.

    Photos of people with no second one are left out; 0 where there are no others.
    """
    distances = torch.cdist(gallery, gallery).fill_diagonal_(math.inf)
    several = labels.bincount()[labels] > 1
    hits = labels[distances.argmin(1)] == labels
    return float(hits[several].double().mean()) if several.any() else 0.0


def rank_by_nearest(vectors: Tensor, gallery: Tensor, labels: Tensor, identities: int) -> Tensor:
    """Return the people nearest to each vector by their nearest gallery photo, int64 [n, up to 5]."""
    ranked = []
    for part in in_chunks(len(vectors)):
        distances = torch.cdist(vectors[part], gallery)
        nearest = torch.full((len(distances), identities), math.inf)
        nearest.scatter_reduce_(1, labels.expand(len(distances), -1), distances, "amin")
        ranked.append(nearest.argsort(dim=1, stable=True)[:, :RANKS])
    return torch.cat(ranked)


def _embed_gallery(photos: PhotoSet) -> Tensor:
    return _embed_once(photos.images.shape, photos.images.numpy().tobytes())


@functools.lru_cache(maxsize=1)  # one gallery serves every obfuscator that is attacked with the same photos
def _embed_once(shape: torch.Size, pixels: bytes) -> Tensor:
    return embed_faces(as_float(torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(shape)))
