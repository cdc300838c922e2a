"""Names beside the points of a scatter plot, each where it covers nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ddm_core.reporting.plots import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 8.5  # of the letters, in points
HEIGHT, LETTER = 1.35 * SIZE, 0.6 * SIZE  # of a line, and of a letter's width: generous, fonts differ
POINT = 6.0  # half the side of the square that a point takes
FARTHEST = 20  # lines up or down that a name may move

COVERING, LONG = 10, 8  # a covered name is as bad as ten crossed ones, a crossed one as eight lines away
SAMPLES = 24  # spots along a line that are looked at

Spot = tuple[float, float]
Leader = tuple[Spot, Spot]
Box = tuple[float, float, float, float]  # left, bottom, right, top in points


def place_labels(
    figure: Figure, axes: Axes, points: Sequence[Spot], names: Sequence[str], avoid: float
) -> None:
    """Write each name near its point, and draw a thin line to it where it had to move away.

    `avoid` is the height of a level line that no name shall cover.
    """
    figure.draw_without_rendering()  # the layout is final only now
    scale = 72 / figure.dpi
    spots = [_in_points(axes, point, scale) for point in points]
    frame = axes.get_window_extent()
    inside = (scale * frame.x0, scale * frame.y0, scale * frame.x1, scale * frame.y1)
    level = _in_points(axes, (points[0][0], avoid), scale)[1]
    taken: list[Box] = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in spots]
    taken.append((inside[0], level - 1, inside[2], level + 1))
    leaders: list[Leader] = []
    for i in sorted(range(len(points)), key=lambda i: (-spots[i][1], spots[i][0], names[i])):
        box = _best_box(spots[i], len(names[i]) * LETTER, inside, taken, leaders)
        taken.append(box)
        far = _is_far(spots[i], box)
        if far:
            leaders.append((spots[i], _middle(box)))
        axes.annotate(
            names[i],
            points[i],
            (box[0] - spots[i][0], _middle(box)[1] - spots[i][1]),
            textcoords="offset points",
            va="center",
            fontsize=SIZE,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 4} if far else None,
        )


def _in_points(axes: Axes, point: Spot, scale: float) -> Spot:
    x, y = axes.transData.transform(point)
    return scale * float(x), scale * float(y)


def _best_box(spot: Spot, width: float, inside: Box, taken: Sequence[Box], leaders: Sequence[Leader]) -> Box:
    """Return the nearest box that is free, and of these one whose leader crosses the fewest names."""
    boxes = [box for box in _candidates(spot, width) if _within(box, inside)]
    if not boxes:  # a name wider than the plot
        return next(_candidates(spot, width))
    nearness = {box: i for i, box in enumerate(boxes)}

    def cost(box: Box) -> tuple[float, int]:
        covered = sum(_overlap(box, other) for other in taken)
        crossed = sum(_crosses(leader, box) for leader in leaders)
        if _is_far(spot, box):
            own = (spot, _middle(box))
            crossed += sum(_crosses(own, other) for other in taken if not _contains(other, spot))
        lines_away = abs(_middle(box)[1] - spot[1]) / HEIGHT
        return COVERING * covered + crossed + lines_away / LONG, nearness[box]

    return min(boxes, key=cost)


def _candidates(spot: Spot, width: float) -> Iterator[Box]:
    """Yield boxes around a point, nearest first: right, left, then line by line below and above."""
    x, y = spot
    gap = POINT + 2
    for line in range(FARTHEST):
        for sign in (-1, 1) if line else (1,):
            bottom = y - HEIGHT / 2 + sign * line * HEIGHT
            sides = [x + gap, x - gap - width]
            if line:
                sides = [x - width / 2, *sides, x + 4 * gap, x - 4 * gap - width]
            for left in sides:
                yield (left, bottom, left + width, bottom + HEIGHT)


def _middle(box: Box) -> Spot:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _is_far(spot: Spot, box: Box) -> bool:
    return abs(_middle(box)[1] - spot[1]) > HEIGHT / 2


def _within(box: Box, frame: Box) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _contains(box: Box, spot: Spot) -> bool:
    return box[0] <= spot[0] <= box[2] and box[1] <= spot[1] <= box[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _crosses(leader: Leader, box: Box) -> bool:
    (x0, y0), (x1, y1) = leader
    steps = [i / SAMPLES for i in range(SAMPLES)]  # without the end, which lies in the leader's own name
    return any(_contains(box, (x0 + step * (x1 - x0), y0 + step * (y1 - y0))) for step in steps)
