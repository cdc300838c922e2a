"""The progress of a run for people: cells done, what runs, and the time left, which knows long cells."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from ddm_core.benchmark.plan import Cell, expected_seconds
from ddm_core.benchmark.settings import BenchmarkParams
from ddm_core.benchmark.workers import Event

DOUBT_SECONDS = 30.0  # until this much work is done, the expected times count more than the measured ones


def show(
    events: Iterator[Event], cells: Sequence[Cell], params: BenchmarkParams, jobs: int
) -> Generator[Event, None, None]:
    """Pass the events on and draw a bar of the cells on standard error."""
    from tqdm import tqdm

    clock = Clock(cells, params, jobs)
    running: list[Cell] = []
    layout = "{desc}: {n_fmt}/{total_fmt} cells |{bar}| {elapsed} passed{postfix}"
    with tqdm(total=len(cells), desc="benchmark", bar_format=layout) as bar:
        for event in events:
            if event.outcome == "started":
                running.append(event.cell)
            else:
                running = [cell for cell in running if cell != event.cell]
                clock.note(event)
                bar.update()
            bar.postfix = f"{clock.words()} left; {', '.join(map(str, running))}"
            bar.refresh()
            yield event


class Clock:
    """Expects the time left from what cells usually cost and how fast this machine has been so far."""

    def __init__(self, cells: Sequence[Cell], params: BenchmarkParams, jobs: int) -> None:
        self._expected = {cell: expected_seconds(cell, params) for cell in cells}
        self._jobs = jobs
        self._done = self._took = 0.0

    def note(self, event: Event) -> None:
        """Take in what became of a cell."""
        expected = self._expected.pop(event.cell)
        if event.outcome == "ran":
            self._done += expected
            self._took += event.seconds

    def seconds_left(self) -> float:
        """Return the seconds until the last cell ends, roughly."""
        pace = (self._took + DOUBT_SECONDS) / (self._done + DOUBT_SECONDS)
        return pace * sum(self._expected.values()) / self._jobs

    def words(self) -> str:
        """Return the time left as minutes and seconds."""
        minutes, seconds = divmod(round(self.seconds_left()), 60)
        return f"about {minutes}:{seconds:02}"
