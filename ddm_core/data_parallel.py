"""Data-parallel training: each of several processes takes its part of every batch, and gradients are summed.

`torchrun` starts the processes and tells each of them its rank. All of them make the same draws, each for the
whole batch, so that any number of processes trains on the same photos, keys and channels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(minutes=10)  # with a process that is silent, not dead: a leader that reads a checkpoint


class LostRankError(DdmError):
    """Another process has ended, or is silent."""


@dataclass(frozen=True)
class BatchPart:
    """The photos `first` up to, not including, `last` of a batch of `whole` photos."""

    first: int
    last: int
    whole: int

    @property
    def photos(self) -> int:
        """Return how many photos it has."""
        return self.last - self.first

    @property
    def share(self) -> float:
        """Return its weight in a mean over the whole batch."""
        return self.photos / self.whole

    def of(self, values: Tensor) -> Tensor:
        """Return what belongs to its photos of values [whole, ...]."""
        return values[self.first : self.last]

    def pieces(self, count: int) -> list[BatchPart]:
        """Return it cut into `count` nearly equal parts of the same batch; no more than it has photos."""
        count = min(count, self.photos)
        cuts = [self.first + self.photos * piece // count for piece in range(count + 1)]
        return [BatchPart(first, last, self.whole) for first, last in pairwise(cuts)]

    def split(self, at: int) -> tuple[BatchPart, BatchPart]:
        """Return its photos among the first `at` of the batch, and among the others."""
        first, last = min(self.first, at), min(self.last, at)
        return BatchPart(first, last, at), BatchPart(self.first - first, self.last - last, self.whole - at)


def whole_batch(photos: int) -> BatchPart:
    """Return the part that is all of it."""
    return BatchPart(0, photos, photos)


@dataclass(frozen=True)
class Ranks:
    """This process among `world_size` processes; its `rank` counts from 0. Rank 0 alone writes."""

    rank: int = 0
    world_size: int = 1

    @property
    def leads(self) -> bool:
        """Tell whether this process writes what all of them make."""
        return self.rank == 0

    def part(self, batch_size: int) -> BatchPart:
        """Return this process's part of each batch; parts differ by one photo at most.

        Raises:
            DdmError: a process would get none.
        """
        if batch_size < self.world_size:
            raise DdmError(
                f"batch_size {batch_size} is less than a photo for each of {self.world_size} processes;"
                " raise it, or start fewer of them"
            )
        first, last = (rank * batch_size // self.world_size for rank in (self.rank, self.rank + 1))
        return BatchPart(first, last, batch_size)

    def mean(self, tensors: Iterable[Tensor], part: BatchPart) -> None:
        """Replace means over the own part by means over the whole batch, in place, in one exchange.

        Raises:
            DdmError: another process is gone.
        """
        if self.world_size == 1:
            return
        import torch
        from torch import distributed

        tensors = list(tensors)
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors]) * part.share
        with _others_needed():
            distributed.all_reduce(flat)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, summed in zip(tensors, pieces, strict=True):
            tensor.detach().copy_(summed.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Tell all processes whether the flag is raised in any of them; raises as `mean`."""
        if self.world_size == 1:
            return flag
        import torch
        from torch import distributed

        raised = torch.tensor(int(flag))  # on the CPU: nothing waits for a GPU
        with _others_needed():
            distributed.all_reduce(raised)
        return bool(raised)

    def from_leader(self, content: bytes) -> bytes:
        """Return what rank 0 gave, at least one byte, in every process; raises as `mean`."""
        if self.world_size == 1:
            return content
        import torch
        from torch import distributed

        size = torch.tensor(len(content))
        with _others_needed():
            distributed.broadcast(size, 0)
            buffer = bytearray(content) if self.leads else bytearray(int(size))
            distributed.broadcast(torch.frombuffer(buffer, dtype=torch.uint8), 0)
        return bytes(buffer)

    @contextmanager
    def told_by_leader(self) -> Iterator[None]:
        """Around what ends in all processes alike: rank 0 says why; the others wait for it, silently."""
        try:
            yield
        except (DdmError, SystemExit) as end:
            if self.leads or isinstance(end, LostRankError):
                raise
            with suppress(LostRankError):
                while True:
                    self.any(False)
            raise SystemExit(end.code if isinstance(end, SystemExit) else 1) from None


ALONE = Ranks()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield this process's place among those that `torchrun` started, in touch with each other; else `ALONE`.

    Tensors on a CPU travel by gloo, those on a GPU by NCCL; each process takes the GPU of its local rank.

    Raises:
        DdmError: as the block does, with the rank; or another process is gone.
    """
    ranks = Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    if ranks.world_size == 1:
        yield ALONE
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        with _others_needed():
            distributed.init_process_group(backend, timeout=PATIENCE)
        yield ranks
    except DdmError as error:
        raise DdmError(f"rank {ranks.rank} of {ranks.world_size}: {error}") from None
    distributed.destroy_process_group()  # not after an error: it may wait for a process that is gone


@contextmanager
def _others_needed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise LostRankError(
            f"lost touch with another process, whose own message says why ({reason})"
        ) from None
