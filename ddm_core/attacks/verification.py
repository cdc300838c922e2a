"""The verification attacker: do two pictures show one person? After the protocol of LFW.

It embeds both pictures and compares. `obfuscated`: both are obfuscated. `linkage`: one is obfuscated, the
other is a clean photo. The people of the pairs are unknown to it: it trains on other people alone, so all
photos of the people in the pairs are free to be used, those of the training split too. The pairs are drawn,
or LFW's own (`verification_protocol`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor
from torch.nn import functional as F

from ddm_core.attacks.applicability import DoesNotApplyError
from ddm_core.attacks.protocol import Outcome, Target
from ddm_core.attacks.recogniser_training import Obfuscate
from ddm_core.attacks.recognition import Recogniser, fresh_encryptions, train_recogniser
from ddm_core.attacks.verification_pairs import Pairs, draw_pairs
from ddm_core.attacks.verification_protocol import VerificationSet, load_verification_set
from ddm_core.data.lfw_protocol import Pair, fold_accuracies, verification_accuracy
from ddm_core.data.shards import PhotoSet
from ddm_core.data.splits import Split, SplitItem, split_by_identity
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.keys import nonce_stream
from ddm_core.metrics import Floats, equal_error_rate, roc_auc, true_accept_rate
from ddm_core.networks import crop_like
from ddm_core.obfuscators.protocol import Obfuscator, RandomisedObfuscator
from ddm_core.results import VerificationFigures
from ddm_core.seeding import derive_seed, numpy_generator

UNKNOWN_PEOPLE = 0.2  # of all people: the pairs that count are of these
VALIDATION_PEOPLE = 0.1  # of the others: the attacker chooses its embedding on pairs of these
LEAST_PEOPLE = 2  # in each of the three groups
KINDS = ("obfuscated", "linkage")
ARCHITECTURE = "cnn"  # beside resnet_arcface it told unknown people of ORL apart better, once whitened
SHRINKAGE = 0.5  # of the whitening towards plain cosines: there are fewer photos than dimensions


@dataclass(frozen=True)
class _People:
    """Photos of the people that the attacker trains on, chooses its embedding on, and is tried on."""

    training: PhotoSet
    validation: PhotoSet
    unknown: PhotoSet


def verification(target: Target) -> Outcome:
    """Compare pairs of people unknown to the attacker, by the embedding that does best on its own pairs.

    Raises:
        DoesNotApplyError: too few people to train on some, choose by others and try the rest.
        DdmError: LFW's pairs are asked for, and the prepared photos do not carry them, or not all of them.
    """
    given = _given_pairs(target)
    people = _split_people(target) if given is None else _split_others(target, given)
    embeddings = _train_embeddings(target, people.training)
    own = _scores_of_drawn(target, target.attacker, embeddings, people.validation, "validation")
    if given is None:
        tried = _scores_of_drawn(target, target.victim, embeddings, people.unknown, "test")
    else:
        tried = _scores(target, target.victim, embeddings, given.images, given.pairs, "test")
    figures = {}
    for kind in KINDS:
        best = max(embeddings, key=lambda name: roc_auc(own.scores[name][kind], own.pairs.same)[0])
        figures[kind] = _figures(tried.scores[best][kind], tried.pairs)
    return Outcome(verification=figures, architecture=ARCHITECTURE)


def _given_pairs(target: Target) -> VerificationSet | None:
    if target.params.verification_protocol == "drawn":
        return None
    assert target.prepared is not None  # the stage says where the photos are from
    return load_verification_set(target.prepared, target.train, target.test)


@dataclass(frozen=True)
class Embedding:
    """A recogniser's vectors, whitened: what differs between photos of one person weighs less.

    Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006). `centre` [d] is taken off
    before the `projection` [d, d].
    """

    recogniser: Recogniser
    centre: Tensor
    projection: Tensor

    def embed(self, images: Tensor) -> Tensor:
        """Return vectors of length one [n, d] of images [n, c, h, w] in [0, 1]."""
        return self.whiten(self.recogniser.embed(images))

    def whiten(self, vectors: Tensor) -> Tensor:
        """Return the same of the recogniser's own vectors."""
        return F.normalize((vectors - self.centre) @ self.projection)


