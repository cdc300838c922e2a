"""Trains the recogniser on clean photos: the `clean` attacker, and the judge of every rebuilt face."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, read_json, write_json
from ddm_core.params import RecogniseParams

if TYPE_CHECKING:
    from ddm_core.attacks.recognition import Recogniser

DESCRIPTION = "recogniser.json"


@dataclass(frozen=True)
class RecogniseResult:
    """How well it names people in clean test photos it never saw: fraction, 95 % Wilson interval, photos."""

    clean_top1: float
    ci95: tuple[float, float]
    n: int


def run(params: RecogniseParams, *, prepared: Path, recogniser: Path) -> RecogniseResult:
    """Train on the clean train photos; write weights.safetensors, recogniser.json, confusion.json, at once.

    Raises:
        DdmError: missing data.
    """
    from ddm_core.attacks.recognition import train_recogniser
    from ddm_core.checkpoints import WEIGHTS, save_weights
    from ddm_core.confusion import write_confusion
    from ddm_core.data.shards import load_photos
    from ddm_core.evaluation import as_float
    from ddm_core.metrics import wilson_interval
    from ddm_core.seeding import make_deterministic
    from ddm_core.training import device

    train, test = (load_photos(prepared, split=split) for split in ("train", "test"))
    make_deterministic(params.seed, "recognise/clean", params.threads)
    trained = train_recogniser(train.images, train.labels, len(train.identities), params, "clean", device())
    predictions = trained.recognise(as_float(test.images))
    right = int((predictions == test.labels).sum())
    result = RecogniseResult(
        right / len(test.labels), wilson_interval(right, len(test.labels)), len(test.labels)
    )
    description = {
        **asdict(result),
        "channels": test.images.shape[1],
        "identities": len(test.identities),
        "architecture": trained.architecture,
        "width": params.width,
    }
    with atomic_directory(recogniser) as folder:
        save_weights(trained.network, folder / WEIGHTS)
        write_json(folder / DESCRIPTION, description)
        write_confusion(folder, test.identities, test.labels.tolist(), predictions.tolist())
    return result


def load_recogniser(folder: Path, device: str) -> Recogniser:
    """Return the recogniser that `run` wrote.

    Raises:
        DdmError: missing or damaged files.
    """
    from ddm_core.attacks.recognition import Recogniser
    from ddm_core.checkpoints import WEIGHTS, load_weights
    from ddm_core.recognition_networks import ARCHITECTURE

    description = read_json(folder / DESCRIPTION)
    try:
        # Early descriptions knew one architecture of one width.
        architecture, width = description.get("architecture", "cnn"), description.get("width", 24)
        network = ARCHITECTURE[architecture].build(description["channels"], description["identities"], width)
    except (AttributeError, KeyError, TypeError, RuntimeError):  # RuntimeError: no such layer size
        raise DdmError(f"{folder / DESCRIPTION}: damaged; run the recognise stage again") from None
    load_weights(network, folder / WEIGHTS)
    return Recogniser(network.to(device).eval(), device, architecture)
