"""The table of a prepared dataset's photos, `prepared/photos.jsonl`: half a million load in seconds.

The file holds a JSON list a line: first the names of the fields of `PhotoRecord`, then the fields of one
photo after another, sorted by key.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ddm_core.data.splits import Split
from ddm_core.errors import DdmError, did_you_mean
from ddm_core.params import PrepareParams

PHOTOS_NAME = "photos.jsonl"
DIGEST_VERSION = 1  # part of dataset_digest, which outlives changes of the files' form
ROWS_AT_A_TIME = 5000
REPEATED = ("identity", "split", "identity_split", "shard")


class PhotoRecord(NamedTuple):
    """One photo.

    `source` is relative to the raw folder; `source_sha256` is of that file, `pixel_sha256` of the decoded
    uint8 [channels, size, size]; `shard` names the tar file that holds `<key>.png`.
    """

    key: str
    identity: str
    split: Split
    identity_split: Split
    source: str
    source_sha256: str
    pixel_sha256: str
    shard: str


@dataclass(frozen=True)
class PhotoTable:
    """Photos as columns, one list a field of `PhotoRecord`: a third of the memory that records take."""

    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.columns["key"])

    def __iter__(self) -> Iterator[PhotoRecord]:
        return map(PhotoRecord._make, zip(*self.columns.values(), strict=True))

    def __getitem__(self, place: int) -> PhotoRecord:
        return PhotoRecord._make(column[place] for column in self.columns.values())

    def of_split(self, split: Split, by: Literal["image", "identity"]) -> list[PhotoRecord]:
        """Return the photos of one split, by photo or by person."""
        sides = self.columns["split" if by == "image" else "identity_split"]
        return [self[place] for place, side in enumerate(sides) if side == split]


@dataclass(frozen=True)
class Counts:
    """Files found = read + quarantined; photos per split, and people (`identities`) per identity split.

    `found` is counted apart (`ddm_core.data.accounting`), and must be that sum.
    """

    found: int
    read: int
    quarantined: int
    train: int
    test: int
    identities: int
    identity_train: int
    identity_test: int
    identity_train_photos: int
    identity_test_photos: int


class Tally:
    """Counts and digests photos as they pass in the order of keys; holds none of them."""

    def __init__(self, params: PrepareParams) -> None:
        head = json.dumps([DIGEST_VERSION, params.image_size, params.channels, []], separators=(",", ":"))
        self._digest = hashlib.sha256(head.removesuffix("]]").encode())
        self._splits: Counter[str] = Counter()
        self._people: Counter[tuple[str, str]] = Counter()

    def add(self, columns: dict[str, list[str]]) -> None:
        """Take the next photos into account."""
        names = ("key", "identity", "split", "identity_split", "pixel_sha256")
        seen = list(zip(*(columns[name] for name in names), strict=True))
        if not seen:
            return
        if self._splits:
            self._digest.update(b",")
        self._digest.update(json.dumps(seen, ensure_ascii=False, separators=(",", ":"))[1:-1].encode())
        self._splits.update(columns["split"])
        self._people.update(zip(columns["identity"], columns["identity_split"], strict=True))

    def dataset_digest(self) -> str:
        """Return the SHA-256 over what training and attacks see of the photos so far."""
        digest = self._digest.copy()
        digest.update(b"]]")
        return digest.hexdigest()

    def counts(self, found: int, quarantined: int) -> Counts:
        """Return the counts of the photos so far, and of the files `found` and `quarantined`."""
        people = Counter(split for _, split in self._people)
        photos: Counter[str] = Counter()
        for (_, split), number in self._people.items():
            photos[split] += number
        return Counts(
            found=found,
            read=self._splits.total(),
            quarantined=quarantined,
            train=self._splits["train"],
            test=self._splits["test"],
            identities=people.total(),
            identity_train=people["train"],
            identity_test=people["test"],
            identity_train_photos=photos["train"],
            identity_test_photos=photos["test"],
        )

    def identities(self) -> tuple[str, ...]:
        """Return the people so far, sorted."""
        return tuple(sorted({identity for identity, _ in self._people}))


def write_photos(prepared: Path, params: PrepareParams, photos: Iterable[PhotoRecord]) -> Tally:
    """Write `photos.jsonl` into the folder `prepared`; `photos` come in the order of keys, and pass once."""
    tally, remaining = Tally(params), iter(photos)
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with (prepared / PHOTOS_NAME).open("w", encoding="utf-8") as file:
        file.write(encode(PhotoRecord._fields) + "\n")
        while batch := list(islice(remaining, ROWS_AT_A_TIME)):
            tally.add(_columns(batch))
            file.writelines(f"{encode(photo)}\n" for photo in batch)
    return tally


def read_photos(prepared: Path, params: PrepareParams) -> tuple[PhotoTable, Tally]:
    """Read `photos.jsonl` from the folder `prepared`.

    Raises:
        DdmError: missing, or not a table of these fields, all of them texts.
    """
    path, tally = prepared / PHOTOS_NAME, Tally(params)
    table = PhotoTable({name: [] for name in PhotoRecord._fields})
    known: dict[str, str] = {}  # of a name that repeats, one copy is kept
    try:
        with path.open(encoding="utf-8") as file:
            _check_fields(path, json.loads(file.readline()))
            while lines := list(islice(file, ROWS_AT_A_TIME)):  # one call of the parser for many lines
                batch = _columns(json.loads(f"[{','.join(lines)}]"))
                if set(map(type, chain.from_iterable(batch.values()))) != {str}:
                    raise TypeError("a field is no text")
                for name in REPEATED:
                    batch[name] = [known.setdefault(text, text) for text in batch[name]]
                tally.add(batch)
                for name, column in batch.items():
                    table.columns[name] += column
    except FileNotFoundError:
        raise DdmError(f"{path}: not found; run ddm prepare again") from None
    except (ValueError, TypeError) as error:
        raise DdmError(f"{path}: not a table of photos ({error}); run ddm prepare again") from None
    return table, tally


def _columns(rows: Iterable[Iterable[str]]) -> dict[str, list[str]]:
    return dict(zip(PhotoRecord._fields, map(list, zip(*rows, strict=True)), strict=True))


def _check_fields(path: Path, fields: Any) -> None:  # noqa: ANN401 - any JSON value
    known = list(PhotoRecord._fields)
    strangers = [name for name in fields if name not in known] if isinstance(fields, list) else [fields]
    if strangers:
        raise DdmError(f"{path}: unknown field '{strangers[0]}'{did_you_mean(str(strangers[0]), known)}")
    if fields != known:
        raise DdmError(f"{path}: the first line must name {', '.join(known)}; run ddm prepare again")
