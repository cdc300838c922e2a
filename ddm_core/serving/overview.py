"""The registry for people: lists of versions, one version, two compared, the history of moves."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ddm_core.errors import DdmError
from ddm_core.gate import judge, measured
from ddm_core.gate_table import align, figure, gate_table
from ddm_core.params import GateParams
from ddm_core.reporting.wording import ABSENT
from ddm_core.serving import moves_log
from ddm_core.serving.evidence import StoredEvidence, read_evidence
from ddm_core.serving.examination import compare as apply_rule
from ddm_core.serving.moves_log import Entry
from ddm_core.serving.versions import ARCHIVED_TAG, FORCED_TAG, aliases, find_version, versions
from ddm_core.tracking import DATASET_TAG, WEIGHTS_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def list_versions(client: MlflowClient, name: str, gate: GateParams, *, archived: bool = False) -> str:
    """Return one line a version: aliases, the present gate's verdict on its evidence, figures, remarks."""
    held, entries = aliases(client, name), moves_log.read(client, name)
    shown = [
        version for version in versions(client, name) if archived or version.tags.get(ARCHIVED_TAG) != "true"
    ]
    channels = list(gate.channels)
    rows = [
        ("version", "aliases", "gate", "worst <=", *(f"dB {name}" for name in channels), "since", "remarks")
    ]
    for version in shown:
        mine = [alias for alias, holder in sorted(held.items()) if holder == int(version.version)]
        rows.append(
            (
                str(version.version),
                ", ".join(mine) or ABSENT,
                *_figures(version, gate),
                _time(version.creation_timestamp),
                "; ".join(_remarks(version, entries)),
            )
        )
    notes = [*_unfinished(entries), *_moved_by_hand(entries, held)]
    return "\n".join([name, align(rows) if shown else "no versions", *notes])


def show_version(client: MlflowClient, name: str, which: str, gate: GateParams) -> str:
    """Return everything about one version: origin, aliases, remarks, the gate line by line, its moves."""
    version = find_version(client, name, which)
    held, entries = aliases(client, name), moves_log.read(client, name)
    number = int(version.version)
    facts = {
        "aliases": ", ".join(alias for alias, holder in sorted(held.items()) if holder == number) or ABSENT,
        "registered": _time(version.creation_timestamp),
        "commit": version.tags.get("ddm.commit", ABSENT),
        "training run": version.run_id or ABSENT,
        "weights sha256": version.tags.get(WEIGHTS_TAG, ABSENT),
        "photos": version.tags.get(DATASET_TAG, ABSENT),
        "remarks": "; ".join(_remarks(version, entries)) or ABSENT,
    }
    lines = [f"{name} version {number}", align([(f"{key}:", value) for key, value in facts.items()]), ""]
    try:
        lines.append(gate_table(judge(read_evidence(version).content, gate)))
    except DdmError as error:
        lines.append(f"FAIL: {error}")
    mine = [entry for entry in entries if number in (entry.move.version, entry.move.before)]
    return "\n".join([*lines, "", _moves(mine)])


def compare_versions(client: MlflowClient, name: str, first: str, second: str, gate: GateParams) -> str:
    """Return two versions' figures side by side, and whether the second would replace the first.

    Raises:
        DdmError: a version is not there or has no sound evidence.
    """
    pair = [find_version(client, name, which) for which in (first, second)]
    stored = [read_evidence(version) for version in pair]
    checks = [judge(evidence.content, gate).checks for evidence in stored]
    heading = ("figure", *(f"version {version.version}" for version in pair), "difference")
    rows = [
        (
            old.name,
            *(
                ABSENT if check.measured is None else figure(check.name, check.measured)
                for check in (old, new)
            ),
            _difference(old.name, old.measured, new.measured),
        )
        for old, new in zip(*checks, strict=True)
        if old.measured is not None or new.measured is not None
    ]
    better, reason = apply_rule(client, name, stored[1], int(pair[0].version), gate)
    verdict = "would replace" if better else "would not replace"
    return "\n".join(
        [
            align([heading, *rows]),
            "",
            f"version {pair[1].version} {verdict} version {pair[0].version}: {reason}",
        ]
    )


def history(client: MlflowClient, name: str) -> str:
    """Return every move of a model, the oldest first, overtaken and forced ones marked."""
    entries = moves_log.read(client, name)
    return "\n".join([name, _moves(entries), *_moved_by_hand(entries, aliases(client, name))])


def history_records(client: MlflowClient, name: str) -> list[dict[str, Any]]:
    """Return every move as plain data, with the figures and the digest of the evidence it was decided on."""
    return [
        {"number": entry.number, "when": _time(entry.recorded_at), "state": entry.state}
        | dataclasses.asdict(entry.move)
        for entry in moves_log.read(client, name)
    ]


def _moves(entries: list[Entry]) -> str:
    if not entries:
        return "no moves recorded"
    rows = [("move", "when", "who", "state", "what")]
    rows += [
        (
            str(entry.number),
            _time(entry.recorded_at),
            entry.move.who,
            "not finished" if entry.state == "pending" else entry.state,
            moves_log.describe(entry.move),
        )
        for entry in entries
    ]
    return align(rows)


def _figures(version: ModelVersion, gate: GateParams) -> tuple[str, ...]:
    evidence = _sound(version)
    if evidence is None:
        return ("FAIL", *[ABSENT] * (1 + len(gate.channels)))
    content = evidence.content
    worst = measured(content, "worst_case", "ci95", 1)
    psnr = [measured(content, "utility", channel, "psnr_db") for channel in gate.channels]
    return (
        "pass" if judge(content, gate).passed else "FAIL",
        ABSENT if worst is None else f"{100 * worst:.1f} %",
        *(ABSENT if value is None else f"{value:.2f}" for value in psnr),
    )


def _sound(version: ModelVersion) -> StoredEvidence | None:
    try:
        return read_evidence(version)
    except DdmError:
        return None


def _remarks(version: ModelVersion, entries: list[Entry]) -> list[str]:
    remarks = []
    forced = [
        entry.move
        for entry in entries
        if entry.counts and entry.move.overrode and entry.move.version == int(version.version)
    ]
    if forced or version.tags.get(FORCED_TAG):  # in two places, so that neither alone can hide it
        why = f"{forced[0].who}: {forced[0].reason}" if forced else version.tags[FORCED_TAG]
        remarks.append(f"FORCED by {why}")
    if version.tags.get(ARCHIVED_TAG) == "true":
        remarks.append("archived")
    try:
        read_evidence(version)
    except DdmError as error:
        remarks.append(str(error).partition(": ")[2])
    return remarks


def _unfinished(entries: list[Entry]) -> list[str]:
    return [
        f"not finished: {moves_log.describe(entry.move)}; run the same command, or any move, to finish it"
        for entry in entries
        if entry.state == "pending"
    ]


def _moved_by_hand(entries: list[Entry], held: dict[str, int]) -> list[str]:
    recorded = {entry.move.alias: entry for entry in entries if entry.counts and entry.move.alias}
    return [
        f"{alias} is at version {held.get(str(alias), 'none')}, but the last recorded move put it at version"
        f" {entry.move.version}: it was moved outside ddm"
        for alias, entry in recorded.items()
        if entry.state == "done" and held.get(str(alias)) != entry.move.version
    ]


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _difference(name: str, old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return ABSENT
    return f"{new - old:+.2f} dB" if name.startswith("psnr_db") else f"{100 * (new - old):+.1f} points"
