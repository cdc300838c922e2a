"""The benchmark in MLflow: one run for the whole, and below it one for every cell that was run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ddm_core.benchmark.cells import Laboratory, read_record
from ddm_core.benchmark.plan import Cell
from ddm_core.benchmark.workers import Event

if TYPE_CHECKING:
    from ddm_core.tracking import TrackedRun

EXPERIMENT = "ddm-benchmark"


class Tracked:
    """An open run in MLflow, or with `on` false nothing at all. Only the caller's process tells MLflow."""

    def __init__(self, laboratory: Laboratory, command: str, *, on: bool) -> None:
        self._laboratory, self._command, self._on = laboratory, command, on
        self._run: TrackedRun | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Tracked:
        if self._on:
            from ddm_core.tracking import DatasetReference, track_run

            laboratory, params = self._laboratory, self._laboratory.params
            dataset = DatasetReference(
                "prepared photos", laboratory.dataset.dataset_digest, laboratory.prepared
            )
            grid = {
                name: " ".join(map(str, getattr(params, name)))
                for name in ("obfuscators", "attackers", "seeds")
            }
            opened = track_run(
                name="benchmark",
                params=grid,
                tags={"ddm.command": self._command},
                dataset=dataset,
                experiment=EXPERIMENT,
            )
            self._run = self._stack.enter_context(opened)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def note(self, cell: Cell) -> None:
        """Add the run of a cell that has ended well."""
        record = read_record(cell, self._laboratory.places) if self._run else None
        if self._run is None or record is None:
            return
        origin = {name: value for name, value in record["provenance"].items() if name != "params"}
        facts = origin | {name: record[name] for name in ("stage", "obfuscator", "attacker")}
        self._run.add_child(
            name=str(cell),
            params={
                "seed": cell.seed,
                "settings": record["settings"] or {},
                **record["provenance"]["params"],
            },
            metrics=dict(_numbers("", record["result"])) | {"seconds": origin["seconds"]},
            tags={f"ddm.{name}": str(value) for name, value in facts.items() if value is not None},
        )

    def sum_up(self, events: Sequence[Event]) -> None:
        """Note how many cells ended how."""
        if self._run is not None:
            outcomes = [event.outcome for event in events]
            self._run.log_metrics(
                {f"cells_{name}": outcomes.count(name) for name in ("ran", "reused", "failed", "skipped")}
            )


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _numbers(f"{name}.{place}", item)
    elif isinstance(value, int | float):
        yield name, float(value)