def _train_embeddings(target: Target, known: PhotoSet) -> dict[str, Embedding]:
    """Return what is learnt from obfuscated and clean photos together, and from clean photos alone."""
    labels = torch.searchsorted(known.labels.unique(), known.labels)  # type: ignore[no-untyped-call]
    # Known people say little about unknown ones, so nothing is chosen on their photos.
    settings = dataclasses.replace(
        target.params,
        architectures=(ARCHITECTURE,),
        validation_fraction=0.0,
        patience_epochs=0,
        stronger_augmentation=True,
    )
    obfuscate = fresh_encryptions(target, "verification")

    def learn(name: str, way: Obfuscate | None) -> Recogniser:
        name = f"{target.name}/verification/{name}"
        people = int(labels.max()) + 1
        return train_recogniser(known.images, labels, people, settings, name, target.device, way)

    clean = as_float(known.images)
    hidden = [obfuscate(clean[part].to(target.device)).cpu() for part in in_chunks(len(clean))]
    both = torch.cat([crop_like(torch.cat(hidden), clean), clean])
    return {
        "mixed": _whiten(learn("mixed", lambda photos: _half(photos, obfuscate)), both, labels.repeat(2)),
        "clean": _whiten(learn("clean", None), clean, labels),
    }


def _whiten(recogniser: Recogniser, images: Tensor, labels: Tensor) -> Embedding:
    vectors = recogniser.embed(images).double()
    people = F.one_hot(labels).double()
    means = people.T @ vectors / people.sum(0)[:, None]
    within = (vectors - means[labels]).T.cov(correction=0)
    level = within.trace() / len(within) + 1e-12
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * level * torch.eye(len(within), dtype=torch.float64)
    projection = torch.linalg.cholesky(torch.linalg.inv(shrunk))
    return Embedding(recogniser, vectors.mean(0).float(), projection.float())


def _half(photos: Tensor, obfuscate: Obfuscate) -> Tensor:
    """Return the batch [n, c, h, w] with its first half obfuscated."""
    half = len(photos) // 2
    hidden = crop_like(obfuscate(photos[: len(photos) - half]), photos)
    return torch.cat([hidden, photos[len(photos) - half :]])


# People


def _split_people(target: Target) -> _People:
    everyone = _all_photos(target)
    seed = target.params.seed
    others, unknown = _by_person(everyone, UNKNOWN_PEOPLE, derive_seed(seed, "verification/unknown"))
    training, validation = _by_person(others, VALIDATION_PEOPLE, derive_seed(seed, "verification/validation"))
    return _People(training, validation, unknown)


def _split_others(target: Target, given: VerificationSet) -> _People:
    """Train on, and choose by, everybody whom the given pairs do not show."""
    everyone = _all_photos(target)
    shown = [label in given.people for label in everyone.labels.tolist()]
    others = _choose(everyone, [place for place, is_shown in enumerate(shown) if not is_shown])
    seed = derive_seed(target.params.seed, "verification/validation")
    training, validation = _by_person(others, VALIDATION_PEOPLE, seed)
    return _People(training, validation, _choose(everyone, numpy.flatnonzero(shown).tolist()))


def _all_photos(target: Target) -> PhotoSet:
    """Return the photos of both splits; of those with the same pixels the first, for they are no pair."""
    train, test = target.train, target.test
    images = torch.cat([train.images, test.images])
    first = {pixels: place for place, pixels in reversed(list(enumerate(map(_digest, images))))}
    both = PhotoSet(images, torch.cat([train.labels, test.labels]), train.identities, train.keys + test.keys)
    return _choose(both, sorted(first.values()))


def _by_person(photos: PhotoSet, fraction: float, seed: int) -> tuple[PhotoSet, PhotoSet]:
    """Split off about `fraction` of the people, at least two; return the others' photos and theirs.

    Raises:
        DoesNotApplyError: fewer than two people with two photos each would be on either side.
    """
    labels = photos.labels.tolist()
    names = [photos.identities[label] for label in labels]
    items = [SplitItem(*item) for item in zip(photos.keys, names, map(_digest, photos.images), strict=True)]
    people = len(set(names))
    if people >= 2 * LEAST_PEOPLE:
        side = split_by_identity(items, max(fraction, LEAST_PEOPLE / people), seed)
        parts: dict[Split, list[int]] = {"train": [], "test": []}
        for place, name in enumerate(names):
            parts[side[name]].append(place)
        if all(_people_in_pairs(labels, places) >= LEAST_PEOPLE for places in parts.values()):
            return _choose(photos, parts["train"]), _choose(photos, parts["test"])
    raise DoesNotApplyError(
        "too few people to verify: it takes three groups, each of two or more people with two or more photos"
    )


