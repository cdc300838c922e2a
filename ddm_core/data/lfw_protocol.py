"""The protocol of Labeled Faces in the Wild: lists of pairs and people, view 2's ten folds, its accuracy."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ddm_core.errors import DdmError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """Two photos as `person/file.jpg`, relative to the raw folder, and whether they show one person."""

    first: str
    second: str
    same: bool


@dataclass(frozen=True)
class Person:
    """A person of the set and how many photos of them it has."""

    name: str
    photos: int


PairFolds: TypeAlias = tuple[tuple[Pair, ...], ...]


def read_pairs(path: Path) -> PairFolds:
    """Return the folds of pairs.txt: after `10<tab>300`, each fold's 300 matched, then 300 mismatched pairs.

    Raises:
        DdmError: another format, a pair twice, a photo paired with itself; the line is named.
    """
    lines = _Lines(path)
    folds, pairs = lines.numbers("number of folds", "number of pairs of each kind in a fold")
    read: set[frozenset[str]] = set()
    found = tuple(_pairs(lines, pairs, read) for _ in range(folds))
    lines.end()
    return found


def read_development_pairs(path: Path) -> tuple[Pair, ...]:
    """Return the pairs of pairsDevTrain.txt or pairsDevTest.txt: a count, as many matched, then mismatched.

    Raises:
        DdmError: as for `read_pairs`.
    """
    lines = _Lines(path)
    (pairs,) = lines.numbers("number of pairs of each kind")
    found = _pairs(lines, pairs, set())
    lines.end()
    return found


def read_people(path: Path) -> tuple[tuple[Person, ...], ...]:
    """Return the folds of people.txt: their number, then for each the number of people and the people.

    Raises:
        DdmError: another format, a person twice; the line is named.
    """
    lines = _Lines(path)
    (folds,) = lines.numbers("number of folds")
    read: set[str] = set()
    found = tuple(_people(lines, read) for _ in range(folds))
    lines.end()
    return found


def read_development_people(path: Path) -> tuple[Person, ...]:
    """Return the people of peopleDevTrain.txt or peopleDevTest.txt: their number, then the people.

    Raises:
        DdmError: as for `read_people`.
    """
    lines = _Lines(path)
    found = _people(lines, set())
    lines.end()
    return found


LISTS: dict[str, Callable[[Path], object]] = {
    "people.txt": read_people,
    "pairs.txt": read_pairs,
    "peopledevtrain.txt": read_development_people,
    "peopledevtest.txt": read_development_people,
    "pairsdevtrain.txt": read_development_pairs,
    "pairsdevtest.txt": read_development_pairs,
}
"""The set's own lists by their names in small letters, and what reads each."""


def view_2(folds: Sequence[T]) -> Iterator[tuple[tuple[T, ...], T]]:
    """Yield, for each fold in turn, the other folds to choose a threshold on, and the fold to test."""
    for i, test in enumerate(folds):
        yield (*folds[:i], *folds[i + 1 :]), test


def best_threshold(scores: NDArray[numpy.float64], same: NDArray[numpy.bool_]) -> float:
    """Return the threshold t for which `score >= t` tells same from different most often.

    It lies half-way between two scores; of equally good ones the lowest; infinite where one answer is best.
    """
    import numpy

    order = numpy.argsort(scores, kind="stable")
    ranked, matched = scores[order], same[order]
    matched_below = numpy.concatenate([[0], numpy.cumsum(matched)])
    mismatched_below = numpy.arange(len(ranked) + 1) - matched_below
    correct = mismatched_below + matched_below[-1] - matched_below
    correct[1:-1][ranked[:-1] == ranked[1:]] = -1  # equal scores cannot be told apart
    cut = int(correct.argmax())
    if cut in (0, len(ranked)):
        return -math.inf if cut == 0 else math.inf
    below, above = float(ranked[cut - 1]), float(ranked[cut])
    middle = below / 2 + above / 2
    return middle if below < middle <= above else above  # neighbouring floats have no middle


def fold_accuracies(scores: ArrayLike, folds: PairFolds) -> NDArray[numpy.float64]:
    """Return each fold's share of pairs told right, by the best threshold of all other folds.

    `scores`: one a pair in the order of the folds, any finite number, the higher the more alike.

    Raises:
        DdmError: another number of scores than pairs, a score that is not finite, an empty fold or only one.
    """
    import numpy

    sizes = [len(fold) for fold in folds]
    values = numpy.asarray(scores, dtype=numpy.float64).ravel()
    if len(folds) < 2 or 0 in sizes:
        raise DdmError(f"{len(folds)} folds of {sizes} pairs; give at least two, none of them empty")
    if len(values) != sum(sizes):
        raise DdmError(f"{len(values)} scores for {sum(sizes)} pairs; give one a pair, fold after fold")
    if not numpy.isfinite(values).all():
        raise DdmError("a pair's score is not a finite number; mend what embeds the photos")
    same = numpy.array([pair.same for fold in folds for pair in fold])
    places = numpy.split(numpy.arange(len(values)), numpy.cumsum(sizes)[:-1])
    accuracies = []
    for others, test in view_2(places):
        chosen_on = numpy.concatenate(others)
        threshold = best_threshold(values[chosen_on], same[chosen_on])
        accuracies.append(((values[test] >= threshold) == same[test]).mean())
    return numpy.array(accuracies)


