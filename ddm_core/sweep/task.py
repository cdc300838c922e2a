"""A trial as a piece of work for a process of its own: settings in, what became of them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddm_core.files import atomic_directory
from ddm_core.learned_params import LearnedParams
from ddm_core.sweep.pruning import Curve, median_rule
from ddm_core.sweep.space import Pruning
from ddm_core.sweep.trial import BrokenTrainingError, Figures, Laboratory, run_trial


@dataclass(frozen=True)
class Task:
    """One trial to run: `folder` is what it writes, `rivals` are whom its training must keep up with."""

    laboratory: Laboratory
    settings: LearnedParams
    folder: Path
    pruning: Pruning | None
    rivals: tuple[Curve, ...]


@dataclass(frozen=True)
class Ended:
    """What became of a trial: its PSNR by step, and its figures or the reason why it has none."""

    state: Literal["complete", "pruned", "broken"]
    curve: dict[int, float]
    figures: Figures | None = None
    reason: str = ""


class _PrunedError(Exception):
    """The training falls behind."""


def carry_out(task: Task, check: Callable[[], None], /) -> Ended:
    """Run the trial; its folder appears as a whole, and only when it is complete.

    `check` raises when the work is to stop. Raises DdmError as the stages that measure.
    """
    curve: dict[int, float] = {}
    falls_behind = median_rule(task.pruning, task.rivals)

    def report(step: int, psnr_db: float) -> None:
        check()
        curve[step] = psnr_db
        if falls_behind(curve):
            raise _PrunedError

    try:
        with atomic_directory(task.folder) as folder:
            found = run_trial(task.laboratory, task.settings, folder, report)
    except _PrunedError:
        step, psnr_db = next(reversed(curve.items()))
        return Ended("pruned", curve, reason=f"{psnr_db:.1f} dB at step {step}, below the median")
    except BrokenTrainingError as error:
        return Ended("broken", curve, reason=str(error))
    return Ended("complete", curve, found)
