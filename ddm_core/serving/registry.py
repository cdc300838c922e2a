"""Versions and aliases in the MLflow registry. Steps may be repeated: a second run ends where one does."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.gate import beats
from ddm_core.params import GateParams
from ddm_core.serving.candidate import (
    EVIDENCE_CONTENT_TAG,
    Candidate,
    identity_tags,
    summary,
    version_tags,
)
from ddm_core.tracking import DATASET_TAG, EXPERIMENT, connect, experiment_id, find_training_run
from ddm_core.tracking_address import explained

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Standing:
    """Where a candidate stands in the registry, and which version is champion (`None`: no version is)."""

    version: int
    training_run: str | None
    aliases: tuple[str, ...]
    champion: int | None
    reason: str


def place(candidate: Candidate, gate: GateParams) -> Standing:
    """Register the candidate, or find the version it already has, and move the aliases it deserves.

    Raises:
        DdmError: MLflow cannot be reached or refuses.
    """
    client = connect()
    training_run = find_training_run(candidate.weights_digest)
    with explained():
        version = _find_version(client, candidate) or _add_version(client, candidate, training_run)
        # Written again on a version that was found: the gate's limits may have changed since.
        for key, value in version_tags(candidate).items():
            client.set_model_version_tag(candidate.name, version, key, value)
        client.update_model_version(candidate.name, version, description=summary(candidate))
        reason = _move_aliases(client, candidate, int(version), gate)
        held = aliases(client, candidate.name)
    mine = tuple(sorted(alias for alias, holder in held.items() if holder == int(version)))
    return Standing(int(version), training_run, mine, held.get(CHAMPION), reason)


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Return alias -> version of a registered model; empty where the model is unknown."""
    found = client.search_registered_models(f"name = '{name}'")
    return {alias: int(version) for alias, version in found[0].aliases.items()} if found else {}


def is_whole(client: MlflowClient, name: str, version: int) -> bool:
    """Tell whether a version is in the registry and its files are still where it says."""
    return any(_usable(found) for found in _versions(client, name) if int(found.version) == version)


def _move_aliases(client: MlflowClient, candidate: Candidate, version: int, gate: GateParams) -> str:
    if not candidate.verdict.passed:
        return f"failed the gate, no alias moved: {candidate.verdict.failures}"
    client.set_registered_model_alias(candidate.name, CHALLENGER, str(version))
    held = aliases(client, candidate.name).get(CHAMPION)
    if held == version:
        return "passed the gate; is the champion already"
    better, reason = _compare(client, candidate, held, gate)
    if not better:
        return f"passed the gate; the champion stays: {reason}"
    client.set_registered_model_alias(candidate.name, CHAMPION, str(version))
    return f"passed the gate; champion now: {reason}"


def _compare(
    client: MlflowClient, candidate: Candidate, held: int | None, gate: GateParams
) -> tuple[bool, str]:
    if held is None:
        return True, "the first"
    if not is_whole(client, candidate.name, held):
        return True, f"the files of version {held}, champion until now, are gone"
    tags = client.get_model_version(candidate.name, str(held)).tags
    if tags.get(DATASET_TAG, candidate.dataset_digest) != candidate.dataset_digest:
        return False, (
            f"version {held} was measured on other photos, so the figures do not compare;"
            " move the alias by hand in the MLflow UI if this version is the better one"
        )
    return beats(candidate.evidence, _read_evidence(tags), gate.champion, gate.channels)


def _read_evidence(tags: dict[str, str]) -> dict[str, Any]:
    try:
        evidence = json.loads(tags[EVIDENCE_CONTENT_TAG])
    except (KeyError, json.JSONDecodeError):
        return {}  # registered by hand: a champion without figures
    return evidence if isinstance(evidence, dict) else {}


def _find_version(client: MlflowClient, candidate: Candidate) -> str | None:
    wanted = identity_tags(candidate).items()
    same = (found for found in _versions(client, candidate.name) if wanted <= found.tags.items())
    newest_first = sorted(same, key=lambda found: int(found.version), reverse=True)
    return next((str(found.version) for found in newest_first if _usable(found)), None)


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    versions: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        versions += page
        token = page.token
        if not token:
            return versions


def _usable(version: ModelVersion) -> bool:
    from mlflow.artifacts import list_artifacts

    files = list_artifacts(artifact_uri=f"models:/{version.name}/{version.version}")
    return version.status == "READY" and any(file.path == "MLmodel" for file in files)


def _add_version(client: MlflowClient, candidate: Candidate, training_run: str | None) -> str:
    """Store the files, then the version that points to them: an interruption leaves no half version."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import Model

    from ddm_core.serving.package import write_model_folder

    if not client.search_registered_models(f"name = '{candidate.name}'"):
        client.create_registered_model(candidate.name)
    logged = client.create_logged_model(
        experiment_id(client, EXPERIMENT), candidate.name, source_run_id=training_run
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        model = Model(
            artifact_path=logged.artifact_location, model_uuid=logged.model_id,
            model_id=logged.model_id, run_id=training_run,
        )  # fmt: skip
        write_model_folder(candidate, folder, model)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    version = client.create_model_version(
        candidate.name,
        source=f"models:/{logged.model_id}",
        run_id=training_run,
        tags=version_tags(candidate),
        model_id=logged.model_id,
    )
    return str(version.version)
