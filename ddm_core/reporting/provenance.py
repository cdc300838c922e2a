"""Where a report comes from: commit, data, params, versions, time."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ddm_core.params import Params, to_dict

PACKAGES = ("ddm-pipeline", "torch", "mlflow", "dvc")
UNKNOWN = "unknown"


def provenance(
    params: Params, dataset_digest: str, source: Mapping[str, str], seconds: float, checkout: Path
) -> dict[str, Any]:
    """Return the `provenance` part of metrics.json; `checkout` is the folder whose commit is named.

    `source` is what the measured photos' manifest says of where they come from.
    """
    commit, dirty = read_commit(checkout)
    return {
        "commit": commit,
        "dirty": dirty,
        "dataset_digest": dataset_digest,
        "dataset": dict(source),
        "params": to_dict(params),
        "seconds": seconds,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def read_commit(checkout: Path) -> tuple[str, bool | None]:
    """Return the commit and whether tracked files differ from it.

    Outside git it is what a container image was built from (DDM_COMMIT, which ends in -dirty where files
    differed), or ("unknown", None).
    A dvc.lock does not count as a difference: DVC rewrites it while the stages run.
    """
    commit = _git(checkout, "rev-parse", "HEAD")
    changes = _git(
        checkout,
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":/",
        ":(top,exclude,glob)**/dvc.lock",
    )
    if commit is None or changes is None:
        built_from, dirty, _ = os.environ.get("DDM_COMMIT", UNKNOWN).partition("-dirty")
        return (built_from, bool(dirty)) if built_from not in ("", UNKNOWN) else (UNKNOWN, None)
    return commit, changes != ""


def _git(checkout: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(checkout), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN
