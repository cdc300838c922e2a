"""What it took to make the cells: one entry a run that made some, kept beside the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddm_core.benchmark.results_file import RunEntry
from ddm_core.benchmark.workers import Event
from ddm_core.files import read_json, write_json

RUNS = "runs.json"


def read_runs(results: Path) -> list[dict[str, Any]]:
    """Return the entries of earlier runs, the first first.

    Raises:
        DdmError: the file is damaged.
    """
    path = results / RUNS
    return list(read_json(path)) if path.exists() else []


def note_run(  # noqa: PLR0917 - an entry's own fields
    results: Path,
    command: str,
    commit: str,
    seconds: float,
    processes: int,
    events: Sequence[Event],
    cells: int,
) -> None:
    """Add a run of `cells` cells, of which `events` say what became; one that made none leaves no entry."""
    outcomes = [event.outcome for event in events]
    if "ran" not in outcomes:
        return
    entry = RunEntry(
        command=command,
        commit=commit,
        seconds=round(seconds, 1),
        processes=processes,
        ran=outcomes.count("ran"),
        reused=outcomes.count("reused"),
        failed=outcomes.count("failed") + outcomes.count("skipped"),
        finished=len(events) == cells,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_json(results / RUNS, [*read_runs(results), dataclasses.asdict(entry)])
