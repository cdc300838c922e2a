"""Registers candidates in MLflow. Steps may be repeated: a second run ends where one does."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.params import GateParams
from ddm_core.serving.candidate import Candidate, identity_tags, summary, version_tags
from ddm_core.serving.moves import Outcome, promote
from ddm_core.serving.moves_log import OvertakenError
from ddm_core.serving.versions import CHALLENGER, CHAMPION, aliases, is_usable, versions
from ddm_core.tracking import EXPERIMENT, connect, experiment_id, find_training_run
from ddm_core.tracking_address import explained

if TYPE_CHECKING:
    from mlflow import MlflowClient

ATTEMPTS = 5  # at a move, while other runs move aliases of the same model


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


def _move_aliases(client: MlflowClient, candidate: Candidate, version: int, gate: GateParams) -> str:
    if not candidate.verdict.passed:
        return f"failed the gate, no alias moved: {candidate.verdict.failures}"
    _promote(client, candidate.name, version, gate, alias=CHALLENGER, reason="passed the gate")
    outcome = _promote(client, candidate.name, version, gate, alias=CHAMPION)
    return f"passed the gate; {outcome.text}"


def _promote(
    client: MlflowClient, name: str, version: int, gate: GateParams, *, alias: str, reason: str = ""
) -> Outcome:
    for _ in range(ATTEMPTS - 1):
        with suppress(OvertakenError):  # by another run: decided anew, against what it put there
            return promote(client, name, str(version), gate, alias=alias, reason=reason)
    return promote(client, name, str(version), gate, alias=alias, reason=reason)


def _find_version(client: MlflowClient, candidate: Candidate) -> str | None:
    wanted = identity_tags(candidate).items()
    same = (found for found in versions(client, candidate.name) if wanted <= found.tags.items())
    newest_first = sorted(same, key=lambda found: int(found.version), reverse=True)
    return next((str(found.version) for found in newest_first if is_usable(found)), None)


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
