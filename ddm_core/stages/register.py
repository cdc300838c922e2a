"""Registers the trained models and lets only those that survived every attack become champion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.files import read_json, write_json
from ddm_core.gate import Check, judge
from ddm_core.params import GateParams, RegisterParams
from ddm_core.strict import parse
from ddm_core.tracking_address import explained, shown_uri, ui_command

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ddm_core.serving.candidate import Candidate


@dataclass(frozen=True)
class Registration:
    """What became of one model: its version, the aliases it holds, who is champion (`None`: nobody), why."""

    obfuscator: str
    name: str
    version: int
    passed: bool
    checks: tuple[Check, ...]
    aliases: tuple[str, ...]
    champion: int | None
    reason: str
    training_run: str | None


@dataclass(frozen=True)
class RegisterResult:
    """The content of `registration.json`; the address has its credentials masked."""

    tracking_uri: str
    models: tuple[Registration, ...]


def run(params: RegisterParams, *, metrics: Path, models: Path, registration: Path) -> RegisterResult:
    """Judge, register and promote every model of `params.models`; write `registration` (JSON).

    `metrics` is the report's metrics.json, `models` the folder with one folder an obfuscator. A model that
    fails the gate is registered and tagged with why, and moves no alias; that is a result, not an error.

    Raises:
        DdmError: evidence or model files are missing, or MLflow cannot be reached.
    """
    from ddm_core.serving.registry import place

    report = _read_report(metrics)
    candidates = [
        _candidate(report, obfuscator, name, models / obfuscator, params.gate)
        for obfuscator, name in params.models.items()
    ]
    placed = [(candidate, place(candidate, params.gate)) for candidate in candidates]
    result = RegisterResult(
        shown_uri(),
        tuple(
            Registration(
                obfuscator=candidate.obfuscator,
                name=candidate.name,
                version=standing.version,
                passed=candidate.verdict.passed,
                checks=candidate.verdict.checks,
                aliases=standing.aliases,
                champion=standing.champion,
                reason=standing.reason,
                training_run=standing.training_run,
            )
            for candidate, standing in placed
        ),
    )
    write_json(registration, dataclasses.asdict(result))
    return result


def summarise(registration: Path) -> str:
    """Return, from the live registry: which version of each model is champion or why none is; the UI command.

    Raises:
        DdmError: `registration` is missing or damaged, or MLflow cannot be reached.
    """
    from ddm_core.tracking import connect

    result = parse(read_json(registration), RegisterResult, str(registration))
    client, mend = connect(), command_to_register_again(registration)
    with explained():
        lines = [line for model in result.models for line in _describe(client, model, mend)]
    if result.tracking_uri != shown_uri():
        lines.append(
            f"{registration} speaks of MLflow at {result.tracking_uri}, not of {shown_uri()}: {mend}"
        )
    return "\n".join([*lines, f"MLflow UI: {ui_command()}"])


def command_to_register_again(registration: Path) -> str:
    """Return the command that runs the stage that wrote `registration`: every pipeline has its own folder.

    `results/registration.json` is the main pipeline's, `photo/results/registration.json` the photo model's.
    """
    pipeline = registration.parent.parent / "dvc.yaml"
    stage = f"{pipeline}:register" if pipeline.parent != Path() and pipeline.exists() else "register"
    return f"dvc repro --force --single-item {stage}"


def _describe(client: MlflowClient, model: Registration, mend: str) -> list[str]:
    from ddm_core.serving.versions import CHAMPION, aliases, is_whole

    champion = aliases(client, model.name).get(CHAMPION)
    lines = [
        f"{model.name}: version {champion} is champion"
        if champion is not None
        else f"{model.name}: no version is champion",
        f"  version {model.version}: {model.reason}",
    ]
    if not is_whole(client, model.name, model.version):
        lines.append(
            f"  version {model.version} or its files are not in this registry; register again: {mend}"
        )
    return lines


@dataclass(frozen=True)
class _Report:
    path: Path
    obfuscators: Mapping[str, Any]
    chance: float
    dataset_digest: str
    commit: str
    dataset: Mapping[str, str]


def _read_report(path: Path) -> _Report:
    content = read_json(path)
    try:
        return _Report(
            path,
            dict(content["obfuscators"]),
            float(content["chance_top1"]),
            str(content["provenance"]["dataset_digest"]),
            str(content["provenance"]["commit"]),
            dict(content["provenance"].get("dataset", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DdmError(f"{path}: missing or out of shape ({error}); write it again (dvc repro)") from None


def _candidate(report: _Report, obfuscator: str, name: str, folder: Path, gate: GateParams) -> Candidate:
    from ddm_core.checkpoints import WEIGHTS, weights_digest
    from ddm_core.serving.candidate import Candidate

    evidence = report.obfuscators.get(obfuscator)
    if not isinstance(evidence, dict):
        hint = did_you_mean(obfuscator, report.obfuscators)
        raise DdmError(f"{report.path}: register.models names '{obfuscator}', which was not measured{hint}")
    if not (folder / WEIGHTS).exists():
        raise DdmError(f"{folder / WEIGHTS}: not found; train the model first (dvc repro)")
    digest = weights_digest(folder)
    if digest != evidence.get("weights_sha256"):
        raise DdmError(
            f"{report.path}: {obfuscator} was measured with other weights than {folder} holds (dvc repro)"
        )
    return Candidate(
        name=name,
        obfuscator=obfuscator,
        folder=folder,
        weights_digest=digest,
        evidence=evidence,
        verdict=judge(evidence, gate),
        chance=report.chance,
        dataset_digest=report.dataset_digest,
        commit=report.commit,
        dataset=report.dataset,
    )
