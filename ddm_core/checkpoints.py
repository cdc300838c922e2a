"""Weights as safetensors, everything else as JSON beside them: a model folder never holds a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.files import sha256_file, write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIGURATION = "obfuscator.json"
WEIGHTS = "weights.safetensors"


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's state as safetensors, atomically; the same weights give the same bytes."""
    save_tensors(network.state_dict(), path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write named tensors as safetensors, atomically; the same tensors give the same bytes."""
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(state))


def load_weights(network: nn.Module, path: Path) -> None:
    """Read safetensors into a network whose names and shapes must fit exactly.

    Raises:
        DdmError: missing or damaged file, or weights of another architecture.
    """
    try:
        network.load_state_dict(load_tensors(path))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise DdmError(f"{path}: weights do not fit the configuration beside them ({first})") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a safetensors file.

    Raises:
        DdmError: missing or damaged file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise DdmError(f"{path}: not found; train the model first (dvc repro)") from None
    except SafetensorError as error:
        raise DdmError(f"{path}: damaged weights ({error}); train the model again") from None
    return tensors


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of a model folder's weights; of its configuration where it has no weights."""
    weights = folder / WEIGHTS
    return sha256_file(weights if weights.exists() else folder / CONFIGURATION)
