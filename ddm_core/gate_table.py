"""The gate's verdict for people: one line a check, with limit, measured figure, interval and verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.files import read_json
from ddm_core.gate import Check, Verdict
from ddm_core.reporting.wording import ABSENT, interval

HEADINGS = ("check", "limit", "measured", "95 % interval", "verdict")


def read_evidence(metrics: Path, obfuscator: str) -> Mapping[str, Any]:
    """Return one obfuscator's entry of metrics.json.

    Raises:
        DdmError: the file is missing, out of shape, or does not speak of this obfuscator.
    """
    content = read_json(metrics)
    measured = content.get("obfuscators") if isinstance(content, dict) else None
    if not isinstance(measured, dict):
        raise DdmError(f"{metrics}: holds no obfuscators; write it again (dvc repro)")
    evidence = measured.get(obfuscator)
    if not isinstance(evidence, dict):
        raise DdmError(f"{metrics}: '{obfuscator}' was not measured{did_you_mean(obfuscator, measured)}")
    return evidence


def gate_table(verdict: Verdict) -> str:
    """Return the checks as aligned text; `FAIL` and `pass` are what one looks for in a log."""
    rows = [_row(check) for check in verdict.checks]
    return align([HEADINGS, *rows])


def figure(name: str, value: float) -> str:
    """Return what the check `name` measured, with its unit: decibels, or an accuracy as per cent."""
    return f"{value:.2f} dB" if name.startswith("psnr_db") else f"{100 * value:.1f} %"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, the columns one beneath the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(check: Check) -> tuple[str, ...]:
    if not check.relation:
        return check.name, ABSENT, check.text, ABSENT, _word(check)
    limit = ABSENT if check.limit is None else f"{check.relation} {figure(check.name, check.limit)}"
    measured = "no evidence" if check.measured is None else figure(check.name, check.measured)
    bounds = f"{interval(check.interval)} %" if check.interval else ABSENT
    return check.name, limit, measured, bounds, _word(check)


def _word(check: Check) -> str:
    return "pass" if check.passed else "FAIL"