def verification_accuracy(scores: ArrayLike, folds: PairFolds) -> tuple[float, float]:
    """Return the mean of `fold_accuracies` and its standard error, both fractions: the figures of view 2.

    Raises:
        DdmError: as for `fold_accuracies`.
    """
    accuracies = fold_accuracies(scores, folds)
    return float(accuracies.mean()), float(accuracies.std(ddof=1) / math.sqrt(len(accuracies)))


class _Lines:
    """The lines of a text file, taken one by one; errors name the line."""

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise DdmError(f"{path}: not found; take it from where the photos came from") from None
        except UnicodeDecodeError:
            raise DdmError(f"{path}: not UTF-8 text; take the file of the set") from None
        self.path = path
        self.lines = [line.removesuffix("\r") for line in text.split("\n")]
        while self.lines and not self.lines[-1]:
            self.lines.pop()
        self.taken = 0

    def fields(self, expected: str) -> list[str]:
        if self.taken == len(self.lines):
            raise DdmError(f"{self.path}: ends after line {self.taken}, before {expected}; take it again")
        self.taken += 1
        return unicodedata.normalize("NFC", self.lines[self.taken - 1]).split("\t")

    def numbers(self, *expected: str) -> list[int]:
        fields = self.fields(" and ".join(expected))
        if len(fields) != len(expected):
            raise self.error(f"expected {', tab, '.join(expected)}")
        return [self.number(field, meaning) for field, meaning in zip(fields, expected, strict=True)]

    def number(self, field: str, meaning: str) -> int:
        if not re.fullmatch(r"[1-9][0-9]{0,5}", field):
            raise self.error(f"{field!r} is no {meaning}, from 1")
        return int(field)

    def name(self, field: str) -> str:
        if not field or field.startswith(".") or "/" in field or "\\" in field or not field.isprintable():
            raise self.error(f"{field!r} is no person's name")
        return field

    def photo(self, name: str, number: str) -> str:
        person, photo = self.name(name), self.number(number, "photo's number")
        if photo > 9999:
            raise self.error(f"{photo} is no photo's number, up to 9999")
        return f"{person}/{person}_{photo:04}.jpg"

    def end(self) -> None:
        if self.taken < len(self.lines):
            self.taken += 1
            raise self.error("more than the counts above announce")

    def error(self, reason: str) -> DdmError:
        return DdmError(f"{self.path}, line {self.taken}: {reason}; take the file of the set, unchanged")


def _pairs(lines: _Lines, count: int, read: set[frozenset[str]]) -> tuple[Pair, ...]:
    matched = [_pair(lines, True, read) for _ in range(count)]
    return (*matched, *(_pair(lines, False, read) for _ in range(count)))


def _pair(lines: _Lines, same: bool, read: set[frozenset[str]]) -> Pair:
    expected = "name, number, number" if same else "name, number, name, number"
    kind = "matched" if same else "mismatched"
    fields = lines.fields(f"a {kind} pair")
    if len(fields) != (3 if same else 4):
        raise lines.error(f"expected a {kind} pair, tab-separated: {expected}")
    first, second = fields[:2], (fields[0], fields[2]) if same else fields[2:]
    pair = Pair(lines.photo(*first), lines.photo(*second), same)
    if pair.first == pair.second or (not same and first[0] == second[0]):
        raise lines.error("pairs a photo with itself" if same else "a mismatched pair of one person")
    both = frozenset((pair.first, pair.second))
    if both in read:
        raise lines.error("this pair stands above already")
    read.add(both)
    return pair


def _people(lines: _Lines, read: set[str]) -> tuple[Person, ...]:
    (count,) = lines.numbers("number of people")
    return tuple(_person(lines, read) for _ in range(count))


def _person(lines: _Lines, read: set[str]) -> Person:
    fields = lines.fields("a person")
    if len(fields) != 2:
        raise lines.error("expected a person's name, tab, number of photos")
    person = Person(lines.name(fields[0]), lines.number(fields[1], "number of photos"))
    if person.name in read:
        raise lines.error(f"{person.name} stands above already")
    read.add(person.name)
    return person
