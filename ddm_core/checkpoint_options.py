"""Where and how often a training keeps checkpoints: settings that change no result. Light to import."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddm_core.errors import DdmError

DEFAULT_PLACE = ".checkpoints"
DEFAULT_INTERVAL = "1min"
DEFAULT_KEEP = 2


@dataclass(frozen=True)
class Interval:
    """The time between two checkpoints: so many optimiser steps or so many seconds, the other is 0."""

    steps: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return it as `parse_interval` reads it."""
        return str(self.steps) if self.steps else f"{self.seconds / 60:.0f}min"


@dataclass(frozen=True)
class CheckpointOptions:
    """`place` is a folder or s3://bucket/prefix; each training gets a folder of its own in it.

    The last `keep` checkpoints (from 1) stay, and the best one. Without `resume` what an earlier training has
    left there is removed, and the training starts from its beginning.
    """

    place: str
    every: Interval
    keep: int = DEFAULT_KEEP
    resume: bool = True

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise DdmError(f"checkpoint-keep is {self.keep}; keep at least 1")


def parse_interval(text: str) -> Interval:
    """Read `500` (steps) or `5min` (minutes).

    Raises:
        DdmError: neither of them.
    """
    match = re.fullmatch(r"([1-9]\d{0,8})(min)?", text)
    if match is None:
        raise DdmError(f"checkpoint-every is '{text}'; write steps, such as 500, or minutes, such as 5min")
    number = int(match[1])
    return Interval(seconds=60.0 * number) if match[2] else Interval(steps=number)


def options_for(place: str | None) -> CheckpointOptions | None:
    """Return the default options with checkpoints at `place`; none where there is no place."""
    return CheckpointOptions(place, parse_interval(DEFAULT_INTERVAL)) if place else None
