"""The recogniser, and the two recognition attackers.

`clean` (threat model T1): trained on clean photos, tried on obfuscated ones.
`retrained` (T2/T3; McPherson, Shokri and Shmatikov 2016): trained on obfuscated labelled photos, for keyed
methods encrypted afresh every time under the attacker's own keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.keys import nonce_stream
from ddm_core.networks import RecognitionNetwork, place
from ddm_core.seeding import torch_generator
from ddm_core.training import augment, rate_factor

RANKS = 5  # top-5 is the widest figure that anyone reports

Obfuscate = Callable[[Tensor], Tensor]


class RecognitionSettings(Protocol):
    """The settings of one recogniser's training; RecogniseParams and AttackParams both have them."""

    @property
    def epochs(self) -> int:
        """Passes over the training photos."""
        ...

    @property
    def batch_size(self) -> int:
        """Photos in a step."""
        ...

    @property
    def learning_rate(self) -> float:
        """Highest rate of the schedule."""
        ...

    @property
    def seed(self) -> int:
        """Seed of every draw."""
        ...


@dataclass(frozen=True)
class Recogniser:
    """A trained network that names the person in a picture."""

    network: RecognitionNetwork
    device: str

    def recognise(self, images: Tensor) -> Tensor:
        """Return the most likely identity of each image [n, c, h, w] in [0, 1], int64 [n]."""
        return self.rank(images)[:, 0]

    @torch.no_grad()
    def rank(self, images: Tensor) -> Tensor:
        """Return the five most likely identities (all, where there are fewer), int64 [n, up to 5]."""
        ranked = [
            # stable: equal scores rank by identity, on every machine alike
            self.network(images[part].to(self.device)).sort(descending=True, stable=True)[1][:, :RANKS].cpu()
            for part in in_chunks(len(images))
        ]
        return torch.cat(ranked)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Return what the network knows of each face as a vector of length one [n, d]."""
        embedded = [self.network.embed(images[part].to(self.device)).cpu() for part in in_chunks(len(images))]
        return F.normalize(torch.cat(embedded).float())


def train_recogniser(  # noqa: PLR0917 - one line a thing that it trains on
    images: Tensor,
    labels: Tensor,
    identities: int,
    settings: RecognitionSettings,
    name: str,
    device: str,
    obfuscate: Obfuscate | None = None,
) -> Recogniser:
    """Train on uint8 photos [n, c, h, w]: augmented, then obfuscated, as an attacker with the code would."""
    draws = torch_generator(settings.seed, f"recognise/{name}")
    network = place(RecognitionNetwork(images.shape[1], identities), device).train()
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=0.05, fused=True)
    batches = len(images) // settings.batch_size or 1
    steps = settings.epochs * batches
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(step, steps, steps // 10)
    )
    for step in tqdm(range(steps), desc=f"recogniser {name}", unit="step", mininterval=1.0):
        if step % batches == 0:
            order = torch.randperm(len(images), generator=draws)
        chosen = order[step % batches * settings.batch_size :][: settings.batch_size]
        photos = augment(as_float(images[chosen]).to(device), draws)
        seen = obfuscate(photos) if obfuscate else photos
        with torch.autocast(device, torch.bfloat16):
            logits = network(seen.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels[chosen].to(device), label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return Recogniser(network.eval(), device)


def fresh_encryptions(target: Target, purpose: str, count: int) -> Obfuscate:
    """Return a function that obfuscates batches as the attacker: own key, a new nonce every time."""
    nonces = nonce_stream(target.params.seed, f"{target.name}/{purpose}/train", count)

    def obfuscate(images: Tensor) -> Tensor:
        return target.attacker.encrypt(images, [next(nonces) for _ in range(len(images))])

    return obfuscate


def clean(target: Target) -> Outcome:
    """Try the recogniser that knows only clean photos on the obfuscated test photos."""
    encrypted = encrypt_test_photos(target, "clean")
    return Outcome(encrypted.labels, target.recogniser.rank(encrypted.hidden))


def retrained(target: Target) -> Outcome:
    """Train a recogniser on obfuscated photos and try it on the obfuscated test photos."""
    encrypted = encrypt_test_photos(target, "retrained")
    recogniser = train_recogniser(
        target.train.images,
        target.train.labels,
        len(target.train.identities),
        target.params,
        f"{target.name}/retrained",
        target.device,
        fresh_encryptions(target, "retrained", target.params.epochs * len(target.train.images)),
    )
    return Outcome(encrypted.labels, recogniser.rank(encrypted.hidden))
