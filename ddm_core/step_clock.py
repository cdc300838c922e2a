"""What a training step costs: time of its parts, memory, use of the GPU. Measures, and changes nothing."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

Part: TypeAlias = Literal["data", "forward_backward", "optimiser"]


@dataclass(frozen=True)
class StepCost:
    """Mean seconds of a step's parts, peak memory so far, and the GPU's utilisation.

    `data` is drawing, moving and augmenting a batch, `optimiser` clipping and updating, and before them the
    exchange of gradients where several processes train. The peak in bytes is what torch allocated on a GPU,
    and what the whole process held where there is none. `gpu_utilisation` is the fraction of the last moments
    in which the GPU worked; `None` without a GPU, or where its driver tells none.
    """

    data_seconds: float
    forward_backward_seconds: float
    optimiser_seconds: float
    peak_memory_bytes: int
    gpu_utilisation: float | None


class StepClock:
    """Takes the time of a step's parts; a GPU takes its own, so that nothing waits for it."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        self._steps = 0
        self._seconds: dict[Part, float] = dict.fromkeys(("data", "forward_backward", "optimiser"), 0.0)
        self._laps: list[tuple[Part, torch.cuda.Event, torch.cuda.Event]] = []
        self._mark: float | torch.cuda.Event = 0.0

    def begin(self) -> None:
        """Note that a step begins."""
        self._steps += 1
        self._mark = self._now()

    def lap(self, part: Part) -> None:
        """Note that `part`, which began at the mark before, is done."""
        before, self._mark = self._mark, self._now()
        if isinstance(before, float) and isinstance(self._mark, float):
            self._seconds[part] += self._mark - before
        elif isinstance(before, torch.cuda.Event) and isinstance(self._mark, torch.cuda.Event):
            self._laps.append((part, before, self._mark))

    def read(self) -> StepCost:
        """Return the means over the steps since the last reading; on a GPU this waits for it."""
        if self._laps:
            self._laps[-1][2].synchronize()
            for part, begin, end in self._laps:
                self._seconds[part] += begin.elapsed_time(end) / 1000
        steps = max(self._steps, 1)
        means = {f"{part}_seconds": seconds / steps for part, seconds in self._seconds.items()}
        self._laps.clear()
        self._steps, self._seconds = 0, dict.fromkeys(self._seconds, 0.0)
        return StepCost(
            **means,
            peak_memory_bytes=_peak_memory(self._on_gpu),
            gpu_utilisation=_gpu_utilisation() if self._on_gpu else None,
        )

    def _now(self) -> float | torch.cuda.Event:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _peak_memory(on_gpu: bool) -> int:
    if on_gpu:
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _gpu_utilisation() -> float | None:
    # Whatever the driver refuses - no such figure on a slice of a GPU (MIG), a library of another version - a
    # figure is missing then, and no training ends for it.
    with suppress(Exception):
        return torch.cuda.utilization(torch.cuda.current_device()) / 100
    return None
