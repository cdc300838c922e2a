"""How figures are printed."""

from __future__ import annotations

import os
from collections.abc import Sequence


def load() -> str:
    """Return the machine's load of the last minute: above its cores, other work falsifies the figures."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def print_table(title: str, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print what was measured, its figure, its ratio and the target."""
    table = [(title, "measured", "ratio", "target"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
