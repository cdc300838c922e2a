"""What the MLflow registry holds: versions, aliases, whether files are there. Changes nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
ARCHIVED_TAG = "ddm.archived"
FORCED_TAG = "ddm.forced"


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Return alias -> version of a registered model; empty where the model is unknown."""
    found = client.search_registered_models(f"name = '{name}'")
    return {alias: int(version) for alias, version in found[0].aliases.items()} if found else {}


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return every version of a registered model, the oldest first; empty where the model is unknown."""
    found: list[ModelVersion] = []
    token = None
    while True:
        # By number: pages of an order that changes meanwhile would leave versions out.
        page = client.search_model_versions(
            f"name = '{name}'", order_by=["version_number ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def find_version(client: MlflowClient, name: str, which: str) -> ModelVersion:
    """Return a version by its number or by an alias it holds.

    Raises:
        DdmError: there is none; the message names those that there are.
    """
    known = versions(client, name)
    number = which if re.fullmatch(r"[0-9]+", which) else str(aliases(client, name).get(which))
    for version in known:
        if str(version.version) == number:
            return version
    if not known:
        raise DdmError(
            f"no model '{name}' is registered; register it (make run, make photo for photo), or pass --model"
        )
    numbers = ", ".join(str(version.version) for version in known)
    raise DdmError(f"{name} has no version or alias '{which}'; versions: {numbers}")


def is_whole(client: MlflowClient, name: str, version: int) -> bool:
    """Tell whether a version is in the registry and its files are still where it says."""
    return any(is_usable(found) for found in versions(client, name) if int(found.version) == version)


def is_usable(version: ModelVersion) -> bool:
    """Tell whether a version's files are where it says."""
    from mlflow.artifacts import list_artifacts

    files = list_artifacts(artifact_uri=f"models:/{version.name}/{version.version}")
    return version.status == "READY" and any(file.path == "MLmodel" for file in files)


def is_archived(version: ModelVersion) -> bool:
    """Tell whether a version was put away: it is neither promoted nor rolled back to."""
    return bool(version.tags.get(ARCHIVED_TAG) == "true")
