"""Where a cell's figures come from: its inputs and their digest, the commit, the versions, the time.

A cell is reused if and only if the digest of its inputs is the same again.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ddm_core.benchmark.code import code_digest
from ddm_core.benchmark.plan import Cell, Places, siblings
from ddm_core.benchmark.settings import BenchmarkParams, with_seed
from ddm_core.data.manifest import Summary
from ddm_core.files import sha256_bytes, sha256_file
from ddm_core.obfuscator_params import ObfuscatorParams

MODEL_FILES = ("obfuscator.json", "weights.safetensors")
RECOGNISER_FILES = ("recogniser.json", "weights.safetensors")
DECIDING_PACKAGES = ("torch", "numpy", "pillow")
FACE_EMBEDDING = ("dlib-bin", "face-recognition-models")
PACKAGES_OF_ATTACKERS = dict.fromkeys(
    ("pretrained", "inversion", "wrong_key", "known_plaintext"), FACE_EMBEDDING
)
"""The last three rebuild photos, which the embedding judges."""
ABSENT = "absent"


@dataclass(frozen=True)
class Inputs:
    """Everything that decides a cell's result; digests are hexadecimal SHA-256.

    `params` are the settings of the cell's stage with the seed in place. `code_sha256` is over the files
    that the stage uses, `models_sha256` over each model folder that it reads, `recogniser_sha256` over the
    clean recogniser. `versions` are those of Python and of the packages that compute.
    """

    stage: str
    attacker: str | None
    params: dict[str, Any]
    dataset_sha256: str
    code_sha256: str
    models_sha256: dict[str, str]
    recogniser_sha256: str | None
    versions: dict[str, str]

    @property
    def sha256(self) -> str:
        """The digest of all of it."""
        return sha256_bytes(json.dumps(dataclasses.asdict(self), sort_keys=True).encode())


@dataclass(frozen=True)
class Origin:
    """What the whole run has in common: the checkout's commit and whether files differ from it."""

    commit: str
    dirty: bool | None


def settings_of(cell: Cell, params: BenchmarkParams) -> ObfuscatorParams | None:
    """Return the settings of a cell's obfuscator, with its seed; `None` for the recogniser."""
    return None if cell.obfuscator is None else with_seed(params.train[cell.obfuscator], cell.seed)


def stage_params(cell: Cell, params: BenchmarkParams) -> Any:  # noqa: ANN401 - any stage's params
    """Return what the cell's stage is called with."""
    if cell.stage == "train":
        return settings_of(cell, params)
    return with_seed(getattr(params, cell.stage), cell.seed)


def inputs(cell: Cell, params: BenchmarkParams, places: Places, dataset: Summary) -> Inputs:
    """Return what decides a cell's result; what it needs must have been made.

    Raises:
        DdmError: the module of an external obfuscator is not there.
        OSError: a model or the recogniser is missing.
    """
    read: list[str] = []
    if cell.stage in ("attack", "utility"):
        read = [str(cell.obfuscator)]
        read += siblings(read[0], params) if cell.attacker == "transfer" else []
    models = {name: places.folder(Cell("train", cell.seed, name)) for name in read}
    recogniser = places.folder(Cell("recognise", cell.seed)) if read else None
    return Inputs(
        stage=cell.stage,
        attacker=cell.attacker,
        params=dataclasses.asdict(stage_params(cell, params)),
        dataset_sha256=dataset.dataset_digest,
        code_sha256=code_digest(cell, settings_of(cell, params)),
        models_sha256={name: _folder_digest(folder, MODEL_FILES) for name, folder in models.items()},
        recogniser_sha256=_folder_digest(recogniser, RECOGNISER_FILES) if recogniser else None,
        versions=_versions(cell.attacker),
    )


def _versions(attacker: str | None) -> dict[str, str]:
    """Return what computes; an attacker that needs an extra is tried again once that is installed."""
    packages = (*DECIDING_PACKAGES, *PACKAGES_OF_ATTACKERS.get(attacker or "", ()))
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ABSENT


def provenance(used: Inputs, origin: Origin, weights: str | None, seconds: float) -> dict[str, Any]:
    """Return the `provenance` of a cell's record (docs/results-schema.md)."""
    return {
        "inputs_sha256": used.sha256,
        "code_sha256": used.code_sha256,
        "dataset_sha256": used.dataset_sha256,
        "weights_sha256": weights,
        "recogniser_sha256": used.recogniser_sha256,
        "params": used.params,
        "commit": origin.commit,
        "dirty": origin.dirty,
        **used.versions,
        "threads": used.params.get("threads", 1),
        "seconds": round(seconds, 1),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _folder_digest(folder: Path, names: tuple[str, ...]) -> str:
    """Return the SHA-256 over those of the files that the folder has; the first must be there."""
    first, *others = (folder / name for name in names)
    present = [first, *(path for path in others if path.exists())]
    return sha256_bytes("\n".join(f"{path.name} {sha256_file(path)}" for path in present).encode())
