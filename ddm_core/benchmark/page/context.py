"""What the templates show: plain values from results.json, plots and inlined pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ddm_core.attacks.sanity import below_level
from ddm_core.benchmark.identity import identity_table
from ddm_core.benchmark.page.curves import pool_curves
from ddm_core.benchmark.page.plots import COMPUTE, DATA, curve_panels, curve_plot, trade_off_plot
from ddm_core.benchmark.results_file import CellResult, Results
from ddm_core.benchmark.summary import (
    CONTROL_NOTES,
    Row,
    attackers_of,
    channels_of,
    gate_state,
    naming_attackers,
    verdict,
)
from ddm_core.reporting import wording
from ddm_core.reporting.page import Picture, read_picture
from ddm_core.results import PICTURES, CleanLevel

GRADES = {
    "hidden": "at chance",
    "leaking": "above chance",
    "exposed": "exposed",
    "unmeasured": "not measured",
}
PLOTTED_CHANNELS = ("png", "jpeg75")


def index_context(results: Results, rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Return what index.html.jinja needs; `folder` holds the pictures.

    Raises:
        DdmError: a picture is not a PNG.
    """
    chance = results.dataset.chance
    curves = {
        row.name: pool_curves(cell for cell in results.cells if cell.obfuscator == row.name) for row in rows
    }
    curves = {name: points for name, points in curves.items() if points}
    plots = {channel: trade_off_plot(rows, channel, chance) for channel in PLOTTED_CHANNELS}
    return {
        "results": results,
        "rows": rows,
        "verdict": verdict(results, list(rows)),
        "gate": gate_state(results.sanity),
        "grades": GRADES,
        "attackers": naming_attackers(results),
        "all_attackers": attackers_of(results),
        "attacker_notes": wording.ATTACKER_NOTES,
        "channels": channels_of(results),
        "notes": {row.name: _note(row) for row in rows},
        "absent": wording.ABSENT,
        "links": {(cell.obfuscator, cell.attacker): cell_page_name(cell) for cell in reversed(results.cells)},
        "grids": {row.name: _first_grid(folder, results, row.name) for row in rows},
        "trade_offs": {channel: Markup(plot) for channel, plot in plots.items() if plot},
        "curves": [(axis.title, _marked_up(curve_panels(curves, axis, chance))) for axis in (DATA, COMPUTE)]
        if curves
        else [],
        "identity": identity_table(results),
        "embedding_notes": wording.EMBEDDING_NOTES,
    }


def cell_context(cell: CellResult, results: Results, rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Return what cell.html.jinja needs.

    Raises:
        DdmError: the cell's picture is not a PNG.
    """
    row = next(row for row in rows if row.name == cell.obfuscator)
    points = pool_curves([cell])
    chance = cell.result.chance or results.dataset.chance
    return {
        "cell": cell,
        "result": cell.result,
        "results": results,
        "entry": row.entry,
        "note": _note(row),
        "failed": cell.attacker in row.failed and (cell.attacker, cell.seed) in below_level(results.sanity),
        "attacker_note": wording.ATTACKER_NOTES.get(cell.attacker),
        "chance": chance,
        "figures": _figures(cell, chance),
        "embedding_notes": wording.EMBEDDING_NOTES,
        "siblings": [
            (other, cell_page_name(other))
            for other in results.cells
            if other.obfuscator == cell.obfuscator and other != cell
        ],
        "settings": _plain(cell.settings),
        "provenance": _plain(cell.provenance),
        "picture": _picture(
            folder / "cells" / f"seed{cell.seed}" / cell.obfuscator / cell.attacker / PICTURES,
            cell.obfuscator,
            cell.attacker,
        ),
        "curve_plots": [Markup(curve_plot(points, axis, chance, cell.obfuscator)) for axis in (DATA, COMPUTE)]
        if points
        else [],
    }


def cell_page_name(cell: CellResult) -> str:
    """Return the file name of a cell's page."""
    return f"seed{cell.seed}-{cell.obfuscator}-{cell.attacker}.html"


def _figures(cell: CellResult, chance: float) -> list[tuple[str, str]]:
    """Every single figure of a cell, by name and as written."""
    result = cell.result
    written: list[tuple[str, str | None]] = [
        ("Right person named", _per_cent(result.top1)),
        ("95 % interval (Wilson)", f"{wording.interval(result.ci95)} %" if result.ci95 else None),
        ("Right person among the first five", _per_cent(result.top5)),
        ("Test encryptions", str(result.n) if result.n is not None else None),
        ("Guessing", _per_cent(chance) if result.top1 is not None else None),
        ("Reconstruction, PSNR", _with(result.psnr_db, "{:.1f} dB")),
        ("Reconstruction, SSIM", _with(result.ssim, "{:.3f}")),
        ("Reconstruction, identity similarity (cosine)", _with(result.identity_similarity, "{:.3f}")),
        *_clean_level(result.clean_level),
        ("Network that did best on validation photos", result.architecture),
        ("Weights attacked (SHA-256)", result.weights_sha256),
        ("Time", f"{result.seconds:.1f} s"),
    ]
    return [(name, text) for name, text in written if text is not None]


def _clean_level(level: CleanLevel | None) -> list[tuple[str, str | None]]:
    if level is None:
        return []
    verdict = "strong enough to count" if level.strong_enough else "too weak to count"
    least = f"{wording.percent(level.least)} % is the least"
    return [("Embedding's level on clean photos", f"{wording.percent(level.top1)} %: {verdict}, {least}")]


def _marked_up(svgs: dict[str, str]) -> dict[str, Markup]:
    return {name: Markup(svg) for name, svg in svgs.items()}


def _per_cent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{wording.percent(fraction)} %"


def _with(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _plain(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Keys with their values as one line of text each."""
    return [
        (key.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in values.items()
    ]


def _note(row: Row) -> str:
    settings = {"method": row.entry.method} | row.entry.settings
    return CONTROL_NOTES.get(row.name) or wording.describe_obfuscator(settings)


def _first_grid(folder: Path, results: Results, obfuscator: str) -> Picture | None:
    seeds = sorted({*results.seeds, *(entry.seed for entry in results.utility)})
    pictures = (
        _picture(folder / "utility" / f"seed{seed}" / obfuscator / PICTURES, obfuscator, None)
        for seed in seeds
    )
    return next((picture for picture in pictures if picture), None)


def _picture(path: Path, obfuscator: str, attacker: str | None) -> Picture | None:
    return read_picture(path, obfuscator, attacker) if path.exists() else None
