"""SIGTERM as a wish that work obeys between two steps: a reclaimed spot node, an evicted pod."""

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
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
