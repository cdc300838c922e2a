"""Reads results.json, the one file that tables and pages are made of (docs/results-schema.md)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ddm_core.attacks.sanity import SanityCheck
from ddm_core.errors import DdmError
from ddm_core.files import read_json
from ddm_core.results import AttackResult, ChannelUtility
from ddm_core.strict import parse

T = TypeVar("T")

RESULTS = "results.json"
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)  # the first lacks `runs`, and its `sanity` is complete


@dataclass(frozen=True)
class Dataset:
    """What was attacked; `image_size` in pixels a side, `chance` the accuracy of guessing in (0, 1]."""

    name: str
    identities: int
    train_photos: int
    test_photos: int
    image_size: int
    channels: int
    chance: float


@dataclass(frozen=True)
class ObfuscatorEntry:
    """One obfuscator: its method, its settings, and the seconds that its training took."""

    method: str
    settings: dict[str, Any]
    keyed: bool
    decrypts: bool
    seconds_to_train: float | None = None


@dataclass(frozen=True)
class CellResult:
    """One attacker against one obfuscator under one seed."""

    obfuscator: str
    attacker: str
    seed: int
    settings: dict[str, Any]
    result: AttackResult
    provenance: dict[str, Any]


@dataclass(frozen=True)
class UtilityEntry:
    """What the receiver holds after every channel, under one seed."""

    obfuscator: str
    seed: int
    channels: dict[str, ChannelUtility]


@dataclass(frozen=True)
class RunEntry:
    """One run that made cells: its command, wall time in seconds, processes, and how its cells ended."""

    command: str
    commit: str
    seconds: float
    processes: int
    ran: int
    reused: int
    failed: int
    finished: bool
    ended_at: str


@dataclass(frozen=True)
class Results:
    """The whole of results.json."""

    dataset: Dataset
    obfuscators: dict[str, ObfuscatorEntry]
    cells: tuple[CellResult, ...]
    utility: tuple[UtilityEntry, ...]
    sanity: tuple[SanityCheck, ...]
    generated_by: dict[str, Any]
    runs: tuple[RunEntry, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Every seed that a cell was measured under, in order."""
        return sorted({cell.seed for cell in self.cells})


def read_results(folder: Path) -> Results:
    """Read `folder/results.json`.

    Keys that later versions may add around the figures are passed over; the figures are parsed strictly.

    Raises:
        DdmError: the file is missing, is of another schema version, or lacks something.
    """
    path = folder / RESULTS
    content = read_json(path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in READABLE_VERSIONS:
        raise DdmError(
            f"{path}: schema_version is {version!r}, not {SCHEMA_VERSION}; run ddm benchmark again"
        )
    whole = _parse(content, _Whole, str(path))
    results = Results(
        dataset=_parse(whole.dataset, Dataset, f"{path}: dataset"),
        obfuscators={
            name: _parse(entry, ObfuscatorEntry, f"{path}: obfuscators: {name}")
            for name, entry in whole.obfuscators.items()
        },
        cells=_parse_all(whole.cells, CellResult, f"{path}: cells"),
        utility=_parse_all(whole.utility, UtilityEntry, f"{path}: utility"),
        sanity=_parse_all(whole.sanity, SanityCheck, f"{path}: sanity"),
        runs=_parse_all(whole.runs, RunEntry, f"{path}: runs"),
        generated_by=whole.generated_by,
    )
    for cell in results.cells:
        _check(cell, results, str(path))
    return results


@dataclass(frozen=True)
class _Whole:
    """The shape of the file, its parts still plain data."""

    dataset: dict[str, Any]
    obfuscators: dict[str, Any]
    cells: tuple[Any, ...]
    utility: tuple[Any, ...]
    sanity: tuple[Any, ...]
    generated_by: dict[str, Any]
    runs: tuple[Any, ...] = ()


def _parse_all(items: tuple[Any, ...], kind: type[T], where: str) -> tuple[T, ...]:
    return tuple(_parse(item, kind, f"{where}[{i}]") for i, item in enumerate(items))


def _parse(content: Any, kind: type[T], where: str) -> T:  # noqa: ANN401 - JSON
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key in names}
    return parse(content, kind, where, readers={Any: lambda value, _: value})


def _check(cell: CellResult, results: Results, where: str) -> None:
    named = f"{where}: cell seed{cell.seed}/{cell.obfuscator}/{cell.attacker}"
    if "/" in cell.obfuscator + cell.attacker:
        raise DdmError(f"{named}: a name holds a slash; rename it in benchmark/params.yaml")
    if cell.obfuscator not in results.obfuscators:
        raise DdmError(f"{named}: its obfuscator is not among the obfuscators; run ddm benchmark again")
    figures = (cell.result.top1, cell.result.ci95, cell.result.n)
    if any(figure is None for figure in figures) and not all(figure is None for figure in figures):
        raise DdmError(f"{named}: has only some of top1, ci95 and n; delete the cell and run it again")
    if cell.result.applicable and cell.result.top1 is None and not cell.result.verification:
        raise DdmError(f"{named}: has neither top1 nor verification; delete the cell and run it again")
