"""Reads what the measuring stages wrote and adds it up: the content of metrics.json (docs/metrics.md)."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.files import read_json
from ddm_core.params import Params
from ddm_core.results import (
    ATTACKERS,
    CHANNELS,
    CONTROLS,
    RESULT,
    TIMING,
    AttackResult,
    ChannelUtility,
    UtilityResult,
    read_result,
)

SCHEMA_VERSION = 1
TRAINED_METHODS = ("ddm", "keyed_ddm", "photo_ddm")

Attacks = dict[str, dict[str, AttackResult]]
History = list[dict[str, float]]


def read_attacks(folder: Path, obfuscators: Iterable[str]) -> Attacks:
    """Read `folder/<obfuscator>/<attacker>/result.json`: obfuscator -> attacker -> result.

    Raises:
        DdmError: a cell is missing, speaks of another cell, or lacks its figures.
    """
    return {name: _read_row(folder / name, name) for name in obfuscators}


def _read_row(folder: Path, obfuscator: str) -> dict[str, AttackResult]:
    present = [attacker for attacker in CONTROLS if (folder / attacker).exists()]
    return {
        attacker: _read_cell(folder / attacker / RESULT, obfuscator, attacker)
        for attacker in (*ATTACKERS, *present)
    }


def _read_cell(path: Path, obfuscator: str, attacker: str) -> AttackResult:
    result = read_result(path, AttackResult)
    if (result.obfuscator, result.attacker) != (obfuscator, attacker):
        raise DdmError(
            f"{path}: holds {result.obfuscator}/{result.attacker}; delete it and measure again (dvc repro)"
        )
    if result.applicable and (result.top1 is None or result.ci95 is None or result.n is None):
        raise DdmError(f"{path}: lacks top1, ci95 or n; delete it and measure again (dvc repro)")
    return result


def read_utility(folder: Path, obfuscators: Iterable[str]) -> dict[str, UtilityResult]:
    """Read `folder/<obfuscator>/result.json`.

    Raises:
        DdmError: a file is missing or speaks of another obfuscator.
    """
    results = {}
    for name in obfuscators:
        path = folder / name / RESULT
        results[name] = read_result(path, UtilityResult)
        if results[name].obfuscator != name:
            raise DdmError(
                f"{path}: holds {results[name].obfuscator}; delete it and measure again (dvc repro)"
            )
    return results


def read_histories(folder: Path, obfuscators: Iterable[str]) -> dict[str, History]:
    """Read `folder/<obfuscator>/history.csv`: one mapping a logged step, with the figures that it has.

    Columns beside `step` may be absent or empty in places (a figure measured less often).

    Raises:
        DdmError: a file is missing, has no `step`, or holds something that is not a number.
    """
    return {name: _read_history(folder / name / "history.csv") for name in obfuscators}


def _read_history(path: Path) -> History:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [_numbers(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise DdmError(f"{path}: not found; run the stage that writes it (dvc repro)") from None
    except (ValueError, TypeError) as error:
        raise DdmError(f"{path}: not a table of numbers ({error}); train again (dvc repro)") from None
    if any("step" not in row for row in rows):
        raise DdmError(f"{path}: a row without 'step'; train again (dvc repro)")
    return rows


def _numbers(row: Mapping[str, str | None]) -> dict[str, float]:
    numbers = {name: float(text) for name, text in row.items() if text}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def read_dataset(manifest: Path) -> tuple[str, int, dict[str, str]]:
    """Return the dataset digest, the number of identities, and what the manifest says of the photos' source.

    Raises:
        DdmError: the manifest is missing or lacks the first two.
    """
    content = read_json(manifest)
    try:
        digest, identities = str(content["dataset_digest"]), int(content["counts"]["identities"])
    except (KeyError, TypeError, ValueError):
        raise DdmError(f"{manifest}: lacks dataset_digest or counts.identities; run dvc repro") from None
    if identities < 1:
        raise DdmError(f"{manifest}: counts.identities is {identities}; prepare at least one person")
    return digest, identities, dict(content.get("metadata", {}))


def trained(params: Params) -> list[str]:
    """Return the names of the obfuscators that have weights, in the order of params."""
    return [name for name, settings in params.train.items() if settings.method in TRAINED_METHODS]


def total_seconds(attacks: Attacks, utility: Mapping[str, UtilityResult], histories: Path) -> float:
    """Return the seconds that training, attacks and utility took, by their own clocks.

    Raises:
        DdmError: a training's timing.json is missing or damaged.
    """
    cells = [cell.seconds for row in attacks.values() for cell in row.values()]
    training = [_read_seconds(histories / name / TIMING) for name in utility]
    return round(sum(cells) + sum(training) + sum(result.seconds for result in utility.values()), 1)


def _read_seconds(path: Path) -> float:
    try:
        return float(read_json(path)["seconds"])
    except (KeyError, TypeError, ValueError):
        raise DdmError(f"{path}: lacks seconds; delete it and train again (dvc repro)") from None


def build_metrics(
    params: Params,
    attacks: Attacks,
    utility: Mapping[str, UtilityResult],
    identities: int,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Return the content of metrics.json: plain data, accuracies as fractions, PSNR in decibels.

    Raises:
        DdmError: no attacker that counts for the gate applies to an obfuscator, or its figures were
            measured on different weights.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "chance_top1": 1 / identities,
        "obfuscators": {
            name: obfuscator_metrics(settings.method, attacks[name], utility[name])
            for name, settings in params.train.items()
        },
        "provenance": provenance,
    }


def obfuscator_metrics(
    method: str, row: Mapping[str, AttackResult], utility: UtilityResult
) -> dict[str, Any]:
    """Return one obfuscator's entry of metrics.json: what the gate judges; `row` is attacker -> result.

    Raises:
        DdmError: as `build_metrics`.
    """
    applicable = {attacker: cell for attacker, cell in row.items() if cell.applicable}
    counting = {attacker: cell for attacker, cell in applicable.items() if cell.counts_for_gate}
    return {
        "method": method,
        "decrypts": utility.decrypts,
        "weights_sha256": _measured_weights(utility, applicable),
        "attacks": {attacker: _cell_metrics(cell) for attacker, cell in counting.items()},
        "worst_case": _worst_case(utility.obfuscator, counting),
        "controls": {
            attacker: _cell_metrics(cell) for attacker, cell in applicable.items() if attacker not in counting
        },
        "not_applicable": {
            attacker: cell.reason or "not applicable"
            for attacker, cell in row.items()
            if attacker not in applicable
        },
        "utility": {
            channel: _channel_metrics(utility.channels[channel])
            for channel in sorted(utility.channels, key=_channel_order)
        },
    }


def _measured_weights(utility: UtilityResult, applicable: Mapping[str, AttackResult]) -> str:
    for attacker, cell in applicable.items():
        if cell.weights_sha256 != utility.weights_sha256:
            raise DdmError(
                f"{utility.obfuscator}: attack {attacker} and utility measured different weights; "
                "measure both again (dvc repro)"
            )
    return utility.weights_sha256


def _cell_metrics(cell: AttackResult) -> dict[str, Any]:
    figures: dict[str, Any] = {"top1": cell.top1, "ci95": list(cell.ci95 or ()), "n": cell.n}
    reconstruction = {"psnr_db": cell.psnr_db, "ssim": cell.ssim}
    return figures | {name: value for name, value in reconstruction.items() if value is not None}


def _worst_case(obfuscator: str, counting: Mapping[str, AttackResult]) -> dict[str, Any]:
    if not counting:
        raise DdmError(f"{obfuscator}: no attacker that counts for the gate applies; measure at least one")
    # Equal accuracy: the less certain one, because the gate reads the upper bound.
    worst = max(counting.values(), key=lambda cell: (cell.top1, cell.ci95))
    return {"attacker": worst.attacker, "top1": worst.top1, "ci95": list(worst.ci95 or ())}


def _channel_order(channel: str) -> tuple[int, str]:
    return (CHANNELS.index(channel) if channel in CHANNELS else len(CHANNELS), channel)


def _channel_metrics(channel: ChannelUtility) -> dict[str, Any]:
    return {
        "psnr_db": channel.psnr_db,
        "ssim": channel.ssim,
        "recognition_top1": channel.recognition_top1,
        "ci95": list(channel.recognition_ci95),
        "n": channel.n,
    }
