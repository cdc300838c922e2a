"""The tables that `dvc plots` draws, as CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddm_core.reporting.metrics import History

TRAINING_FIGURES = ("loss", "jsd_lower_bound", "psnr_db")


def attacks_csv(metrics: Mapping[str, Any]) -> str:
    """Return one line a cell, controls included: accuracies as fractions with their 95 % interval."""
    return _csv_text(
        ("obfuscator", "attacker", "top1", "ci95_low", "ci95_high", "n"),
        (
            (name, attacker, cell["top1"], *cell["ci95"], cell["n"])
            for name, entry in metrics["obfuscators"].items()
            for attacker, cell in (entry["attacks"] | entry["controls"]).items()
        ),
    )


def channels_csv(metrics: Mapping[str, Any]) -> str:
    """Return one line an obfuscator and channel: PSNR in decibels, the rest as fractions."""
    figures = ("psnr_db", "ssim", "recognition_top1")
    return _csv_text(
        ("obfuscator", "channel", *figures),
        (
            (name, channel, *(cell[figure] for figure in figures))
            for name, entry in metrics["obfuscators"].items()
            for channel, cell in entry["utility"].items()
        ),
    )


def training_csv(histories: Mapping[str, History]) -> str:
    """Return one line a logged step; a figure that was not logged there stays empty."""
    return _csv_text(
        ("obfuscator", "step", *TRAINING_FIGURES),
        (
            (name, int(row["step"]), *(row.get(figure, "") for figure in TRAINING_FIGURES))
            for name, history in histories.items()
            for row in history
        ),
    )


def _csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
