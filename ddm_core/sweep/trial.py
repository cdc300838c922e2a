"""One trial: trains with the real stage, measures with the real stages, and lets the gate judge."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.gate import Check, Evidence, judge, mean_psnr_db
from ddm_core.learned_params import LearnedParams
from ddm_core.params import GateParams, Params
from ddm_core.reporting.metrics import obfuscator_metrics
from ddm_core.stages import attack, train, utility
from ddm_core.tracking import NoLog, heard_by

SMOOTHED_OVER = 4  # observations: the PSNR of one batch says more about the batch than about the settings
NO_EVIDENCE = 1.0  # counts as the worst excess of an accuracy

Report = Callable[[int, float], None]
"""Gets an optimiser step and PSNR in decibels; what it raises ends the trial."""


@dataclass(frozen=True)
class Laboratory:
    """What all trials of a sweep share: the obfuscator's `name`, the attackers' params and gate, the data."""

    name: str
    params: Params
    prepared: Path
    recogniser: Path

    @property
    def gate(self) -> GateParams:
        """Return the policy that trials are judged by."""
        return self.params.register.gate


@dataclass(frozen=True)
class Figures:
    """What a trial came to; `psnr_db` is the mean over the gate's channels in decibels.

    `excess` says by how much (a fraction) each attacker's upper 95 % bound lies above the gate's limit, below
    it where negative. `failures` is what keeps the model from passing the whole gate, empty where it passes.
    `channels` gives each channel's (PSNR in decibels, recognition as a fraction).
    """

    psnr_db: float
    excess: dict[str, float]
    worst_attacker: str
    worst_top1: float
    worst_top1_upper95: float
    failures: str
    channels: dict[str, tuple[float, ...]]

    @property
    def private(self) -> bool:
        """Tell whether every attacker stays within its limit."""
        return max(self.excess.values()) <= 0


def run_trial(laboratory: Laboratory, settings: LearnedParams, folder: Path, report: Report) -> Figures:
    """Train with `settings`, attack, measure, and judge; `folder` gets what the stages write.

    It is laid out as the project is: models, results/history, results/attacks, results/utility. `report`
    gets the training's PSNR, a mean over the last observations, while it trains.

    Raises:
        DdmError: as the stages.
        BrokenTrainingError: the training broke, which speaks against the settings.
    """
    name, model = laboratory.name, folder / "models" / laboratory.name
    with heard_by(_Heard(report)):
        try:
            train.run(
                settings,
                name=name,
                prepared=laboratory.prepared,
                model=model,
                history=folder / "results/history" / name,
                tracked=False,
            )
        except DdmError as error:
            raise BrokenTrainingError(str(error)) from None
    return figures(_evidence(laboratory, settings.method, model, folder / "results"), laboratory.gate)


class BrokenTrainingError(Exception):
    """A training that did not come to its end, such as one whose loss became infinite."""


def figures(evidence: Evidence, gate: GateParams) -> Figures:
    """Let the gate judge one obfuscator's evidence.

    Raises:
        DdmError: a channel of the gate was not measured.
    """
    psnr_db = mean_psnr_db(evidence, gate.channels)
    if psnr_db is None:
        raise DdmError(f"sweep: not every channel of {', '.join(gate.channels)} was measured")
    verdict = judge(evidence, gate)
    worst = evidence["worst_case"]
    return Figures(
        psnr_db=psnr_db,
        excess={check.name: _excess(check) for check in verdict.checks if _is_privacy(check)},
        worst_attacker=worst["attacker"],
        worst_top1=worst["top1"],
        worst_top1_upper95=worst["ci95"][1],
        failures=verdict.failures,
        channels={
            name: (measured["psnr_db"], measured["recognition_top1"])
            for name, measured in evidence["utility"].items()
        },
    )


def _evidence(laboratory: Laboratory, method: str, model: Path, results: Path) -> Evidence:
    params, prepared, recogniser = laboratory.params, laboratory.prepared, laboratory.recogniser
    row = {
        attacker: attack.run(
            params.attack,
            attacker=attacker,
            prepared=prepared,
            model=model,
            recogniser=recogniser,
            result=results / "attacks" / laboratory.name / attacker,
        )
        for attacker in laboratory.gate.attackers
    }
    channels = dataclasses.replace(params.utility, channels=tuple(laboratory.gate.channels))
    measured = utility.run(
        channels,
        prepared=prepared,
        model=model,
        recogniser=recogniser,
        result=results / "utility" / laboratory.name,
    )
    return obfuscator_metrics(method, row, measured)


def _is_privacy(check: Check) -> bool:
    """Tell an attacker's check, which has a limit from above, from those of what the receiver gets."""
    return check.relation == "at most"


def _excess(check: Check) -> float:
    return NO_EVIDENCE if check.measured is None or check.limit is None else check.measured - check.limit


class _Heard(NoLog):
    """Passes on the training's PSNR."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._latest: deque[float] = deque(maxlen=SMOOTHED_OVER)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass on one observation."""
        if "psnr_db" in metrics:
            self._latest.append(metrics["psnr_db"])
            self._report(step, sum(self._latest) / len(self._latest))


def as_plain(measured: Figures) -> dict[str, Any]:
    """Return what a database and JSON can hold."""
    return dataclasses.asdict(measured)
