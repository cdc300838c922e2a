"""Train and test: by photo within each person, and by person. Photos with the same pixels stay together.

Order is drawn by hashing the seed with the names concerned, so adding a person or a photo leaves the order
of all the others as it was, and the image size plays no part.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ddm_core.seeding import derive_seed

Split = Literal["train", "test"]


@dataclass(frozen=True)
class SplitItem:
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
    groups = _same_pixels(items)
    groups.sort(key=lambda group: _rank(seed, "image", (item.name for item in group)))
    test: set[str] = set()
    for group in groups:
        identity = group[0].identity
        if {item.identity for item in group} == {identity} and len(group) <= room[identity]:
            room[identity] -= len(group)
            test.update(item.name for item in group)
    return {item.name: "test" if item.name in test else "train" for item in items}


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
            test |= cluster
    return {item.identity: "test" if item.identity in test else "train" for item in items}


def _same_pixels(items: Sequence[SplitItem]) -> list[list[SplitItem]]:
    groups: dict[str, list[SplitItem]] = defaultdict(list)
    for item in items:
        groups[item.pixels].append(item)
    return list(groups.values())


def _people_sharing_pixels(items: Sequence[SplitItem]) -> list[frozenset[str]]:
    """Return the people in clusters: two people are in one when a chain of shared pixels joins them."""
    cluster_of = {item.identity: frozenset({item.identity}) for item in items}
    for group in _same_pixels(items):
        joined = frozenset().union(*(cluster_of[item.identity] for item in group))
        cluster_of.update(dict.fromkeys(joined, joined))
    return list(set(cluster_of.values()))


def _rank(seed: int, split: str, names: Iterable[str]) -> tuple[int, str]:
    """Return a sort key in random order; the smallest name stands for a group."""
    name = min(names)
    return derive_seed(seed, f"prepare/split/{split}/{name}"), name


def _rounded(value: float) -> int:
    """Round half up, forgiving the last bits of a product such as 0.29 * 50 = 14.499999999999998."""
    return math.floor(value + 0.5 + 1e-9)
