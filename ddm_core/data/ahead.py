"""Work done ahead by threads, a bounded number of items, in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
ITEMS_AT_A_TIME = 32  # handing over one by one would cost as much as the work
BATCHES_AHEAD = 4


def read_ahead(
    items: Generator[Item, None, None], at_a_time: int | None = None
) -> Generator[Item, None, None]:
    """Yield the items, which one thread gets, `at_a_time` (ITEMS_AT_A_TIME) in one go."""
    with closing(items), ThreadPoolExecutor(1, "read_ahead") as thread:
        yield from _in_batches(thread, lambda: thread.submit(lambda: _next_batch(items, at_a_time)))


def map_ahead(
    work: Callable[[Item], Outcome], items: Generator[Item, None, None], threads: int
) -> Generator[Outcome, None, None]:
    """Yield `work` of the items, which several threads do."""

    def submit() -> Future[list[Outcome]]:
        batch = _next_batch(items)
        return pool.submit(lambda: list(map(work, batch)))

    with closing(items), ThreadPoolExecutor(threads, "map_ahead") as pool:
        yield from _in_batches(pool, submit)


def _next_batch(items: Iterator[Item], size: int | None = None) -> list[Item]:
    return list(islice(items, size or ITEMS_AT_A_TIME))


def _in_batches(
    pool: ThreadPoolExecutor, submit: Callable[[], Future[list[Outcome]]]
) -> Generator[Outcome, None, None]:
    batches: deque[Future[list[Outcome]]] = deque()
    try:
        while True:
            while len(batches) < BATCHES_AHEAD:
                batches.append(submit())
            batch = batches.popleft().result()
            if not batch:
                return
            yield from batch
    finally:
        pool.shutdown(cancel_futures=True)
