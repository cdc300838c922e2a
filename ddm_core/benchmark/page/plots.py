"""The page's plots: inline SVG whose colours follow the page's, in light and in dark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ddm_core.benchmark.page.curves import along_compute, along_data
from ddm_core.benchmark.page.labels import place_labels
from ddm_core.benchmark.summary import Row
from ddm_core.reporting.plots import EXPOSED, GRID, INK, MUTED, SAFE, draw_chance, new_figure, styled, to_svg
from ddm_core.reporting.wording import LOSSLESS_DB, channel_label
from ddm_core.results import CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAKING, PAPER = "#8a4b08", "#fdfcfa"
PROPERTIES = {  # drawn colour -> custom property of the style sheet
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    SAFE: "--safe",
    LEAKING: "--warn",
    EXPOSED: "--bad",
    PAPER: "--paper",
}
LOOKS = {"hidden": ("o", SAFE), "leaking": ("^", LEAKING), "exposed": ("s", EXPOSED)}
PANEL, LARGE = (1.9, 1.3), (4.0, 2.7)  # inches


class Axis(NamedTuple):
    """What a learning curve runs along: its words, a point's place on it, and which points it takes."""

    name: str
    title: str
    measure: Callable[[CurvePoint], int]
    choose: Callable[[Sequence[CurvePoint]], list[CurvePoint]]


DATA = Axis("data", "labelled photos a person", lambda point: point.photos_per_person, along_data)
COMPUTE = Axis("compute", "images seen in training", lambda point: point.images_seen, along_compute)


def trade_off_plot(rows: Sequence[Row], channel: str, chance: float) -> str | None:
    """Return SVG: the worst case over attackers against PSNR after a channel; None without a point."""
    shown = [row for row in rows if row.grade in LOOKS and row.worst and channel in row.utility]
    if not shown:
        return None
    with styled():
        figure = new_figure(9.6, 5.0)
        axes = figure.subplots()
        axes.set(
            ylim=(-10, 122),  # names find room above and below
            yticks=range(0, 101, 20),
            xlabel=f"PSNR after {channel_label(channel)}, dB (farther right: the receiver sees more)",
            ylabel="worst case: right person named, %",
        )
        axes.grid(visible=True)
        points = [_trade_off_point(axes, row, channel) for row in shown]
        axes.margins(x=0.12)
        draw_chance(axes.axhline, 100 * chance)
        place_labels(figure, axes, points, [row.name for row in shown], avoid=100 * chance)
        label = f"Every obfuscator's worst-case accuracy against its PSNR after {channel_label(channel)}."
        return _themed(to_svg(figure, f"tradeoff-{channel}", label))


def _trade_off_point(axes: Axes, row: Row, channel: str) -> tuple[float, float]:
    assert row.worst and row.worst.top1 is not None  # shown rows have one
    marker, colour = LOOKS[row.grade]
    x, y = min(row.utility[channel].psnr_db, LOSSLESS_DB), 100 * row.worst.top1
    fill = colour if row.entry.decrypts else PAPER
    axes.plot(x, y, marker, color=colour, markerfacecolor=fill, markersize=7, zorder=3)
    return x, y


def curve_panels(curves: Mapping[str, Sequence[CurvePoint]], axis: Axis, chance: float) -> dict[str, str]:
    """Return by obfuscator a small SVG: accuracy along one axis, its interval shaded; all on one scale."""
    drawn = {name: axis.choose(points) for name, points in curves.items()}
    shared = [point for points in drawn.values() for point in points]
    return {
        name: _curve_svg(points, shared, axis, chance, name, size=PANEL) for name, points in drawn.items()
    }


def curve_plot(points: Sequence[CurvePoint], axis: Axis, chance: float, obfuscator: str) -> str:
    """Return SVG: one obfuscator's accuracy along one axis, with words at both axes."""
    chosen = axis.choose(points)
    return _curve_svg(chosen, chosen, axis, chance, obfuscator, size=LARGE)


def _curve_svg(
    points: Sequence[CurvePoint],
    shared: Sequence[CurvePoint],
    axis: Axis,
    chance: float,
    obfuscator: str,
    *,
    size: tuple[float, float],
) -> str:
    ticks = _ticks([axis.measure(point) for point in shared])
    with styled():
        figure = new_figure(*size)
        panel = figure.subplots()
        _curve(panel, points, axis.measure)
        panel.set_xscale("log", base=2)
        panel.set(ylim=(-4, 104), yticks=(0, 50, 100), xlim=(ticks[0] / 1.25, ticks[-1] * 1.25))
        # five numbers do not fit under a small panel
        every = 2 if size == PANEL and len(ticks) > 4 else 1
        panel.set_xticks(ticks, ["" if place % every else _short(tick) for place, tick in enumerate(ticks)])
        panel.set_xticks([], minor=True)
        panel.grid(visible=True, axis="y")
        draw_chance(panel.axhline, 100 * chance)
        if size == LARGE:
            panel.set(xlabel=axis.title, ylabel="right person named, %")
        label = f"Accuracy of the retrained attacker against {obfuscator} by {axis.title}."
        return _themed(to_svg(figure, f"{axis.name}-{obfuscator}", label))


def _ticks(values: Sequence[int]) -> list[int]:
    """Return the places measured at, thinned to those at least a third of a doubling apart."""
    ticks: list[int] = []
    for value in sorted(set(values)):
        if not ticks or value > 1.25 * ticks[-1]:
            ticks.append(value)
    return ticks


def _short(count: int) -> str:
    return f"{count / 1000:.0f}k" if count >= 1000 else str(count)


def _curve(axes: Axes, points: Sequence[CurvePoint], measure: Callable[[CurvePoint], int]) -> None:
    positions: list[Any] = [measure(point) for point in points]
    low, high = ([100 * point.ci95[bound] for point in points] for bound in (0, 1))
    axes.fill_between(positions, low, high, color=SAFE, alpha=0.25, linewidth=0)
    axes.plot(positions, [100 * point.top1 for point in points], "o-", color=SAFE, markersize=4)


def _themed(svg: str) -> str:
    """Let every colour follow the page: `#1c2733` becomes `var(--ink)`."""
    for colour, name in PROPERTIES.items():
        svg = svg.replace(colour, f"var({name})")
    return svg
