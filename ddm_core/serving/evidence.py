"""The evidence that a registered version carries, and whether it still is what was measured."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes, sha256_file
from ddm_core.gate import Evidence
from ddm_core.serving.candidate import EVIDENCE_CONTENT_TAG, EVIDENCE_TAG
from ddm_core.tracking import DATASET_TAG, WEIGHTS_TAG

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class StoredEvidence:
    """What was measured of a version: the entry of metrics.json, its digest, the digest of the photos."""

    content: Evidence
    digest: str
    dataset_digest: str


def read_evidence(version: ModelVersion) -> StoredEvidence:
    """Return the evidence in a version's tags, after holding it against its digest.

    Raises:
        DdmError: it carries none, or the evidence is not what the digest was taken of.
    """
    where, tags = f"{version.name} version {version.version}", version.tags
    text, digest, photos = (tags.get(tag, "") for tag in (EVIDENCE_CONTENT_TAG, EVIDENCE_TAG, DATASET_TAG))
    if not text or not digest:
        raise DdmError(f"{where}: carries no evidence; register it by the register stage (dvc repro)")
    if sha256_bytes(f"{photos}\n{text}".encode()) != digest:
        raise DdmError(f"{where}: its evidence was changed after registration; register the model again")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise DdmError(f"{where}: its evidence is out of shape; register the model again")
    return StoredEvidence(content, digest, photos)


def verify_files(version: ModelVersion) -> None:
    """Hold a version's files against its evidence: the digests packed with the model, and the weights.

    Tags can be changed together; the files lie in another store.

    Raises:
        DdmError: the files are of other weights, or were packed with other evidence.
    """
    from mlflow.artifacts import download_artifacts

    where, tags = f"{version.name} version {version.version}", version.tags
    address = f"models:/{version.name}/{version.version}"
    with tempfile.TemporaryDirectory() as folder:
        file = download_artifacts(artifact_uri=f"{address}/MLmodel", dst_path=folder)
        packed = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        if (packed.get("metadata") or {}).get(EVIDENCE_TAG) != tags.get(EVIDENCE_TAG):
            raise DdmError(f"{where}: its files were packed with other evidence; register the model again")
        try:
            path = packed["flavors"]["python_function"]["artifacts"]["weights"]["path"]
        except (KeyError, TypeError):
            raise DdmError(f"{where}: its files hold no weights; register the model again") from None
        weights = download_artifacts(artifact_uri=f"{address}/{path}", dst_path=folder)
        digest = sha256_file(Path(weights))
    measured = read_evidence(version).content.get("weights_sha256", digest)
    if not digest == measured == tags.get(WEIGHTS_TAG):
        raise DdmError(f"{where}: its weights are not those that were measured; register the model again")
