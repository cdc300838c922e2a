"""Whether a registered version may move: its files, its evidence, the gate, the champion's rule."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.gate import beats, judge
from ddm_core.params import GateParams
from ddm_core.serving.evidence import StoredEvidence, read_evidence, verify_files
from ddm_core.serving.moves_log import Entry
from ddm_core.serving.versions import is_archived, is_usable, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def compare(
    client: MlflowClient, name: str, challenger: StoredEvidence, held: int | None, gate: GateParams
) -> tuple[bool, str]:
    """Tell by the champion's rule whether a challenger replaces version `held`, and why, in one line."""
    if held is None:
        return True, "the first"
    champion = next((found for found in versions(client, name) if int(found.version) == held), None)
    if champion is None or not is_usable(champion):
        return True, f"the files of version {held}, champion until now, are gone"
    try:
        present = read_evidence(champion)
    except DdmError:  # registered by hand: a champion without figures
        return beats(challenger.content, {}, gate.champion, gate.channels)
    if present.dataset_digest != challenger.dataset_digest:
        return False, (
            f"version {held} was measured on other photos, so the figures do not compare;"
            " promote it with --reason if it is the better one"
        )
    return beats(challenger.content, present.content, gate.champion, gate.channels)


def examine(version: ModelVersion, gate: GateParams) -> tuple[StoredEvidence | None, tuple[str, ...]]:
    """Return a version's evidence, `None` where it is not sound, and what speaks against promoting it."""
    try:
        evidence = read_evidence(version)
        verify_files(version)
    except DdmError as error:
        return None, (str(error),)
    verdict = judge(evidence.content, gate)
    return evidence, (() if verdict.passed else (verdict.failures,))


def refuse_unusable(version: ModelVersion) -> None:
    """Raise a DdmError for a version that is archived or whose files are gone."""
    where = f"{version.name} version {version.version}"
    if is_archived(version):
        raise DdmError(f"{where} is archived; ddm registry archive {version.version} --undo brings it back")
    if not is_usable(version):
        raise DdmError(f"{where}: its files are gone; register the model again (dvc repro)")


def refuse_changed(version: ModelVersion, entries: list[Entry], alias: str) -> None:
    """Raise a DdmError where a version's evidence is not what the log says it was at its promotion."""
    recorded = [
        entry.move.evidence_sha256
        for entry in entries
        if entry.counts and (entry.move.alias, entry.move.version) == (alias, int(version.version))
    ]
    if recorded and recorded[-1] != digest(version):
        raise DdmError(
            f"{version.name} version {version.version}: its evidence is not what it was when it became"
            f" {alias}; register the model again"
        )


def digest(version: ModelVersion) -> str | None:
    """Return the digest of a version's evidence, `None` where it has no sound one."""
    with suppress(DdmError):
        return read_evidence(version).digest
    return None
