"""How much of a person is in what an attacker rebuilds, beside what such a figure is worth.

A cosine between face embeddings has no scale of its own: faces are alike, so a picture of nobody scores too.
It is read against three references under the same embedding: the mean face, photos of two people, and two
photos of one person.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ddm_core.attacks.face_embedding import embed_faces, is_installed
from ddm_core.attacks.protocol import Outcome, Target
from ddm_core.evaluation import as_float
from ddm_core.results import IdentitySimilarity

Embed = Callable[[Tensor], Tensor]

MOST_SLOW = 100  # photos, the first ones, that an embedding looks at which takes long for each


def identity_similarities(target: Target, outcome: Outcome) -> dict[str, IdentitySimilarity]:
    """Return by embedding, of those that the params name, how alike reconstructions and photos are.

    `recogniser` is the clean recogniser, which was trained on these very people, and judges every
    reconstruction. `dlib_resnet` was trained by others on other people, and judges one reconstruction of each
    of the first test photos; it is left out where its extra is not installed.
    """
    judges: dict[str, tuple[Embed, int | None]] = {
        "recogniser": (target.recogniser.embed, None),
        "dlib_resnet": (_embed_by_dlib, min(MOST_SLOW, len(target.test.images))),
    }
    named = target.params.identity_embeddings
    chosen = [name for name in named if name != "dlib_resnet" or is_installed()]
    return {name: _similarity(*judges[name], target, outcome) for name in chosen}


def _similarity(embed: Embed, most: int | None, target: Target, outcome: Outcome) -> IdentitySimilarity:
    assert outcome.reconstructions is not None
    assert outcome.originals is not None
    rebuilt, photos = embed(outcome.reconstructions[:most]), embed(outcome.originals[:most])
    tested = embed(as_float(target.test.images[:most]))
    mean_face = embed(as_float(target.train.images).mean(0, keepdim=True))
    # reconstructions are of all test photos, then of all again
    labels = target.test.labels.repeat(-(-len(rebuilt) // len(target.test.labels)))[: len(rebuilt)]
    same, different = _pairs(target.test.labels[:most])
    cosines = tested @ tested.T
    return IdentitySimilarity(
        reconstruction=float((rebuilt * photos).sum(1).mean()),
        n=len(rebuilt),
        mean_face=float((tested @ mean_face.T).mean()),
        different_people=_mean(cosines[different]),
        same_person=_mean(cosines[same]),
        others=_mean((rebuilt @ tested.T)[labels[:, None] != target.test.labels[None, :most]]),
    )


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks [n, n] of two photos of one person, and of photos of two people."""
    alike = labels[:, None] == labels[None, :]
    return alike & ~torch.eye(len(labels), dtype=torch.bool), ~alike


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def _embed_by_dlib(images: Tensor) -> Tensor:
    return _embed_once(images.shape, images.numpy().tobytes())


@functools.lru_cache(maxsize=4)  # the same photos are the references of every obfuscator
def _embed_once(shape: torch.Size, pixels: bytes) -> Tensor:
    return F.normalize(embed_faces(torch.frombuffer(bytearray(pixels), dtype=torch.float32).view(shape)))
