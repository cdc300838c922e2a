"""Where a training's batches come from: photos in memory, or shards that are read while it goes on.

In memory each batch is drawn anew from all photos. A stream passes through its epochs: each photo comes once
an epoch, in one of the processes, and no more are held than fit into its buffer. The batches of an epoch are
as equal as can be: of 37 photos in batches of 16 come 12, 12 and 13, so that none is left out and no last
batch is a poor one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from ddm_core.data.ahead import read_ahead
from ddm_core.data.order import Reader
from ddm_core.data.splits import Split
from ddm_core.data.stream import Photo, PhotoStream
from ddm_core.data_parallel import BatchPart, Ranks
from ddm_core.errors import DdmError

MOST_BYTES_IN_MEMORY = 2 * 10**9  # of pixels; `data: auto` streams what is larger
Position: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """A process's `part` of a batch: uint8 images [photos of the part, channels, height, width].

    `names` tells, when asked, which photos the whole batch has, or, of a stream, the part alone. `position`
    is plain JSON: where the next batch begins.
    """

    images: Tensor
    part: BatchPart
    names: Callable[[], list[str]]
    position: Position


Batches: TypeAlias = Generator[Batch, None, None]


class Photos(Protocol):
    """The photos of a training."""

    @property
    def channels(self) -> int:
        """Return the photos' channels."""
        ...

    def sample(self, most: int) -> Tensor:
        """Return photos to set up networks by, uint8 [n, channels, height, width]: at most `most`."""
        ...

    def batches(
        self, batch_size: int, draws: torch.Generator, ranks: Ranks, where: str, position: Position
    ) -> Batches:
        """Yield batches for ever, from a position on; an empty one is the beginning. Closing ends the work.

        `where` is the device that they are wanted on.

        Raises:
            DdmError: a process would get no photo of a batch, or the photos cannot be read.
        """
        ...


@dataclass(frozen=True)
class PhotosInMemory:
    """uint8 images [n, channels, height, width]; `keys` name them, in their order, else numbers do."""

    images: Tensor
    keys: Sequence[str] = ()

    @property
    def channels(self) -> int:
        """Return the photos' channels."""
        return self.images.shape[1]

    def sample(self, most: int) -> Tensor:
        """Return all photos, or `most` from evenly spread places."""
        if len(self.images) <= most:
            return self.images
        return self.images[torch.arange(most) * len(self.images) // most]

    def batches(
        self, batch_size: int, draws: torch.Generator, ranks: Ranks, where: str, position: Position
    ) -> Batches:
        """Yield parts of batches that `draws` chooses; its state alone is their position."""
        photos, part = self.images.to(where), ranks.part(batch_size)
        while True:
            chosen = torch.randint(0, len(photos), (batch_size,), generator=draws)
            yield Batch(photos[part.of(chosen)], part, lambda chosen=chosen: self._names(chosen), {})  # type: ignore[misc]

    def _names(self, chosen: Tensor) -> list[str]:
        return [self.keys[photo] if self.keys else str(photo) for photo in chosen.tolist()]


@dataclass(frozen=True)
class StreamedPhotos:
    """The photos of one split by image, read from a prepared folder or s3://bucket/prefix.

    `buffer` is how many photos are held, as PNGs, to draw from.
    """

    prepared: Path | str
    seed: int
    buffer: int = 2000
    split: Split = "train"

    @property
    def channels(self) -> int:
        """Return the photos' channels."""
        return self._stream(Reader()).summary.params.channels

    def sample(self, most: int) -> Tensor:
        """Return the first photos of a stream that one process alone would read."""
        with closing(_photos_of(self._stream(Reader()))) as photos:
            return _images(list(islice(photos, most)))

    def batches(
        self, batch_size: int, draws: torch.Generator, ranks: Ranks, where: str, position: Position
    ) -> Batches:
        """Yield parts of batches, read by threads a few batches ahead."""
        stream = self._stream(Reader(ranks.rank, ranks.world_size))
        ranks.part(batch_size)  # refuses a batch with less than a photo for each process
        counts = stream.summary.counts
        epochs = EpochBatches(counts.train if self.split == "train" else counts.test, batch_size, ranks)
        epoch, step = position.get("epoch", 0), position.get("step", 0)
        if step and position["ranks"] != ranks.world_size:
            step = 0
            if ranks.leads:
                print(
                    f"{self.prepared}: read by {position['ranks']} processes before, by"
                    f" {ranks.world_size} now: epoch {epoch} begins anew; some photos come twice",
                    file=sys.stderr,
                )
        yield from read_ahead(_read(stream, epochs, epoch, step, where), at_a_time=1)

    def _stream(self, reader: Reader) -> PhotoStream:
        return PhotoStream(self.prepared, split=self.split, seed=self.seed, buffer=self.buffer, reader=reader)


class EpochBatches:
    """How the photos of an epoch fall into batches of at most `batch_size`, and these to processes.

    Every process makes the same number of steps and has a photo in each of them; where its stretch is too
    short for that, batches are larger.
    """

    def __init__(self, photos: int, batch_size: int, ranks: Ranks) -> None:
        """Raise DdmError where there are fewer photos than processes."""
        if photos < ranks.world_size:
            raise DdmError(
                f"{photos} photos are too few for {ranks.world_size} processes; start fewer of them"
            )
        self.ranks = ranks
        readers = (Reader(rank, ranks.world_size) for rank in range(ranks.world_size))
        self._lengths = [len(reader.stretch(photos)) for reader in readers]
        self.steps = min(-(-photos // batch_size), *self._lengths)

    def passed(self, step: int) -> int:
        """Return how many photos of its stretch this process has had before `step` (from 0) of an epoch."""
        return self._before(step, self.ranks.rank)

    def part(self, step: int) -> BatchPart:
        """Return this process's part of the batch of a step."""
        sizes = [
            self._before(step + 1, rank) - self._before(step, rank) for rank in range(self.ranks.world_size)
        ]
        first = sum(sizes[: self.ranks.rank])
        return BatchPart(first, first + sizes[self.ranks.rank], sum(sizes))

    def _before(self, step: int, rank: int) -> int:
        return self._lengths[rank] * step // self.steps


def _read(stream: PhotoStream, epochs: EpochBatches, epoch: int, step: int, where: str) -> Batches:
    while True:
        stream.restore({**stream.position(), "epoch": epoch, "passed": epochs.passed(step)})
        with closing(_photos_of(stream)) as photos:
            for this in range(step, epochs.steps):
                part = epochs.part(this)
                taken = list(islice(photos, part.photos))
                images = _images(taken)
                following = {"epoch": epoch, "step": this + 1, "ranks": epochs.ranks.world_size}
                yield Batch(
                    images.pin_memory() if where == "cuda" else images,
                    part,
                    lambda taken=taken: [photo.key for photo in taken],  # type: ignore[misc]
                    following,
                )
        epoch, step = epoch + 1, 0


def _photos_of(stream: PhotoStream) -> Generator[Photo, None, None]:
    yield from stream


def _images(photos: Sequence[Photo]) -> Tensor:
    import numpy

    return torch.from_numpy(numpy.stack([photo.image for photo in photos]))
