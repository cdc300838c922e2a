"""What a sweep leaves for people: a table of its trials, a picture of them, and the best settings."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from ddm_core.gate_table import align
from ddm_core.learned_params import LearnedParams
from ddm_core.reporting.plots import EXPOSED, MUTED, SAFE, new_figure, styled
from ddm_core.reporting.wording import percent
from ddm_core.sweep.study import REASON, STATE, figures_of
from ddm_core.sweep.trial import Figures

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Row = dict[str, Any]


def rows_of(trials: Sequence[FrozenTrial], channels: Sequence[str]) -> list[Row]:
    """Return one row a trial: how it ended, what it came to over the gate's `channels`, what it tried.

    PSNR is in decibels, accuracies are fractions; what was not measured is empty.
    """
    return [_row(trial, channels) for trial in trials]


def _row(trial: FrozenTrial, channels: Sequence[str]) -> Row:
    found = figures_of(trial)
    measured: Row = dict.fromkeys(
        ("private", "gate_passed", "psnr_db", "worst_attacker", "worst_top1", "worst_top1_upper95"), ""
    )
    if found is not None:
        measured = {
            "private": found.private,
            "gate_passed": not found.failures,
            "psnr_db": round(found.psnr_db, 3),
            "worst_attacker": found.worst_attacker,
            "worst_top1": round(found.worst_top1, 4),
            "worst_top1_upper95": round(found.worst_top1_upper95, 4),
        }
    for channel in channels:
        psnr_db, recognised = found.channels[channel] if found else (None, None)
        measured[f"psnr_db_{channel}"] = "" if psnr_db is None else round(psnr_db, 3)
        measured[f"recognition_top1_{channel}"] = "" if recognised is None else round(recognised, 4)
    ended = {"trial": trial.number, "state": trial.user_attrs[STATE]}
    return ended | measured | trial.params | {"reason": trial.user_attrs.get(REASON, "")}


def csv_text(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a line of names; empty for no rows."""
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text for a terminal."""
    tried = (
        [name for name in rows[0] if name not in _KNOWN and not name.startswith(_MEASURED)] if rows else []
    )
    headings = ("trial", "state", "mean PSNR", "worst attacker", "gate", *tried)
    return align([headings, *(_cells(row, tried) for row in rows)])


_KNOWN = ("trial", "state", "private", "gate_passed", "worst_attacker", "reason")
_MEASURED = ("psnr_db", "recognition_top1_", "worst_top1")


def _cells(row: Row, tried: Sequence[str]) -> tuple[str, ...]:
    figures = ("", "", "")
    if row["state"] == "complete":
        leaks = "" if row["private"] else ", leaks"
        figures = (
            f"{row['psnr_db']:.2f} dB",
            f"{row['worst_attacker']} up to {percent(row['worst_top1_upper95'])} %{leaks}",
            "passes" if row["gate_passed"] else "fails",
        )
    return str(row["trial"]), row["state"], *figures, *(_short(row[name]) for name in tried)


def _short(value: Any) -> str:  # noqa: ANN401 - a setting's value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def fragment(name: str, settings: LearnedParams, heading: str) -> str:
    """Return YAML to put in the place of the entry `name` of params.yaml; `heading` becomes its comment."""
    usual = {
        field.name: field.default
        for field in dataclasses.fields(settings)
        if field.default is not dataclasses.MISSING
    }
    values = {
        key: value
        for key, value in dataclasses.asdict(settings).items()
        if key not in usual or usual[key] != value
    }
    ordered = {"method": values.pop("method")} | values
    text = yaml.safe_dump({"train": {name: ordered}}, sort_keys=False)
    return "".join(f"# {line}\n" for line in heading.splitlines()) + text


def heading(found: Figures, number: int, trials: int) -> str:
    """Say in three lines which of so many trials this was, and what it came to."""
    verdict = f"The gate would refuse it: {found.failures}." if found.failures else "It passes the gate."
    return (
        f"Found by a sweep: trial {number} of {trials}.\n"
        f"Mean PSNR {found.psnr_db:.2f} dB over {', '.join(found.channels)};"
        f" worst attacker {found.worst_attacker}, upper 95 % bound {percent(found.worst_top1_upper95)} %.\n"
        f"{verdict}"
    )


def picture(rows: Sequence[Row], name: str) -> bytes:
    """Return a PNG: the trials' mean PSNR in order, private or not, and the best private one so far."""
    from matplotlib.ticker import MaxNLocator

    with styled():
        figure = new_figure(8.0, 4.0)
        axes = figure.subplots()
        complete = [row for row in rows if row["state"] == "complete"]
        for private, colour, label in ((True, SAFE, "within the gate's limits"), (False, EXPOSED, "leaks")):
            points = [(row["trial"], row["psnr_db"]) for row in complete if row["private"] is private]
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, label=label, zorder=3)
        axes.plot(*_best_so_far(complete), color=SAFE, drawstyle="steps-post", label="best so far")
        for row in rows:
            if row["state"] != "complete":
                axes.axvline(row["trial"], color=MUTED, linestyle=":", linewidth=0.8)
        axes.set(
            xlabel="trial (dotted: given up)",
            ylabel="PSNR in dB, mean over the gate's channels",
            title=f"Sweep {name}",
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
        return buffer.getvalue()


def _best_so_far(complete: Sequence[Row]) -> tuple[list[int], list[float]]:
    steps: list[int] = []
    values: list[float] = []
    for row in complete:
        if row["private"]:
            steps.append(row["trial"])
            values.append(max(row["psnr_db"], values[-1] if values else row["psnr_db"]))
    return steps, values


def metrics_of(found: Figures) -> dict[str, float]:
    """Return the figures as MLflow takes them."""
    figures = {
        "psnr_db": found.psnr_db,
        "private": float(found.private),
        "gate_passed": float(not found.failures),
        "worst_top1": found.worst_top1,
        "worst_top1_upper95": found.worst_top1_upper95,
    }
    for channel, (psnr_db, recognised) in found.channels.items():
        figures |= {f"psnr_db.{channel}": psnr_db, f"recognition_top1.{channel}": recognised}
    return figures
