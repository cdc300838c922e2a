"""The parameters of the attack stage."""

from __future__ import annotations

from dataclasses import dataclass

from ddm_core.errors import did_you_mean
from ddm_core.ranges import require, require_positive

ARCHITECTURES = ("cnn", "resnet_arcface")
"""The networks that recognisers are made of (ddm_core.recognition_networks)."""


@dataclass(frozen=True)
class AttackParams:
    """Training of the adaptive attackers and the size of their test.

    With `validation_fraction` above 0 a recogniser keeps that part of its own training photos back, of each
    person, goes back to its best epoch on them, and stops after `patience_epochs` without a better one (0:
    never). Of several `architectures` the one that does best on those photos is tried on the test photos.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    inversion_steps: int
    inversion_learning_rate: float
    encryptions_per_photo: int
    threads: int
    seed: int
    architectures: tuple[str, ...] = ("cnn",)
    validation_fraction: float = 0.0
    patience_epochs: int = 0
    stronger_augmentation: bool = False

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate", "inversion_steps")
        require_positive(self, "inversion_learning_rate", "encryptions_per_photo", "threads")
        fraction, patience = self.validation_fraction, self.patience_epochs
        require(0 <= fraction < 1, f"validation_fraction is {fraction}; it must lie in [0, 1)")
        require(patience >= 0, f"patience_epochs is {patience}; it must not be negative")
        require(len(self.architectures) > 0, f"architectures is empty; known: {', '.join(ARCHITECTURES)}")
        for name in self.architectures:
            known = name in ARCHITECTURES
            require(known, f"architectures: unknown '{name}'{did_you_mean(name, ARCHITECTURES)}")
        chooses = len(self.architectures) > 1 or patience > 0
        require(
            fraction > 0 or not chooses,
            "validation_fraction is 0; several architectures and patience_epochs need validation photos",
        )
