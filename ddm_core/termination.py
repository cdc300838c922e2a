"""SIGTERM, as of a reclaimed spot node or an evicted pod: noted between two steps, or raised at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_STATUS = 128 + signal.SIGTERM
"""143, what a shell gives a process that SIGTERM ended. Kubernetes retries it like any failure, and policies
that go by exit status (a Job's podFailurePolicy) can tell it from a mistake of the user's, 1 or 2."""


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM came; in the block it ends nothing by itself.

    Only the main thread gets signals: elsewhere SIGTERM keeps its meaning.
    """
    came = threading.Event()
    with _answered(came.set):
        yield came.is_set


@contextmanager
def sigterm_raises(end: Callable[[], BaseException]) -> Iterator[None]:
    """Let SIGTERM raise what `end` makes wherever the block is, so that what is half-done is cleaned up.

    Elsewhere than in the main thread it keeps its meaning.
    """

    def answer() -> None:
        raise end()

    with _answered(answer):
        yield


@contextmanager
def _answered(answer: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: answer())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
