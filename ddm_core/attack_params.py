"""The parameters of recognisers and of the attack stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ddm_core.errors import did_you_mean
from ddm_core.ranges import require, require_positive

ARCHITECTURES = ("cnn", "resnet_arcface")
"""The networks that recognisers are made of (ddm_core.recognition_networks)."""
IDENTITY_EMBEDDINGS = ("recogniser", "dlib_resnet")
"""The face embeddings that may judge reconstructions (ddm_core.attacks.identity)."""


@dataclass(frozen=True)
class RecogniserParams:
    """How hard a recogniser tries.

    With `validation_fraction` above 0 it keeps that part of its own training photos back, of each person,
    finds its best epoch on them, stops after `patience_epochs` without a better one (0: never), and then
    learns from all its photos for as many epochs. Of several `architectures` it takes the one that did best
    on those photos. `stronger_augmentation` varies each training photo more, but never mirrors it. `width` is
    the networks' channels at half size: 24 suits tens of people, 64 thousands; a step costs about its square.
    """

    architectures: tuple[str, ...] = field(default=("cnn",), kw_only=True)
    validation_fraction: float = field(default=0.0, kw_only=True)
    patience_epochs: int = field(default=0, kw_only=True)
    stronger_augmentation: bool = field(default=False, kw_only=True)
    width: int = field(default=24, kw_only=True)

    def __post_init__(self) -> None:
        fraction, patience = self.validation_fraction, self.patience_epochs
        require(0 <= fraction < 1, f"validation_fraction is {fraction}; it must lie in [0, 1)")
        require(patience >= 0, f"patience_epochs is {patience}; it must not be negative")
        require(len(self.architectures) > 0, f"architectures is empty; known: {', '.join(ARCHITECTURES)}")
        for name in self.architectures:
            known = name in ARCHITECTURES
            require(known, f"architectures: unknown '{name}'{did_you_mean(name, ARCHITECTURES)}")
        require_positive(self, "width")
        chooses = len(self.architectures) > 1 or patience > 0
        require(
            fraction > 0 or not chooses,
            "validation_fraction is 0; several architectures and patience_epochs need validation photos",
        )


@dataclass(frozen=True)
class AttackParams(RecogniserParams):
    """Training of the adaptive attackers, the size of their test, and who judges what they rebuild.

    Inversion takes at most `inversion_steps` steps of `inversion_batch_size` photos. With
    `inversion_patience_steps` above 0 it holds one photo of each person back and ends once it has gained
    nothing on them for so many steps.
    `identity_embeddings` are the face embeddings that say how much of the person is in a reconstruction:
    `recogniser`, and perhaps `dlib_resnet` (extra `pretrained`), which takes seconds a cell.
    `verification_protocol` says which pairs the verification attacker is tried on: `drawn` from the prepared
    photos, or LFW's own (`lfw`), which a prepared set may carry.
    """

    inversion_batch_size: int = field(default=8, kw_only=True)
    inversion_patience_steps: int = field(default=0, kw_only=True)
    identity_embeddings: tuple[str, ...] = field(default=("recogniser",), kw_only=True)
    verification_protocol: Literal["drawn", "lfw"] = field(default="drawn", kw_only=True)

    epochs: int
    batch_size: int
    learning_rate: float
    inversion_steps: int
    inversion_learning_rate: float
    encryptions_per_photo: int
    threads: int
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epochs", "batch_size", "learning_rate", "inversion_steps")
        require_positive(self, "inversion_learning_rate", "encryptions_per_photo", "threads")
        require_positive(self, "inversion_batch_size")
        patience = self.inversion_patience_steps
        require(patience >= 0, f"inversion_patience_steps is {patience}; it must not be negative")
        for name in self.identity_embeddings:
            suggestion = did_you_mean(name, IDENTITY_EMBEDDINGS)
            require(name in IDENTITY_EMBEDDINGS, f"identity_embeddings: unknown '{name}'{suggestion}")
        require("recogniser" in self.identity_embeddings, "identity_embeddings lacks 'recogniser'; add it")
