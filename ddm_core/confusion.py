"""Who is taken for whom: the confusion matrix of a recogniser or an attacker, kept beside its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddm_core.files import read_json, write_json

CONFUSION = "confusion.json"
MAX_CATEGORIES = 50
"""A table with more rows helps nobody; the people after the 49th share the row `others`."""
OTHERS = "others"


def write_confusion(
    folder: Path, identities: Sequence[str], labels: Sequence[int], predictions: Sequence[int]
) -> None:
    """Write confusion.json: category names and counts, one row a true identity, one column a named one.

    `labels` and `predictions` are positions in `identities`, one pair a test photo.
    """
    names = list(identities)
    if len(names) > MAX_CATEGORIES:
        names = [*names[: MAX_CATEGORIES - 1], OTHERS]
    last = len(names) - 1
    matrix = [[0] * len(names) for _ in names]
    for label, prediction in zip(labels, predictions, strict=True):
        matrix[min(label, last)][min(prediction, last)] += 1
    write_json(folder / CONFUSION, {"categories": names, "matrix": matrix})


def read_confusion(folder: Path) -> tuple[list[str], list[list[int]]]:
    """Return the categories and the matrix of `write_confusion`; both empty where nothing was measured.

    Raises:
        DdmError: the file is damaged.
    """
    if not (folder / CONFUSION).exists():
        return [], []
    content = read_json(folder / CONFUSION)
    return list(content["categories"]), list(content["matrix"])
