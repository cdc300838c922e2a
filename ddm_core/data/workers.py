"""Many processes for work that many files need, one thread each, and an orderly end whatever happens to one.

A process that is killed ends the run with one line; when the caller dies, is interrupted or asked to end,
its processes end too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol, TypeVar

from ddm_core.errors import DdmError
from ddm_core.termination import sigterm_raises

Item_contra = TypeVar("Item_contra", contravariant=True)
Outcome_co = TypeVar("Outcome_co", covariant=True)
LIBRARY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, `max` or microseconds in a period

_stopped: Event | None = None


class Work(Protocol[Item_contra, Outcome_co]):
    """A function of one item, at the top level of its module; it calls `check` every now and then."""

    def __call__(self, item: Item_contra, check: Callable[[], None], /) -> Outcome_co:
        """Return the outcome."""


class _StoppedError(Exception):
    """Somebody else failed; this process is to stop."""


def available_cores() -> int:
    """Return the number of cores that this process may use, at least 1: of the machine or its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def outcomes(
    work: Work[Item_contra, Outcome_co], items: Sequence[Item_contra], workers: int
) -> Generator[tuple[int, Outcome_co], None, None]:
    """Yield the place and the outcome of every item as they get done, by up to `workers` processes.

    Raises:
        DdmError: fewer than one worker; a process was killed. What `work` raises is raised here, and ends
            the other processes.
    """
    if workers < 1:
        raise DdmError(f"{workers} workers cannot work; give at least 1")
    workers = min(workers, len(items))
    if workers <= 1:
        for place, item in enumerate(items):
            yield place, work(item, _carry_on)
        return
    context = multiprocessing.get_context("spawn")  # forking would copy the locks of the caller's threads
    stopped = context.Event()
    executor = ProcessPoolExecutor(workers, context, _start, (stopped,))
    try:
        yield from _in_processes(executor, work, items, 2 * workers)
    except BrokenProcessPool:
        raise DdmError(
            "a worker process was killed, perhaps for want of memory; run again with fewer at a time, what is"
            " finished is kept"
        ) from None
    finally:
        stopped.set()
        executor.shutdown(cancel_futures=True)


def orderly_termination() -> AbstractContextManager[None]:
    """Turn the signal to end (SIGTERM), in the main thread, into a DdmError, so that work is cleaned up."""
    return sigterm_raises(
        lambda: DdmError("asked to end by SIGTERM; nothing half-written was left, run again to go on")
    )


def _in_processes(
    executor: ProcessPoolExecutor,
    work: Work[Item_contra, Outcome_co],
    items: Sequence[Item_contra],
    waiting: int,
) -> Generator[tuple[int, Outcome_co], None, None]:
    """Hand in a few items at a time: all at once would hold a second copy of them."""
    places: dict[Future[Outcome_co], int] = {}
    remaining = iter(enumerate(items))
    while True:
        while len(places) < waiting and (following := next(remaining, None)) is not None:
            place, item = following
            places[executor.submit(_run, work, item)] = place
        if not places:
            return
        done, _ = wait(places, return_when=FIRST_COMPLETED)
        for future in done:
            yield places.pop(future), future.result()


def _start(stopped: Event) -> None:
    """Prepare a new process, before it imports any library that starts threads."""
    global _stopped  # noqa: PLW0603 - the pool has no other way to hand something to its processes
    _stopped = stopped
    os.environ.update(dict.fromkeys(LIBRARY_THREADS, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells everybody; the caller will see to it
    threading.Thread(target=_end_with_caller, daemon=True).start()


def _end_with_caller() -> None:
    """The pool's own processes would wait for a dead caller for ever."""
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)


def _run(work: Work[Item_contra, Outcome_co], item: Item_contra) -> Outcome_co:
    return work(item, _check)


def _check() -> None:
    if _stopped is not None and _stopped.is_set():
        raise _StoppedError


def _carry_on() -> None:
    pass
