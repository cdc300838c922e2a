"""The model that photos are encrypted with: a folder of the project, or a version in the MLflow registry."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ddm_core.checkpoints import CONFIGURATION, WEIGHTS, load_weights
from ddm_core.errors import DdmError
from ddm_core.files import sha256_file
from ddm_core.obfuscators.store import Description, build_networks, describe
from ddm_core.photos.header import MODEL_ID_BYTES
from ddm_core.photos.tiles import PhotoNetworks
from ddm_core.tracking_address import explained, is_default

CHAMPION = "champion"
CANDIDATES = ("photo", "keyed_ddm")
"""The registered models whose champion is looked for: first the general one for photos in colour."""


@dataclass(frozen=True)
class PhotoModel:
    """Trained networks of keyed DDM; `id` are the first 4 bytes of their weights' SHA-256."""

    networks: PhotoNetworks = field(repr=False)
    id: bytes

    @property
    def channels(self) -> int:
        """1 for grey photos alone, 3 for colour and grey."""
        return self.networks.channels


@contextmanager
def model_folder(name: str | Path) -> Iterator[Path]:
    """Yield the folder of a model: a path, `champion`, NAME or NAME@ALIAS in the registry of MLflow.

    NAME alone is its champion; `champion` that of the first of CANDIDATES that has one.

    Raises:
        DdmError: no such folder, or MLflow cannot be reached or has no such model.
    """
    if (Path(name) / CONFIGURATION).exists():
        yield Path(name)
        return
    if not re.fullmatch(r"[^/\\]+", str(name)) or Path(name).exists():
        raise DdmError(
            f"{name}: no model folder; give one that ddm train wrote, champion, or NAME of the registry"
        )
    registered = _registered(str(name))
    from ddm_core.serving.foreign import adopt

    with tempfile.TemporaryDirectory() as temporary:
        if not adopt(f"models:/{registered}", Path(temporary)):
            raise DdmError(f"{registered}: is no model of this project; give another")
        yield Path(temporary)


def _registered(name: str) -> str:
    if is_default() and not Path("mlflow.db").exists():  # connecting would make an empty one
        lacking = "no champion:" if name == CHAMPION else f"{name}: no model folder, and"
        raise DdmError(
            f"{lacking} there is no mlflow.db here; give --model FOLDER, or set MLFLOW_TRACKING_URI"
        )
    if name == CHAMPION:
        return _champion()
    return name if "@" in name else f"{name}@{CHAMPION}"


def _champion() -> str:
    from ddm_core.serving.versions import aliases
    from ddm_core.tracking import connect

    client = connect()
    with explained():
        held = [name for name in CANDIDATES if CHAMPION in aliases(client, name)]
    if not held:
        raise DdmError(
            f"no champion among the registered models {', '.join(CANDIDATES)}; register one, or give a folder"
        )
    return f"{held[0]}@{CHAMPION}"


def load_model(folder: Path) -> PhotoModel:
    """Return the model in a folder; the last one is kept at hand.

    Raises:
        DdmError: missing or damaged files, or a method that does not rotate by a keystream.
    """
    description = describe(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise DdmError(f"{weights}: not found; train the model again")
    return _load(description, weights, sha256_file(weights))


@lru_cache(maxsize=1)
def _load(description: Description, weights: Path, digest: str) -> PhotoModel:
    import torch

    method = description.params.method
    networks = build_networks(description) if description.keyed else None
    if not isinstance(networks, PhotoNetworks):
        raise DdmError(f"{weights.parent}: method {method} cannot encrypt photos of any size; take keyed_ddm")
    load_weights(networks, weights)
    networks.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return PhotoModel(networks, bytes.fromhex(digest)[:MODEL_ID_BYTES])
