"""Several transfers at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_A_TIME = 8
BATCH = 1000  # transfers that wait at a time: each takes memory

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_parallel(work: Callable[[Item], Outcome], items: Sequence[Item], label: str) -> list[Outcome]:
    """Return `work` of every item in their order, several at a time, with a progress bar named `label`."""
    from tqdm import tqdm

    outcomes = []
    with (
        tqdm(total=len(items), desc=label, unit="file") as progress,
        ThreadPoolExecutor(AT_A_TIME) as executor,
    ):
        for start in range(0, len(items), BATCH):
            for outcome in executor.map(work, items[start : start + BATCH]):
                outcomes.append(outcome)
                progress.update()
    return outcomes
