"""What an attacker's recogniser learns from: the target's training photos, as the attacker sees them."""

from __future__ import annotations

from ddm_core.attacks.protocol import Target
from ddm_core.attacks.recogniser_training import Lesson, Obfuscate


def lesson_from(target: Target, purpose: str, obfuscate: Obfuscate) -> Lesson:
    """Return the lesson of all training photos; `purpose` tells its draws from those of other lessons."""
    return Lesson(
        images=target.train.images,
        labels=target.train.labels,
        identities=len(target.train.identities),
        settings=target.params,
        name=f"{target.name}/{purpose}",
        device=target.device,
        obfuscate=obfuscate,
    )
