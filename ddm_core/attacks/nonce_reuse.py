"""The positive control: what it costs when every photo is encrypted under one and the same nonce.

With one rotation for all, x_e is a fixed function of x, and the retrained attacker wins as it does against
every keyless method. It shows that the attacker is strong and that fresh nonces are what protects.
KeyedDdm refuses to do this; the control goes around it, through the networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_core.attacks.protocol import Outcome, Target, as_float, evaluation_key
from ddm_core.attacks.recognition import train_recogniser
from ddm_core.keys import haar_quaternions, nonce_stream
from ddm_core.obfuscators.keyed_ddm import PATCH, KeyedDdm


def nonce_reuse(target: Target) -> Outcome:
    """Train and try the retrained attacker on photos that all share the victim's one keystream."""
    victim = target.victim
    assert isinstance(victim, KeyedDdm)  # the stage leaves the others out
    key = evaluation_key(target.params.seed, "victim")
    nonces = list(nonce_stream(target.params.seed, f"{target.name}/nonce_reuse", 1))
    side = target.test.images.shape[-1] // PATCH
    rotation = haar_quaternions(key, nonces, victim.networks.params.quaternions, side, side)
    rotation = rotation.to(target.device)

    @torch.no_grad()
    def obfuscate(images: Tensor) -> Tensor:
        return victim.networks.hide(images, rotation)

    recogniser = train_recogniser(
        target.train.images,
        target.train.labels,
        len(target.train.identities),
        target.params,
        f"{target.name}/nonce_reuse",
        target.device,
        obfuscate,
    )
    hidden = obfuscate(as_float(target.test.images).to(target.device))
    return Outcome(recogniser.recognise(hidden), target.test.labels)
