"""The grid as plain data: which cells there are, what each needs, where each lies, and which are long.

A cell is one run of one stage: the recogniser of a seed, one obfuscator's training, one attacker against one
obfuscator, one obfuscator's utility.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddm_core.attacks.sanity import LEVELS, STRONGEST, Level
from ddm_core.benchmark.settings import BenchmarkParams
from ddm_core.learned_params import OptimisationParams
from ddm_core.stages.attack import NEEDS_KEY

Stage = Literal["recognise", "train", "attack", "utility"]
STAGES: tuple[Stage, ...] = ("recognise", "train", "attack", "utility")

# Seconds on one core of the machine that the figures in docs/ come from: they decide the order and the time
# that the progress bar expects, never a result.
_SECONDS_AN_IMAGE = {"ddm": 1 / 190, "keyed_ddm": 1 / 200, "photo_ddm": 1 / 55}
_SECONDS: dict[str, float] = {
    "recognise": 9,
    "train": 0.1,
    "utility": 2,
    "clean": 0.2,
    "retrained": 24,
    "inversion": 20,
    "wrong_key": 5,
    "nonce_reuse": 12,
    "verification": 25,
    "pretrained": 80,
    "transfer": 25,
    "averaging": 14,
    "known_plaintext": 24,
    "learning_curve": 48,
}
_KEYED_FACTOR = 1.3  # fresh encryptions for every epoch, and many of every test photo


@dataclass(frozen=True)
class Cell:
    """One run of one stage; `obfuscator` and `attacker` are `None` where the stage knows none."""

    stage: Stage
    seed: int
    obfuscator: str | None = None
    attacker: str | None = None

    def __str__(self) -> str:
        parts = (self.stage, self.obfuscator, self.attacker)
        return " ".join(part for part in parts if part) + f", seed {self.seed}"


@dataclass(frozen=True)
class Places:
    """Where everything lies below the results folder."""

    results: Path

    def folder(self, cell: Cell) -> Path:
        """Return the folder that a cell's stage writes."""
        seed = f"seed{cell.seed}"
        match cell.stage:
            case "recognise":
                return self.results / "recognisers" / seed
            case "train":
                return self.results / "models" / seed / str(cell.obfuscator)
            case "utility":
                return self.results / "utility" / seed / str(cell.obfuscator)
        return self.results / "cells" / seed / str(cell.obfuscator) / str(cell.attacker)

    @property
    def checkpoints(self) -> Path:
        """Where unfinished trainings go on from; a finished one leaves nothing there."""
        return self.results / "checkpoints"

    def history(self, cell: Cell) -> Path:
        """Return the folder of a training's history."""
        return self.results / "histories" / f"seed{cell.seed}" / str(cell.obfuscator)


def grid(
    params: BenchmarkParams, stages: Sequence[Stage] = STAGES, *, controls: bool = False
) -> tuple[Cell, ...]:
    """Return the cells of the chosen stages, and of these stages what those cells need, each once.

    With `controls` they are also what the sanity gate reads of the attackers (ddm_core.attacks.sanity).
    """
    wanted: dict[Cell, None] = {}
    for seed in params.seeds:
        cells = [Cell("recognise", seed)]
        for name in params.obfuscators:
            cells += [Cell("train", seed, name), Cell("utility", seed, name)]
            cells += [Cell("attack", seed, name, attacker) for attacker in params.attackers]
        if controls:
            cells += [Cell("attack", seed, level.obfuscator, level.attacker) for level in levels(params)]
        for cell in cells:
            if cell.stage in stages:
                wanted |= dict.fromkeys((*needs(cell, params), cell))
    return tuple(cell for cell in wanted if cell.stage in stages)


def levels(params: BenchmarkParams) -> list[Level]:
    """Return the levels of the gate's attackers, and of the grid's that may apply to its obfuscators."""
    asked = {*STRONGEST, *(attacker for attacker in params.attackers if _may_apply(attacker, params))}
    return [level for level in LEVELS if level.attacker in asked]


def _may_apply(attacker: str, params: BenchmarkParams) -> bool:
    """Tell from the settings alone; what code of others offers is found out later."""
    if attacker == "transfer":
        return any(siblings(name, params) for name in params.obfuscators)
    chosen = [params.train[name] for name in params.obfuscators]
    return attacker not in NEEDS_KEY or any(one.keyed or one.method == "external" for one in chosen)


def needs(cell: Cell, params: BenchmarkParams) -> tuple[Cell, ...]:
    """Return the cells whose folders a cell reads."""
    if cell.stage in ("recognise", "train"):
        return ()
    trained = [str(cell.obfuscator)]
    if cell.attacker == "transfer":
        trained += siblings(trained[0], params)
    return (Cell("recognise", cell.seed), *(Cell("train", cell.seed, name) for name in trained))


def siblings(name: str, params: BenchmarkParams) -> list[str]:
    """Return the other obfuscators of the same method; other people's code has none."""
    method = params.train[name].method
    if method == "external":
        return []
    return [other for other in params.transfer_from if other != name and params.train[other].method == method]


def expected_seconds(cell: Cell, params: BenchmarkParams) -> float:
    """Return roughly how long a cell takes, in seconds on one core."""
    if cell.obfuscator is None:
        return _SECONDS[cell.stage]
    settings = params.train[cell.obfuscator]
    if cell.stage == "train" and isinstance(settings, OptimisationParams):
        return settings.steps * settings.batch_size * _SECONDS_AN_IMAGE.get(settings.method, 1 / 100)
    seconds = _SECONDS.get(cell.attacker or cell.stage, _SECONDS["retrained"])
    return seconds * (_KEYED_FACTOR if settings.keyed else 1.0)


def ranks(cells: Sequence[Cell], params: BenchmarkParams) -> dict[Cell, float]:
    """Return the seconds from each cell's start to the end of the longest chain that waits for it.

    Starting the ready cell of the highest rank first keeps all cores busy to the end.
    """
    known = set(cells)
    after: dict[Cell, list[Cell]] = {cell: [] for cell in cells}
    for cell in cells:
        for needed in needs(cell, params):
            if needed in known:
                after[needed].append(cell)
    # Only measurements wait, and only for recognisers and trainings: the chains have two links.
    own = {cell: expected_seconds(cell, params) for cell in cells}
    return {cell: own[cell] + max((own[waiting] for waiting in after[cell]), default=0.0) for cell in cells}
