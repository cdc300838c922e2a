"""Cells side by side: long-lived processes of one thread each, the ready cell of the longest chain first.

Results do not depend on the number of processes: every cell draws from its own seed, and reads finished cells
alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Literal

from ddm_core.benchmark.cells import Laboratory, is_done, run_cell
from ddm_core.benchmark.plan import Cell, needs, ranks
from ddm_core.data.workers import LIBRARY_THREADS
from ddm_core.errors import DdmError

ATTEMPTS = 2  # a process that is killed takes its neighbours' cells with it; they get another chance
SECONDS_TO_END = 15.0
KILLED = "a process was killed, perhaps for want of memory; try fewer --jobs"


@dataclass(frozen=True)
class Failure:
    """Why a cell failed, in one line, and for the log where in the code."""

    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Event:
    """What became of a cell, and after how many seconds; a skipped one needs a cell that failed."""

    cell: Cell
    outcome: Literal["started", "reused", "ran", "failed", "skipped"]
    failure: Failure | None = None
    seconds: float = 0.0


def run_cells(
    cells: Sequence[Cell], laboratory: Laboratory, *, jobs: int, log: Path
) -> Generator[Event, None, None]:
    """Run the cells, each once what it needs is there, and yield what became of each as it ends.

    A cell whose record fits its inputs is not run again. What the processes print goes to the file `log`.
    When the caller stops, by an error or an interrupt, the processes are ended at once.
    """
    order = ranks(cells, laboratory.params)
    waiting = sorted(cells, key=lambda cell: -order[cell])  # stable: equal ranks keep the grid's order
    ready: list[Cell] = []
    lost: set[Cell] = set()
    with _Processes(laboratory, jobs, log) as processes:
        while waiting or ready or processes.running:
            unfinished = {*waiting, *ready, *processes.running}
            for cell in list(waiting):
                needed = needs(cell, laboratory.params)
                if any(one in lost for one in needed):
                    waiting.remove(cell)
                    lost.add(cell)
                    yield Event(cell, "skipped", Failure(_in_vain(needed, lost)))
                elif unfinished.isdisjoint(needed):
                    waiting.remove(cell)
                    if is_done(cell, laboratory):
                        unfinished.remove(cell)
                        yield Event(cell, "reused")
                    else:
                        ready.append(cell)
            while ready and processes.free:
                ready.sort(key=lambda cell: -order[cell])
                processes.start(ready[0])
                yield Event(ready.pop(0), "started")
            for ended in processes.ended():
                if ended.outcome == "failed":
                    lost.add(ended.cell)
                yield ended


def _in_vain(needed: Sequence[Cell], lost: set[Cell]) -> str:
    return f"it needs {next(cell for cell in needed if cell in lost)}, which failed"


class _Processes:
    """A pool that outlives the death of one of its processes."""

    def __init__(self, laboratory: Laboratory, jobs: int, log: Path) -> None:
        self._laboratory, self._jobs, self._log = laboratory, jobs, log
        self._pool: ProcessPoolExecutor | None = None
        self._futures: dict[Future[Failure | None], Cell] = {}
        self._attempts: Counter[Cell] = Counter()
        self._started: dict[Cell, float] = {}

    def __enter__(self) -> _Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if self._futures:  # stopped before its time: what is unfinished is lost anyway
            _end(multiprocessing.active_children())
        self._pool.shutdown(cancel_futures=True)

    @property
    def running(self) -> list[Cell]:
        return list(self._futures.values())

    @property
    def free(self) -> bool:
        return len(self._futures) < self._jobs

    def start(self, cell: Cell) -> None:
        if self._pool is None:  # not before there is work: a run that reuses everything starts no process
            context = multiprocessing.get_context("spawn")  # forking would copy the locks of other threads
            self._pool = ProcessPoolExecutor(self._jobs, context, _begin, (str(self._log),))
        self._attempts[cell] += 1
        self._started[cell] = time.monotonic()
        self._futures[self._pool.submit(_work, cell, self._laboratory)] = cell

    def ended(self) -> list[Event]:
        """Wait for a cell to end, if one runs; return what became of those that have."""
        if not self._futures:
            return []
        done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        broken = any(isinstance(future.exception(), BrokenProcessPool) for future in done)
        whole = [future for future in done if future.exception() is None]
        taken = [self._take(future) for future in whole]
        return [*taken, *self._start_anew()] if broken else taken

    def _take(self, future: Future[Failure | None]) -> Event:
        failure = future.result()
        cell = self._futures.pop(future)
        seconds = time.monotonic() - self._started[cell]
        return Event(cell, "failed" if failure else "ran", failure, seconds)

    def _start_anew(self) -> list[Event]:
        """Nobody knows which process was killed; all their cells get another chance, each only once."""
        broken, cells = self._pool, self.running
        self._pool, self._futures = None, {}
        if broken is not None:
            broken.shutdown(cancel_futures=True)
        hopeless = [cell for cell in cells if self._attempts[cell] >= ATTEMPTS]
        for cell in cells:
            if cell not in hopeless:
                self.start(cell)
        return [Event(cell, "failed", Failure(KILLED)) for cell in hopeless]


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ask the processes to end, which lets a training write its checkpoint; then make them."""
    deadline = time.monotonic() + SECONDS_TO_END
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


def _work(cell: Cell, laboratory: Laboratory) -> Failure | None:
    try:
        run_cell(cell, laboratory)
    except SystemExit:  # asked to end while it trained, and the checkpoint is written: the pool would go on
        os._exit(1)
    except DdmError as error:
        return Failure(str(error), traceback.format_exc())
    except Exception as error:  # one cell's failure, of whatever kind, is not the others'
        words = " ".join(str(error).split())
        return Failure(
            f"{type(error).__name__}: {words}" if words else type(error).__name__, traceback.format_exc()
        )
    return None


def _begin(log: str) -> None:
    """Prepare a new process, before it imports any library that starts threads."""
    os.environ.update(dict.fromkeys(LIBRARY_THREADS, "1"))
    os.environ["TQDM_DISABLE"] = "1"  # the caller shows the progress of the whole
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells everybody; the caller will see to it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
    from tqdm import tqdm

    tqdm.set_lock(
        threading.RLock()
    )  # its own is a semaphore, which a process that is ended would leave behind


def _end_with_caller() -> None:
    """The pool's own processes would wait for a dead caller for ever."""
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)
