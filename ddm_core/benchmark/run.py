"""The benchmark from end to end: cells, table, results.json, page; what was finished before is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ddm_core.benchmark.assembly import assemble, read_records
from ddm_core.benchmark.cells import Laboratory, read_record
from ddm_core.benchmark.external import resolved
from ddm_core.benchmark.gate import as_plain, check_attackers
from ddm_core.benchmark.plan import STAGES, Cell, Places, Stage, grid
from ddm_core.benchmark.progress import show
from ddm_core.benchmark.provenance import Origin
from ddm_core.benchmark.results_file import RESULTS
from ddm_core.benchmark.runs import note_run, read_runs
from ddm_core.benchmark.settings import BenchmarkParams
from ddm_core.benchmark.tracked import Tracked
from ddm_core.benchmark.workers import Event, run_cells
from ddm_core.data.manifest import read_summary
from ddm_core.data.workers import orderly_termination
from ddm_core.errors import DdmError
from ddm_core.files import alone, remove_leftovers_below, write_bytes, write_json
from ddm_core.reporting.provenance import read_commit

LOCK, LOG, FAILURES = "run.lock", "run.log", "failures.log"
TABLE = "table"


@dataclass(frozen=True)
class Order:
    """What is to be done: `stages` are the cells' or `table`, which adds them up; `jobs` processes at most.

    `partial` lets the table do without cells that are not there. `mlflow` tells MLflow; `page` writes the
    results page, and `document` gets the table between its marks. `command` is recorded in results.json.
    """

    prepared: Path
    results: Path
    jobs: int
    stages: tuple[str, ...] = (*STAGES, TABLE)
    partial: bool = False
    mlflow: bool = True
    page: bool = True
    document: Path | None = None
    command: str = "ddm benchmark"


@dataclass(frozen=True)
class Outcome:
    """How many cells ran and were reused, which failed (and why, in a line each), and whether attackers pass.

    `sane` is None where no table was asked for, or nobody attacked anything. `seconds` is the wall time.
    """

    ran: int
    reused: int
    failed: tuple[str, ...]
    sane: bool | None
    seconds: float


def run(params: BenchmarkParams, order: Order) -> Outcome:
    """Run what is not there yet, then write table.csv, table.parquet, results.json and the page.

    For the table the sanity gate's controls are run too, whatever the grid is.

    Raises:
        DdmError: no prepared photos, another run at work in the results folder, a result missing for the
            table (of a partial one all of them), or MLflow cannot be reached.
    """
    started = time.perf_counter()
    dataset = read_summary(order.prepared)
    params = resolved(params)
    origin = Origin(*read_commit(Path.cwd()))
    laboratory = Laboratory(params, order.prepared, dataset, Places(order.results), origin)
    stages: list[Stage] = [stage for stage in STAGES if stage in order.stages]
    refusal = f"{order.results}: another run is at work here; wait for it or pass -o FOLDER"
    with orderly_termination(), alone(order.results / LOCK, refusal):
        remove_leftovers_below(order.results)
        with_table = TABLE in order.stages
        events = _run_cells(grid(params, stages, controls=with_table), laboratory, order, started)
        sane = None
        if with_table:
            lost = {event.cell for event in events if event.failure}
            cells = [cell for cell in grid(params, controls=True) if cell not in lost]
            if order.partial:
                cells = [cell for cell in cells if read_record(cell, laboratory.places) is not None]
                _refuse_nothing(cells, order.results)
            sane = _write_table(cells, laboratory, order)
    return Outcome(
        ran=sum(event.outcome == "ran" for event in events),
        reused=sum(event.outcome == "reused" for event in events),
        failed=tuple(f"{event.cell}: {event.failure.reason}" for event in events if event.failure),
        sane=sane,
        seconds=time.perf_counter() - started,
    )


def _refuse_nothing(cells: Sequence[Cell], results: Path) -> None:
    """A table of nothing would take the place of a document's table of something."""
    if not any(cell.stage == "attack" for cell in cells):
        raise DdmError(f"{results}: no attack's result is there; run ddm benchmark without --stage")


def _run_cells(cells: Sequence[Cell], laboratory: Laboratory, order: Order, started: float) -> list[Event]:
    """Run the cells with everything that is told of them; return what became of each."""
    failures = order.results / FAILURES
    failures.unlink(missing_ok=True)
    ended: list[Event] = []
    try:
        _run_and_tell(cells, laboratory, order, ended)
    finally:  # an interrupted run, too, has spent its time
        if TABLE in order.stages:  # a single stage is DVC's, which runs hundreds of them
            seconds = time.perf_counter() - started
            note_run(
                order.results, order.command, laboratory.origin.commit, seconds, order.jobs, ended, len(cells)
            )
    return ended


def _run_and_tell(cells: Sequence[Cell], laboratory: Laboratory, order: Order, ended: list[Event]) -> None:
    failures = order.results / FAILURES
    with Tracked(laboratory, order.command, on=order.mlflow and len(cells) > 0) as tracked:
        running = run_cells(cells, laboratory, jobs=order.jobs, log=order.results / LOG)
        with closing(running), closing(show(running, cells, laboratory.params, order.jobs)) as shown:
            for event in shown:
                if event.outcome == "started":
                    continue
                ended.append(event)
                if event.outcome == "ran":
                    tracked.note(event.cell)
                elif event.failure:
                    with failures.open("a") as file:
                        file.write(f"{event.cell}: {event.failure.reason}\n{event.failure.trace}\n")
        tracked.sum_up(ended)


def _write_table(cells: Sequence[Cell], laboratory: Laboratory, order: Order) -> bool | None:
    from ddm_core.benchmark.table import as_csv, as_parquet, build_table

    results = order.results
    records = read_records(cells, laboratory)
    sanity = check_attackers(records)
    table = build_table(records, sanity)
    write_bytes(results / "table.csv", as_csv(table))
    write_bytes(results / "table.parquet", as_parquet(table))
    content = assemble(records, laboratory, as_plain(sanity), read_runs(results), order.command)
    write_json(results / RESULTS, content)
    if order.page:
        from ddm_core.benchmark.page import write_page

        write_page(results)
    if order.document:
        from ddm_core.benchmark.markdown import update_document

        update_document(order.document, results)
    return all(check.passed for check in sanity) if sanity else None
