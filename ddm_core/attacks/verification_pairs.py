"""Pairs of photos after the protocol of Labeled Faces in the Wild: half show one person, half two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy
from numpy.typing import NDArray

from ddm_core.metrics import Booleans

Places: TypeAlias = NDArray[numpy.int64]

MOST_PAIRS = 6000  # of view 2 of LFW
FOLDS = 10


@dataclass(frozen=True)
class Pairs:
    """The places of both photos of each pair, whether they show one person, and each pair's fold."""

    first: Places
    second: Places
    same: Booleans
    fold: Places


def draw_pairs(labels: Places, repeats: int, draws: numpy.random.Generator) -> Pairs:
    """Draw up to 6000 pairs, as many matched as mismatched, in ten folds (fewer where pairs are fewer).

    Every two photos of one person make a matched pair, `repeats` times; where these are too many, people get
    equal shares. A photo is never paired with itself, and a repeated pair stays in its fold. The mismatched
    pairs are the matched ones with their second photos dealt out anew, so a photo is as often in the one kind
    as in the other, and no score of a single photo tells them apart. They may repeat by chance.

    `labels` [photos] are of at least two people with two photos each.
    """
    distinct = _matched(labels, MOST_PAIRS // 2, draws)
    matched = numpy.tile(distinct, (repeats, 1))[: MOST_PAIRS // 2]
    swapped = draws.random(len(matched)) < 0.5
    first, second = numpy.where(swapped, matched.T[::-1], matched.T)
    fold = numpy.arange(len(matched)) % len(distinct) % FOLDS
    return Pairs(
        first=numpy.tile(first, 2),
        second=numpy.concatenate([second, _mismatched(labels, first, second, draws)]),
        same=numpy.arange(2 * len(matched)) < len(matched),
        fold=numpy.tile(fold, 2),
    )


def _matched(labels: Places, most: int, draws: numpy.random.Generator) -> Places:
    """Return matched pairs [pairs, 2] in random order, people in turn; nobody has more than half of them."""
    of_person = []
    for person in numpy.unique(labels):
        photos = numpy.flatnonzero(labels == person)
        one, other = numpy.triu_indices(len(photos), 1)
        pairs = numpy.stack([photos[one], photos[other]], axis=1)
        of_person.append(draws.permutation(pairs)[:most])
    counts = [len(pairs) for pairs in of_person]
    most_of_one = sum(counts) - max(counts)  # more than all others have could not be dealt out
    of_person = [pairs[:most_of_one] for pairs in of_person]
    turn = numpy.concatenate([numpy.arange(len(pairs)) for pairs in of_person])
    order = numpy.lexsort([draws.random(len(turn)), turn])
    return numpy.asarray(draws.permutation(numpy.concatenate(of_person)[order][:most]))


def _mismatched(labels: Places, first: Places, second: Places, draws: numpy.random.Generator) -> Places:
    """Return `second` in an order in which no photo shows the person of `first`."""
    dealt = draws.permutation(second)
    for place in numpy.flatnonzero(labels[first] == labels[dealt]):
        if labels[first[place]] == labels[dealt[place]]:  # an exchange may have mended it already
            fits = (labels[first] != labels[dealt[place]]) & (labels[dealt] != labels[first[place]])
            other = draws.choice(numpy.flatnonzero(fits))
            dealt[[place, other]] = dealt[[other, place]]
    return dealt
