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
    """Return one point for every number of photos a person, all after about the same images seen.

    That is what the points with fewer photos have seen at most; where all have the most photos, the longest.
    """
    most = max((point.photos_per_person for point in points), default=0)
    seen = [point.images_seen for point in points if point.photos_per_person < most]
    wanted = max(seen or [point.images_seen for point in points], default=0)
    by_photos: dict[int, list[CurvePoint]] = {}
    for point in points:
        by_photos.setdefault(point.photos_per_person, []).append(point)
    return [
        min(by_photos[photos], key=lambda point: abs(point.images_seen - wanted))
        for photos in sorted(by_photos)
    ]


def along_compute(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return the points with the most photos a person, by images seen in training."""
    most = max((point.photos_per_person for point in points), default=0)
    chosen = [point for point in points if point.photos_per_person == most]
    return sorted(chosen, key=lambda point: point.images_seen)
