"""The name of one training's checkpoints: whatever changes its result changes the name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.files import sha256_bytes, sha256_file

if TYPE_CHECKING:
    from ddm_core.learned_params import OptimisationParams

PACKAGE = Path(__file__).parent
# What dvc.yaml lists for the stage: code that makes DVC train anew must not go on from an older state.
TRAINING_CODE = (
    "stages/train.py",
    "learned_params.py",
    "data/shards.py",
    "data/stream.py",
    "data/order.py",
    "data/ahead.py",
    "obfuscators",
    "evaluation.py",
    "training.py",
    "training_photos.py",
    "data_parallel.py",
    "discrepancy.py",
    "networks.py",
    "channel.py",
    "keys.py",
    "quaternions.py",
    "rotations.py",
    "metrics.py",
    "seeding.py",
)
_DIGITS = 16


def training_key(name: str, params: OptimisationParams, dataset_digest: str) -> str:
    """Return `NAME-DIGEST`, the digest over all settings, the dataset, the code and torch's version."""
    import torch

    decisive = {
        "name": name,
        "params": dataclasses.asdict(params),
        "dataset": dataset_digest,
        "code": code_digest(),
        "torch": torch.__version__,
    }
    return f"{name}-{sha256_bytes(json.dumps(decisive, sort_keys=True).encode())[:_DIGITS]}"


def code_digest(package: Path = PACKAGE) -> str:
    """Return one SHA-256 over names and content of the code that decides a training's result."""
    files = [file for place in TRAINING_CODE for file in _files(package / place)]
    lines = [f"{file.relative_to(package).as_posix()} {sha256_file(file)}\n" for file in sorted(files)]
    return sha256_bytes("".join(lines).encode())


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]
