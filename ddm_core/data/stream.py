"""Photos of a prepared dataset that need not fit into memory, read shard by shard from disk or S3.

An epoch is every photo of one split by image, once. Each epoch puts the shards into another order, and its
photos one after another; every reader gets a stretch of that sequence. Stretches differ in length by one
photo at most, so that none is left out or read twice; where all ranks must make the same number of steps,
it is for the caller to pass over the odd one. A reader draws from a buffer that it fills in the order of its
stretch. Seed, epoch and reader alone decide the order, so a position is two numbers, and the sequence goes on
from there as if it had never stopped.
"""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from ddm_core.data.ahead import map_ahead, read_ahead
from ddm_core.data.manifest import MANIFEST_NAME, ShardRecord, Summary, parse_summary
from ddm_core.data.order import Reader, epoch_shards
from ddm_core.data.splits import Split
from ddm_core.data.tar_shards import Stored, decode_stored, read_shard
from ddm_core.errors import DdmError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Opener: TypeAlias = Callable[[str], BinaryIO]
Places: TypeAlias = Generator[tuple[int, Stored], None, None]
DECODING_THREADS = 2  # Pillow lets go of Python's lock while it inflates


class Photo(NamedTuple):
    """One photo: `image` is uint8 [channels, size, size], `label` the person's place in the manifest."""

    key: str
    image: NDArray[numpy.uint8]
    label: int
    identity: str
    source: str


class PhotoStream:
    """Iterating gives the rest of the present epoch; after it, the next epoch is the present one.

    `prepared` is a folder or `s3://bucket/prefix`. `buffer`, from 1 (no shuffle within a shard), is in
    photos: so many are held in memory as PNGs. A shard is checked against the manifest when it is first read
    as a whole. One iterator at a time.
    """

    def __init__(
        self,
        prepared: str | Path,
        *,
        split: Split,
        seed: int,
        buffer: int = 2000,
        reader: Reader | None = None,
        opener: Opener | None = None,
    ) -> None:
        """Read the manifest; `opener` opens what a path or address names (`open_file`).

        Raises:
            DdmError: no manifest, no photo in the split, or a buffer without room.
        """
        if buffer < 1:
            raise DdmError(f"a buffer of {buffer} photos holds none; give at least 1")
        self._folder, self._open = str(prepared).rstrip("/"), opener or open_file
        self.summary = summary_of(self._folder, self._open)
        self._shards = [shard for shard in self.summary.shards if shard.name.startswith(f"{split}-")]
        if not self._shards:
            raise DdmError(f"{prepared}: no photo in the {split} split; give more photos a person")
        self._reader, self._seed, self._buffer = reader or Reader(), seed, buffer
        self._settings = {
            "dataset_digest": self.summary.dataset_digest,
            "split": split,
            "seed": seed,
            "buffer": buffer,
            **dataclasses.asdict(self._reader),
        }
        self._epoch = self._passed = 0
        self._verified: set[str] = set()

    def __len__(self) -> int:
        """Return this reader's photos an epoch."""
        return len(self._reader.stretch(sum(shard.photos for shard in self._shards)))

    def __iter__(self) -> Iterator[Photo]:
        shards = epoch_shards(self._shards, self._seed, self._epoch)
        order = self._reader.order(len(self), self._buffer, self._seed, self._epoch)[self._passed :]
        with closing(map_ahead(self._photo, self._ordered(shards, order), DECODING_THREADS)) as photos:
            for photo in photos:
                self._passed += 1
                yield photo
        self._epoch, self._passed = self._epoch + 1, 0

    def position(self) -> dict[str, Any]:
        """Return where the stream is, as plain JSON: the epoch, and how many of its photos have passed."""
        return {**self._settings, "epoch": self._epoch, "passed": self._passed}

    def restore(self, position: dict[str, Any]) -> None:
        """Go to a position of a stream with the same settings on the same data; iterate anew afterwards.

        Raises:
            DdmError: a position of other data or settings, or beyond the epoch.
        """
        if position.keys() != self.position().keys():
            raise DdmError(f"position: expected {', '.join(self.position())}, got {', '.join(position)}")
        for name, value in self._settings.items():
            if position[name] != value:
                raise DdmError(
                    f"position: {name} is {position[name]!r}, this stream's is {value!r}; start anew"
                )
        epoch, passed = position["epoch"], position["passed"]
        numbers = type(epoch) is int and type(passed) is int  # True would pass for 1
        if not (numbers and epoch >= 0 and 0 <= passed <= len(self)):
            raise DdmError(
                f"position: epoch {epoch!r}, photo {passed!r} of {len(self)} is no place; start anew"
            )
        self._epoch, self._passed = epoch, passed

    def _ordered(self, shards: Sequence[ShardRecord], order: Sequence[int]) -> Generator[Stored, None, None]:
        """Yield the photos at these places of the stretch; those that come too early wait in the buffer."""
        waiting: dict[int, Stored] = {}
        with closing(read_ahead(self._read(shards, order))) as arriving:
            for place in order:
                while place not in waiting:
                    arrived, stored = next(arriving)
                    waiting[arrived] = stored
                yield waiting.pop(place)

    def _read(self, shards: Sequence[ShardRecord], wanted: Sequence[int]) -> Places:
        """Yield the wanted places of the stretch in order, opening only the shards that hold any."""
        starts = list(accumulate((shard.photos for shard in shards), initial=0))
        first = self._reader.stretch(starts[-1]).start
        places, done = sorted(place + first for place in wanted), 0
        while done < len(places):
            number = bisect_right(starts, places[done]) - 1
            end = bisect_left(places, starts[number + 1])
            yield from self._read_places(shards[number], starts[number], places[done:end], first)
            done = end

    def _read_places(self, shard: ShardRecord, start: int, places: Sequence[int], first: int) -> Places:
        address, wanted, last = f"{self._folder}/{shard.name}", frozenset(places), places[-1]
        with self._open(address) as file:
            stored = read_shard(file, shard, address, verify=shard.name not in self._verified)
            for place, photo in enumerate(stored, start=start):
                if place in wanted:
                    yield place - first, photo
                if place == last and last + 1 < start + shard.photos:
                    return  # the shard's end is of no interest
        self._verified.add(shard.name)

    def _photo(self, stored: Stored) -> Photo:
        try:
            about = json.loads(stored.description)
            label, identity, source = about["label"], about["identity"], about["source"]
        except (ValueError, LookupError, TypeError):
            raise DdmError(f"{self._folder}: '{stored.key}.json' is damaged; run ddm prepare again") from None
        image = decode_stored(stored.png, f"{self._folder}: '{stored.key}.png'")
        return Photo(stored.key, image, label, identity, source)


def summary_of(prepared: str | Path, opener: Opener | None = None) -> Summary:
    """Read the manifest of a prepared folder or `s3://bucket/prefix`, without its photos.

    Raises:
        DdmError: missing, not ours, or of another schema version.
    """
    address = f"{str(prepared).rstrip('/')}/{MANIFEST_NAME}"
    with (opener or open_file)(address) as file:
        try:
            return parse_summary(json.load(file), address)
        except ValueError:
            raise DdmError(f"{address}: not valid JSON; run ddm prepare again") from None


def open_file(address: str) -> BinaryIO:
    """Open a local file or an `s3://bucket/key` for reading.

    Raises:
        DdmError: it cannot be opened.
    """
    from ddm_core.storage.addresses import is_remote
    from ddm_core.storage.reading import open_stream

    if is_remote(address):
        return open_stream(address)
    try:
        return Path(address).open("rb", buffering=0)
    except FileNotFoundError:
        raise DdmError(f"{address}: not found; run ddm prepare (dvc repro)") from None
    except OSError as error:
        raise DdmError(f"{address}: cannot be read ({error.strerror}); run ddm prepare again") from None
