"""The report's plots as inline SVG: the same figures give the same bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddm_core.reporting.metrics import History
from ddm_core.reporting.wording import LOSSLESS_DB, channel_label, decibels, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2733", "#55616d", "#e3e6e8"
SAFE, EXPOSED = "#0b6b62", "#a8321f"
LINES = (SAFE, "#b4560f", "#5b4a9c", "#33658a", "#7a5c2e", "#55616d")
MARKERS = "osD^vP"
STYLES = ("-", "--", "-.", ":")


def privacy_plot(metrics: Mapping[str, Any]) -> str:
    """Return SVG: one row an obfuscator; left the worst attack with its interval, right PSNR after PNG."""
    with styled():
        return _privacy_figure(metrics)


def channels_plot(obfuscators: Mapping[str, Any], chance: float) -> str:
    """Return SVG: PSNR and recognition after every channel, one line a decrypting obfuscator."""
    with styled():
        return _channels_figure({name: row for name, row in obfuscators.items() if row["decrypts"]}, chance)


def training_plot(histories: Mapping[str, History]) -> str:
    """Return SVG: PSNR, bound of the discrepancy and loss over the steps, one line a trained obfuscator."""
    with styled():
        return _training_figure(histories)


def _privacy_figure(metrics: Mapping[str, Any]) -> str:
    obfuscators = metrics["obfuscators"]
    figure = new_figure(9.6, 1.15 + 0.42 * len(obfuscators))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.45, 1))
    for row, entry in enumerate(obfuscators.values()):
        _worst_case_row(left, row, entry["worst_case"], metrics["chance_top1"])
        if "png" in entry["utility"]:
            _psnr_row(right, row, entry["utility"]["png"]["psnr_db"], entry["decrypts"])
    _finish_rows(left, list(obfuscators))
    draw_chance(left.axvline, 100 * metrics["chance_top1"])
    left.set(xlim=(-3, 118), xticks=range(0, 101, 25), title="Worst attack: right person named, %")
    right.set(xlim=(0, LOSSLESS_DB), title="What the receiver gets, PSNR in dB")
    right.tick_params(axis="y", labelleft=False, length=0)
    label = "Per obfuscator: the best attacker's accuracy with its 95 % interval, and the receiver's PSNR."
    return to_svg(figure, "privacy", label)


def _worst_case_row(axes: Axes, row: int, worst: Mapping[str, Any], chance: float) -> None:
    low, high = (100 * bound for bound in worst["ci95"])
    colour = SAFE if worst["ci95"][0] <= chance else EXPOSED
    axes.plot((low, high), (row, row), color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
    axes.plot(100 * worst["top1"], row, "o", color=colour, markersize=7)
    axes.text(high + 3, row, percent(worst["top1"]), va="center", color=colour, fontweight="bold")


def _psnr_row(axes: Axes, row: int, psnr_db: float, decrypts: bool) -> None:
    shown = min(psnr_db, LOSSLESS_DB - 8)  # room for the figure at the right
    colour = SAFE if decrypts else MUTED
    axes.plot((0, shown), (row, row), color=colour, linewidth=1.2, alpha=0.5)
    axes.plot(shown, row, "o", color=colour, markersize=7, markerfacecolor=colour if decrypts else "white")
    axes.text(shown + 1.5, row, decibels(psnr_db), va="center", color=colour)


def _finish_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)


def _channels_figure(decrypting: Mapping[str, Any], chance: float) -> str:
    channels = list(dict.fromkeys(channel for entry in decrypting.values() for channel in entry["utility"]))
    figure = new_figure(9.6, 3.7)
    fidelity, recognition = figure.subplots(1, 2)
    for i, (name, entry) in enumerate(decrypting.items()):
        cells = [entry["utility"].get(channel) for channel in channels]
        psnr = [min(cell["psnr_db"], LOSSLESS_DB) if cell else math.nan for cell in cells]
        recognised = [100 * cell["recognition_top1"] if cell else math.nan for cell in cells]
        fidelity.plot(psnr, label=name, **line_style(i, marked=True))
        recognition.plot(recognised, **line_style(i, marked=True))
    draw_chance(recognition.axhline, 100 * chance)
    fidelity.set(title="Likeness after decryption, PSNR in dB")
    recognition.set(title="Right person named after decryption, %", ylim=(-3, 104))
    for axes in (fidelity, recognition):
        axes.set_xticks(range(len(channels)), [channel_label(c) for c in channels], rotation=35, ha="right")
        axes.grid(visible=True, axis="y")
    legend_below(figure, fidelity)
    return to_svg(figure, "channels", "PSNR and recognition of the decrypted photo after every channel.")


def _training_figure(histories: Mapping[str, History]) -> str:
    titles = {
        "psnr_db": "Restored photo, PSNR in dB",
        "jsd_lower_bound": "Discrepancy, lower bound in nats",
        "loss": "Loss",
    }
    logged = [name for name in titles if any(name in row for rows in histories.values() for row in rows)]
    figure = new_figure(9.6, 3.4)
    panels = figure.subplots(1, max(len(logged), 1), squeeze=False)[0]
    for axes, quantity in zip(panels, logged, strict=False):
        for i, (name, history) in enumerate(histories.items()):
            points = [(row["step"], row[quantity]) for row in history if quantity in row]
            axes.plot(*zip(*points, strict=True), label=name, **line_style(i)) if points else None
        axes.set(title=titles[quantity], xlabel="step")
        axes.grid(visible=True, axis="y")
        if quantity == "jsd_lower_bound":
            axes.axhline(math.log(2), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                "greatest possible: ln 2", (1, math.log(2)), (0, 3), ("axes fraction", "data"),
                "offset points", ha="right", va="bottom", color=MUTED, fontsize=9,
            )  # fmt: skip
    legend_below(figure, panels[0])
    return to_svg(figure, "training", "PSNR, discrepancy bound and loss over the training steps.")


def line_style(i: int, *, marked: bool = False) -> dict[str, Any]:
    """Return how the i-th line of a plot looks: colour, dash pattern and, where marked, the marker differ."""
    style = {"color": LINES[i % len(LINES)], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.8}
    return style | ({"marker": MARKERS[i % len(MARKERS)], "markersize": 5} if marked else {})


def draw_chance(draw_line: Callable[..., Any], position: float) -> None:
    """Draw the dashed line of the chance level with `axhline` or `axvline`."""
    draw_line(position, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Put the legend of `axes` under the whole figure, at most four names a row."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, laid out so that nothing is cut off."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's own defaults with our few changes, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",  # text stays text: selectable, and in the page's own font
                "font.size": 10,
                "text.color": INK,
                "axes.edgecolor": MUTED,
                "axes.labelcolor": MUTED,
                "axes.titlesize": 10.5,
                "axes.titlelocation": "left",
                "axes.titlepad": 10,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "grid.color": GRID,
                "xtick.color": MUTED,
                "ytick.color": MUTED,
                "ytick.labelcolor": INK,
                "legend.frameon": False,
                "savefig.transparent": True,
            }
        )
        yield


def to_svg(figure: Figure, name: str, label: str) -> str:
    """Return the figure as one <svg> element, with ids of its own and no date."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = name
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
