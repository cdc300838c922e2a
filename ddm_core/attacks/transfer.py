"""The transfer attacker: trained on the method under other settings, tried on this one.

It does not know which settings the victim chose: which block, which kernel, which weights. Its recogniser
learns from a mixture of all the others, for keyed methods under the attacker's own key. Settings that a
defender keeps to himself protect only as far as this attacker fails.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.attacks.recognition import NONCES, Obfuscate, outcome_of, train_recogniser
from ddm_core.keys import nonce_stream


def transfer(target: Target) -> Outcome:
    """Train a recogniser on the other settings' pictures and try it on the obfuscated test photos."""
    encrypted = encrypt_test_photos(target, "transfer")
    recogniser = train_recogniser(
        target.train.images,
        target.train.labels,
        len(target.train.identities),
        target.params,
        f"{target.name}/transfer",
        target.device,
        mixture(target),
    )
    return outcome_of(recogniser, encrypted.hidden, encrypted.labels)


def mixture(target: Target) -> Obfuscate:
    """Return a function that shares every batch out among the other settings."""
    others = list(target.others.values())
    assert others  # the stage leaves a method with one setting out
    nonces = nonce_stream(target.params.seed, f"{target.name}/transfer/train", NONCES)

    def obfuscate(images: Tensor) -> Tensor:
        parts = [
            other.encrypt(part, [next(nonces) for _ in range(len(part))])
            for other, part in zip(others, images.tensor_split(len(others)), strict=True)
        ]
        return torch.cat(parts)

    return obfuscate
