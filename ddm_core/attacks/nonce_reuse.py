"""The positive control: what it costs when photos are encrypted under one and the same nonce.

With one keystream for all, x_e is a fixed function of x, and the retrained attacker wins as it does against
every keyless method. It shows that the attacker is strong and that fresh nonces are what protects.
Keyed DDM refuses to do this; the control goes around it, through the networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_core.attacks.one_training import one_training
from ddm_core.attacks.protocol import Outcome, Target
from ddm_core.attacks.recognition import Obfuscate, train_recogniser
from ddm_core.evaluation import as_float
from ddm_core.keys import haar_rotations, nonce_stream
from ddm_core.obfuscators.keyed_ddm import KeyedDdm

NONCES = 4  # the whole control is repeated under so many nonces, each reused for every photo


def nonce_reuse(target: Target) -> Outcome:
    """Train and try the retrained attacker on photos that all share one keystream of the victim's."""
    nonces = nonce_stream(target.params.seed, f"{target.name}/nonce_reuse", NONCES)
    rankings = [_attack_one_nonce(target, nonce) for nonce in nonces]
    return Outcome(target.test.labels.repeat(NONCES), torch.cat(rankings))


def _attack_one_nonce(target: Target, nonce: bytes) -> Tensor:
    obfuscate = under_one_nonce(target, nonce)
    recogniser = train_recogniser(
        target.train.images,
        target.train.labels,
        len(target.train.identities),
        # One fixed keystream is learned fast: a third of the training is enough to win.
        one_training(target.params, 3),
        f"{target.name}/nonce_reuse/{nonce.hex()}",
        target.device,
        obfuscate,
    )
    return recogniser.rank(obfuscate(as_float(target.test.images).to(target.device)))


def under_one_nonce(target: Target, nonce: bytes) -> Obfuscate:
    """Return a function that encrypts every photo as the victim would under `nonce`."""
    victim = target.victim
    if isinstance(victim, KeyedDdm):
        return _around_keyed_ddm(victim, nonce, target)
    return lambda images: victim.encrypt(images, [nonce] * len(images))


def _around_keyed_ddm(victim: KeyedDdm, nonce: bytes, target: Target) -> Obfuscate:
    grid = victim.networks.grid(target.test.images)
    rotation = haar_rotations(victim.master_key, [nonce], grid).to(target.device)

    @torch.no_grad()
    def obfuscate(images: Tensor) -> Tensor:
        return victim.networks.hide(images, rotation.expand(len(images), -1, -1, -1, -1))

    return obfuscate
