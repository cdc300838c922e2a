"""What the measuring stages write, as frozen dataclasses; JSON files hold exactly these fields."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ddm_core.files import read_json, write_json
from ddm_core.strict import parse

T = TypeVar("T")

ATTACKERS = ("clean", "retrained", "inversion", "wrong_key")
"""The attackers that every obfuscator faces and that count in the worst case."""
LAB_ATTACKERS = ("verification", "pretrained", "transfer", "averaging", "known_plaintext", "learning_curve")
"""Further attackers, which the benchmark adds."""
CONTROLS = ("nonce_reuse",)
"""Attackers that show the price of a forbidden misuse; they do not count in the worst case."""
CHANNELS = ("png", "jpeg95", "jpeg85", "jpeg75", "jpeg50", "resize75", "resize50")
"""The channels that utility is measured after, mild to harsh (ddm_core.channel.CHANNELS)."""

RESULT = "result.json"
PICTURES = "pictures.png"
TIMING = "timing.json"


@dataclass(frozen=True)
class VerificationFigures:
    """Same person or not, told for `pairs` pairs of pictures; fractions throughout.

    `accuracy` is the mean over folds (threshold chosen on the other folds), `accuracy_deviation` their
    standard deviation, `accuracy_standard_error` that of the mean, as LFW's view 2 reports it. `auc_ci95` is
    the interval of the area under the ROC curve; `eer` is the rate where false accepts equal false rejects;
    `tar_at_far_*` is the true accept rate at that false accept rate.
    """

    accuracy: float
    accuracy_deviation: float
    auc: float
    auc_ci95: tuple[float, ...]
    eer: float
    tar_at_far_1e2: float
    tar_at_far_1e3: float
    pairs: int
    accuracy_standard_error: float | None = None


@dataclass(frozen=True)
class CurvePoint:
    """The attacker's accuracy after less data or less training.

    `photos_per_person` are the labelled photos it had of each person (the most, where people differ),
    `epochs` its passes over them, `images_seen` the obfuscated images that it was trained on in all.
    """

    photos_per_person: int
    epochs: int
    images_seen: int
    top1: float
    ci95: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class IdentitySimilarity:
    """How much of the person one face embedding finds in reconstructions: mean cosines in [-1, 1].

    `reconstruction` is between each of `n` reconstructions and its photo. The others are what it is read
    against, under the same embedding and on clean test photos: the mean training photo against each
    (`mean_face`), photos of two people, and two photos of one person (None where there are no such pairs).
    `others` is between the reconstructions and the photos of other people: where it is no lower than
    `reconstruction`, the attacker drew faces, but nobody's.
    """

    reconstruction: float
    n: int
    mean_face: float
    different_people: float | None
    same_person: float | None
    others: float | None = None


@dataclass(frozen=True)
class ArchitectureTrial:
    """One architecture that the attacker tried before it chose; accuracies are fractions.

    `validation_top1` is its best on photos held back from training, over `epochs` epochs; `test_top1` is on
    the test encryptions, of the network as that trial left it: trained without the photos held back. It
    decides nothing. The attacker trains the `chosen` one again, on all its photos.
    """

    architecture: str
    epochs: int
    validation_top1: float
    test_top1: float
    chosen: bool


@dataclass(frozen=True)
class CleanLevel:
    """How well an embedding of others names clean photos (`top1`), and the least that lets it count."""

    top1: float
    least: float
    strong_enough: bool


@dataclass(frozen=True)
class AttackResult:
    """One cell: one attacker against one obfuscator.

    Accuracies are fractions; `ci95` is the Wilson interval of `top1` over `n` test encryptions, `chance` is
    one over the number of people. An attacker that only verifies has `verification` instead, by the kind of
    pair: "obfuscated" (both obfuscated) and "linkage" (obfuscated against clean).
    `psnr_db` and `ssim` speak of the attacker's reconstruction, where it makes one (inversion, wrong_key);
    so does `identity_similarity`, the mean cosine in [-1, 1] between the clean recogniser's embeddings of
    reconstruction and photo. `identity` gives that figure with its references, by embedding: "recogniser" is
    that clean recogniser, "dlib_resnet" one that others trained on other people.
    `architecture` is the recogniser that did best on the attacker's own validation photos, and `trials` are
    all that it tried there. `curve` is what the learning_curve attacker measured; `clean_level` is what the
    pretrained one's embedding is worth.
    A cell that makes no sense (no decryption to try) has `applicable` false and says why in `reason`.
    `weights_sha256` is the digest of the very weights that were attacked.
    `counts_for_gate` is false for controls that show what a forbidden misuse would cost (nonce_reuse).
    """

    obfuscator: str
    attacker: str
    applicable: bool
    reason: str | None = None
    counts_for_gate: bool = True
    top1: float | None = None
    ci95: tuple[float, ...] | None = None
    n: int | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    weights_sha256: str | None = None
    seconds: float = 0.0
    top5: float | None = None
    chance: float | None = None
    identity_similarity: float | None = None
    architecture: str | None = None
    verification: dict[str, VerificationFigures] | None = None
    curve: tuple[CurvePoint, ...] = ()
    identity: dict[str, IdentitySimilarity] | None = None
    trials: tuple[ArchitectureTrial, ...] = ()
    clean_level: CleanLevel | None = None


@dataclass(frozen=True)
class ChannelUtility:
    """What the receiver holds after one channel, against the original photo."""

    psnr_db: float
    ssim: float
    recognition_top1: float
    recognition_ci95: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class UtilityResult:
    """One obfuscator's utility. `decrypts` false: measured on the obfuscated photo itself.

    `weights_sha256` is the digest of the very weights that were measured.
    """

    obfuscator: str
    decrypts: bool
    channels: dict[str, ChannelUtility]
    weights_sha256: str
    seconds: float


def write_result(path: Path, result: AttackResult | UtilityResult) -> None:
    """Write one result as JSON, atomically."""
    write_json(path, dataclasses.asdict(result))


def read_result(path: Path, kind: type[T]) -> T:
    """Read a result written by `write_result`; a DdmError names what does not fit."""
    return parse(read_json(path), kind, str(path))
