"""Learning curves: the points of all seeds together, along the data and along the compute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ddm_core.benchmark.results_file import CellResult
from ddm_core.results import CurvePoint


def pool_curves(cells: Iterable[CellResult]) -> list[CurvePoint]:
    """Return one point for every (photos a person, epochs), the seeds' test encryptions added up."""
    from ddm_core.metrics import wilson_interval  # pulls in torch

    groups: dict[tuple[int, int], list[CurvePoint]] = {}
    for cell in cells:
        for point in cell.result.curve:
            groups.setdefault((point.photos_per_person, point.epochs), []).append(point)
    pooled = []
    for (photos, epochs), points in sorted(groups.items()):
        n = sum(point.n for point in points)
        right = sum(round(point.top1 * point.n) for point in points)
        images = round(sum(point.images_seen for point in points) / len(points))
        pooled.append(CurvePoint(photos, epochs, images, right / n, wilson_interval(right, n), n))
    return pooled


def along_data(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return the points of the longest training, by photos a person."""
    longest: dict[int, CurvePoint] = {}
    for point in points:
        rival = longest.get(point.photos_per_person)
        if rival is None or point.epochs > rival.epochs:
            longest[point.photos_per_person] = point
    return [longest[photos] for photos in sorted(longest)]


def along_compute(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return the points with the most photos a person, by images seen in training."""
    most = max((point.photos_per_person for point in points), default=0)
    chosen = [point for point in points if point.photos_per_person == most]
    return sorted(chosen, key=lambda point: point.images_seen)
