"""Train and test: by photo within each person, and by person. Photos with the same pixels stay together.

Order is drawn by hashing the seed with the names concerned, so adding a person or a photo leaves the order
of all the others as it was, and the image size plays no part.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Literal, NamedTuple

from ddm_core.seeding import derive_seed

Split = Literal["train", "test"]


class SplitItem(NamedTuple):
    """One photo: its unique name, the person it shows, and the digest of its pixels."""

    name: str
    identity: str
    pixels: str


def split_by_image(items: Sequence[SplitItem], test_fraction: float, seed: int) -> dict[str, Split]:
    """Return photo name -> split, with about `test_fraction` (in (0, 1)) of each person's photos in test.

    Of n photos, n * test_fraction go to test, rounded half up, and at least one stays in train: a person
    with a single photo trains. Photos with the same pixels move together, and train when they are filed
    under several people; because of them a person may get fewer test photos than that, never more.
    """
    photos_of = Counter(item.identity for item in items)
    room = {identity: min(_rounded(n * test_fraction), n - 1) for identity, n in photos_of.items()}
    groups = [
        (*_rank(seed, "image", (item.name for item in group)), group)
        for group in _same_pixels(items)
        if len({item.identity for item in group}) == 1
    ]
    groups.sort()
    split: dict[str, Split] = dict.fromkeys((item.name for item in items), "train")
    for _, _, group in groups:
        identity = group[0].identity
        if len(group) <= room[identity]:
            room[identity] -= len(group)
            split.update(dict.fromkeys((item.name for item in group), "test"))
    return split


def split_by_identity(items: Sequence[SplitItem], test_fraction: float, seed: int) -> dict[str, Split]:
    """Return identity -> split, with about `test_fraction` (in (0, 1)) of the people in test.

    Of n people, n * test_fraction go to test, rounded half up, at least 1 and at most n - 1. People filed
    with the same pixels move together; because of them there may be fewer in test, even none.
    """
    clusters = _people_sharing_pixels(items)
    clusters.sort(key=lambda cluster: _rank(seed, "identity", cluster))
    people = sum(map(len, clusters))
    room = min(max(1, _rounded(people * test_fraction)), people - 1)
    test: set[str] = set()
    for cluster in clusters:
        if len(cluster) <= room - len(test):
            test.update(cluster)
    return {person: "test" if person in test else "train" for cluster in clusters for person in cluster}


def _same_pixels(items: Sequence[SplitItem]) -> Iterator[list[SplitItem]]:
    """Yield the photos in groups of the same pixels. Sorting takes less memory than a table of groups."""
    pixels = attrgetter("pixels")
    for _, group in groupby(sorted(items, key=pixels), key=pixels):
        yield list(group)


def _people_sharing_pixels(items: Sequence[SplitItem]) -> list[list[str]]:
    """Return the people in clusters: two people are in one when a chain of shared pixels joins them."""
    parent = {item.identity: item.identity for item in items}

    def root(person: str) -> str:
        while parent[person] != person:
            parent[person] = parent[parent[person]]  # keeps the chains short
            person = parent[person]
        return person

    for group in _same_pixels(items):
        for item in group[1:]:
            parent[root(item.identity)] = root(group[0].identity)
    clusters: dict[str, list[str]] = defaultdict(list)
    for person in parent:
        clusters[root(person)].append(person)
    return list(clusters.values())


def _rank(seed: int, split: str, names: Iterable[str]) -> tuple[int, str]:
    """Return a sort key in random order; the smallest name stands for a group."""
    name = min(names)
    return derive_seed(seed, f"prepare/split/{split}/{name}"), name


def _rounded(value: float) -> int:
    """Round half up, forgiving the last bits of a product such as 0.29 * 50 = 14.499999999999998."""
    return math.floor(value + 0.5 + 1e-9)
