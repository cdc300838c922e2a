"""In which order the readers of an epoch see its photos: arithmetic on places, nothing is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddm_core.data.manifest import ShardRecord
from ddm_core.errors import DdmError
from ddm_core.seeding import numpy_generator

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class Reader:
    """One of the readers that share an epoch: `rank` of `ranks` machines, there `worker` of `workers`."""

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for place, count in ((self.rank, self.ranks), (self.worker, self.workers)):
            if not 0 <= place < count:
                raise DdmError(f"reader {self}: ranks and workers count from 0 and lie below their number")

    def stretch(self, photos: int) -> range:
        """Return the places, of so many photos, that this reader reads."""
        readers, place = self.ranks * self.workers, self.rank * self.workers + self.worker
        return range(photos * place // readers, photos * (place + 1) // readers)

    def order(self, photos: int, buffer: int, seed: int, epoch: int) -> list[int]:
        """Return 0 to `photos` - 1, places in this reader's stretch, in the order of an epoch."""
        name = f"stream/{epoch}/{self.rank}/{self.ranks}/{self.worker}/{self.workers}"
        return shuffled(photos, buffer, numpy_generator(seed, name))


def epoch_shards(shards: Sequence[ShardRecord], seed: int, epoch: int) -> list[ShardRecord]:
    """Return the shards in the order in which they make up the sequence of an epoch."""
    return [shards[place] for place in numpy_generator(seed, f"stream/{epoch}").permutation(len(shards))]


def shuffled(count: int, buffer: int, draws: numpy.random.Generator) -> list[int]:
    """Return 0 to `count` - 1 as they leave a buffer that is filled in order and drawn from at random.

    A number is at most `buffer` - 1 places earlier than in order, so that no more need be held at a time.
    """
    held = list(range(min(buffer, count)))
    chosen = draws.integers(0, buffer, size=max(count - buffer, 0)).tolist()
    order = []
    for arriving, place in enumerate(chosen, start=buffer):
        order.append(held[place])
        held[place] = arriving
    return order + [held[place] for place in draws.permutation(len(held))]