def _people_in_pairs(labels: list[int], places: list[int]) -> int:
    photos = Counter(labels[place] for place in places)
    return sum(count >= 2 for count in photos.values())


def _choose(photos: PhotoSet, places: list[int]) -> PhotoSet:
    keys = tuple(photos.keys[place] for place in places)
    return PhotoSet(photos.images[places], photos.labels[places], photos.identities, keys)


def _digest(image: Tensor) -> str:
    return hashlib.sha256(image.numpy().tobytes()).hexdigest()


# Pairs and scores


@dataclass(frozen=True)
class _Scored:
    """Pairs, and by embedding and kind of pair the cosine of each."""

    pairs: Pairs
    scores: Mapping[str, Mapping[str, Floats]]


def _scores_of_drawn(
    target: Target,
    obfuscator: Obfuscator,
    embeddings: Mapping[str, Embedding],
    photos: PhotoSet,
    purpose: str,
) -> _Scored:
    params = target.params
    repeats = params.encryptions_per_photo if isinstance(obfuscator, RandomisedObfuscator) else 1
    draws = numpy_generator(params.seed, f"verification/{purpose}/pairs")
    pairs = draw_pairs(photos.labels.numpy(), repeats, draws)
    return _scores(target, obfuscator, embeddings, photos.images, pairs, purpose)


def _scores(  # noqa: PLR0917 - one line a thing that decides the scores
    target: Target,
    obfuscator: Obfuscator,
    embeddings: Mapping[str, Embedding],
    images: Tensor,
    pairs: Pairs,
    purpose: str,
) -> _Scored:
    drawn_for = f"{target.name}/verification/{purpose}"
    first, second = (
        _embed_obfuscated(target, obfuscator, embeddings, images[places], f"{drawn_for}/{member}")
        for member, places in (("first", pairs.first), ("second", pairs.second))
    )
    scores = {}
    for name, embedding in embeddings.items():
        known = [embedding.recogniser.embed(as_float(images[part])) for part in in_chunks(len(images))]
        clean = embedding.whiten(torch.cat(known))[pairs.second]
        others = {"obfuscated": second[name], "linkage": clean}
        scores[name] = {kind: _cosines(first[name], other) for kind, other in others.items()}
    return _Scored(pairs, scores)


def _embed_obfuscated(
    target: Target,
    obfuscator: Obfuscator,
    embeddings: Mapping[str, Embedding],
    images: Tensor,
    purpose: str,
) -> dict[str, Tensor]:
    """Obfuscate each of the uint8 images under a nonce of its own; return its vector by each embedding."""
    nonces = list(nonce_stream(target.params.seed, purpose, len(images)))
    vectors: dict[str, list[Tensor]] = {name: [] for name in embeddings}
    for part in in_chunks(len(images)):
        hidden = obfuscator.encrypt(as_float(images[part]).to(target.device), nonces[part])
        for name, embedding in embeddings.items():
            vectors[name].append(embedding.embed(hidden))
    return {name: torch.cat(parts) for name, parts in vectors.items()}


def _cosines(first: Tensor, second: Tensor) -> Floats:
    cosines: Floats = (first.double() * second.double()).sum(1).numpy()
    return cosines


def _figures(scores: Floats, pairs: Pairs) -> VerificationFigures:
    """Return the measures of LFW's view 2, with those of the ROC curve."""
    order = numpy.argsort(pairs.fold, kind="stable")
    folds = tuple(
        tuple(
            Pair(str(pairs.first[place]), str(pairs.second[place]), bool(pairs.same[place]))
            for place in numpy.flatnonzero(pairs.fold == fold)
        )
        for fold in numpy.unique(pairs.fold)
    )
    accuracy, standard_error = verification_accuracy(scores[order], folds)
    deviation = float(fold_accuracies(scores[order], folds).std(ddof=1))
    area, interval = roc_auc(scores, pairs.same)
    return VerificationFigures(
        accuracy=accuracy,
        accuracy_deviation=deviation,
        accuracy_standard_error=standard_error,
        auc=area,
        auc_ci95=interval,
        eer=equal_error_rate(scores, pairs.same),
        tar_at_far_1e2=true_accept_rate(scores, pairs.same, 1e-2),
        tar_at_far_1e3=true_accept_rate(scores, pairs.same, 1e-3),
        pairs=len(scores),
    )
