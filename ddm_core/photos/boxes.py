"""Regions of a photo: read from the command line or JSON, widened to whole cells, joined where they touch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.files import read_json
from ddm_core.photos.header import MAX_REGIONS, Box

FIELDS = ("x", "y", "width", "height")


def parse_boxes(text: str) -> tuple[Box, ...]:
    """Return the boxes that `x,y,w,h` or a JSON file of boxes names.

    The file holds a list of [x, y, width, height] or of objects with these names, in pixels of the upright
    photo.

    Raises:
        DdmError: neither of both, or a box without area.
    """
    if text.count(",") == 3 and not Path(text).exists():
        try:
            return (_box([int(part) for part in text.split(",")], "--regions"),)
        except ValueError:
            raise DdmError(f"--regions {text}: expected four whole numbers x,y,w,h") from None
    plain = read_json(Path(text))
    if not isinstance(plain, list) or not plain:
        raise DdmError(f"{text}: expected a list of boxes [x, y, width, height]")
    return tuple(_box(item, f"{text}: box {place}") for place, item in enumerate(plain))


def snap(boxes: Iterable[Box], size: tuple[int, int], patch: int) -> tuple[Box, ...]:
    """Return disjoint boxes of whole cells that cover the given ones, cut to a photo of this size.

    `size` is width and height, and `patch` the side of a cell, in pixels.

    Boxes that share a cell become one: a cell must not be encrypted twice with the same keystream.

    Raises:
        DdmError: a box that holds nothing of the photo, or more boxes than a header holds.
    """
    width, height = size
    edges = [_edges(box, size, patch) for box in boxes]
    joined: list[tuple[int, int, int, int]] = []
    while edges:
        current = edges.pop()
        touching = [other for other in joined if _overlap(current, other)]
        if touching:
            joined = [other for other in joined if other not in touching]
            edges.append(_cover([current, *touching]))
        else:
            joined.append(current)
    if len(joined) > MAX_REGIONS:
        raise DdmError(f"{len(joined)} regions, at most {MAX_REGIONS} fit; encrypt the whole photo")
    return tuple(
        Box(left, top, min(right, width) - left, min(bottom, height) - top)
        for left, top, right, bottom in sorted(joined)
    )


def cells(box: Box, patch: int) -> tuple[range, range]:
    """Return the rows and columns of cells that a snapped box covers."""
    bottom, right = (box.top + box.height, box.left + box.width)
    return range(box.top // patch, -(-bottom // patch)), range(box.left // patch, -(-right // patch))


def _edges(box: Box, size: tuple[int, int], patch: int) -> tuple[int, int, int, int]:
    width, height = size
    left, top = max(0, box.left), max(0, box.top)
    right, bottom = min(width, box.left + box.width), min(height, box.top + box.height)
    if left >= right or top >= bottom:
        shown = ",".join(map(str, box))
        raise DdmError(f"the box {shown} holds nothing of the photo of {width}x{height} pixels; mend the box")
    return left - left % patch, top - top % patch, right + -right % patch, bottom + -bottom % patch


def _overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _cover(edges: Sequence[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    left, top, right, bottom = zip(*edges, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _box(item: Any, where: str) -> Box:  # noqa: ANN401 - JSON decides
    fields: Any = [item.get(name) for name in FIELDS] if isinstance(item, dict) else item
    whole = isinstance(fields, list) and len(fields) == 4 and all(type(value) is int for value in fields)
    if not whole or fields[2] <= 0 or fields[3] <= 0:
        raise DdmError(f"{where}: expected whole numbers x, y, width, height with an area")
    return Box(*fields)
