"""A trace of a few training steps for chrome://tracing or <https://ui.perfetto.dev>. Light to import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TRACE = "trace.json"
TRACED_STEPS = 5
_PASSED_OVER = 10  # first steps, in which libraries choose their kernels


@contextmanager
def profiled(folder: Path | None, steps: int) -> Iterator[Callable[[], None]]:
    """Yield what to call after each of `steps` steps; `folder`/trace.json gets the trace of five of them.

    Operations, their shapes and memory are recorded. Without a folder nothing happens, and one step is too
    short for a trace, which a line on stderr says.
    """
    if folder is None or steps < 2:
        if folder is not None:
            print(f"{folder / TRACE}: not written, for it takes at least 2 steps", file=sys.stderr)
        yield lambda: None
        return
    from torch.profiler import ProfilerActivity, profile, schedule, supported_activities

    traced = min(TRACED_STEPS, steps - 1)
    passed_over = min(_PASSED_OVER, steps - 1 - traced)
    kinds = {ProfilerActivity.CPU, ProfilerActivity.CUDA} & set(supported_activities())  # type: ignore[no-untyped-call]
    with profile(
        activities=sorted(kinds, key=str),
        schedule=schedule(wait=0, warmup=1, active=traced, repeat=1, skip_first=passed_over),
        on_trace_ready=lambda ready: _write(ready.export_chrome_trace, folder),
        record_shapes=True,
        profile_memory=True,
    ) as profiler:
        yield profiler.step


def _write(export: Callable[[str], None], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{TRACE}"
    try:
        export(str(unfinished))
        unfinished.replace(folder / TRACE)
    finally:
        unfinished.unlink(missing_ok=True)
