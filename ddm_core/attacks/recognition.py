"""The recogniser, and the two recognition attackers.

`clean` (threat model T1): trained on clean photos, tried on obfuscated ones.
`retrained` (T2/T3; McPherson, Shokri and Shmatikov 2016): trained on obfuscated labelled photos, for keyed
methods encrypted afresh every time under the attacker's own keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.attacks.recogniser_training import Lesson, RecognitionSettings, Trial, choose, fit
from ddm_core.attacks.recogniser_training import Obfuscate as Obfuscate  # noqa: PLC0414 - attackers pass one
from ddm_core.evaluation import in_chunks
from ddm_core.keys import nonce_stream
from ddm_core.recognition_networks import RecogniserNetwork
from ddm_core.results import ArchitectureTrial

RANKS = 5  # top-5 is the widest figure that anyone reports
NONCES = 2**32  # as many as a nonce stream holds


@dataclass(frozen=True)
class Recogniser:
    """A trained network that names the person in a picture, and the trials that it was chosen by."""

    network: RecogniserNetwork
    device: str
    architecture: str = "cnn"
    trials: tuple[Trial, ...] = ()

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
    """Train on uint8 photos [n, c, h, w] as `settings` say; each is augmented and then obfuscated.

    With validation photos to choose by, the architecture and its number of epochs are chosen on them, and the
    winner then learns from all photos.

    Raises:
        DdmError: the loss is not finite, or no photos to validate on.
    """
    lesson = Lesson(images, labels, identities, settings, name, device, obfuscate)
    if settings.validation_fraction > 0:
        choice = choose(lesson, settings.epochs)
        network = fit(lesson, choice.architecture, choice.epochs)
        return Recogniser(network, device, choice.architecture, choice.trials)
    architecture = settings.architectures[0]
    return Recogniser(fit(lesson, architecture, settings.epochs), device, architecture)


def outcome_of(recogniser: Recogniser, hidden: Tensor, labels: Tensor) -> Outcome:
    """Return whom the recogniser names in obfuscated test photos [n, c, h, w], and how its rivals did."""
    trials = tuple(
        ArchitectureTrial(
            architecture=trial.architecture,
            epochs=len(trial.scores),
            validation_top1=trial.accuracy,
            test_top1=_accuracy(Recogniser(trial.network, recogniser.device), hidden, labels),
            chosen=trial.architecture == recogniser.architecture,
        )
        for trial in recogniser.trials
    )
    ranking = recogniser.rank(hidden)
    return Outcome(labels, ranking, architecture=recogniser.architecture, trials=trials)


def _accuracy(recogniser: Recogniser, images: Tensor, labels: Tensor) -> float:
    return float((recogniser.recognise(images) == labels).double().mean())


def fresh_encryptions(target: Target, purpose: str) -> Obfuscate:
    """Return a function that obfuscates batches as the attacker: own key, a new nonce every time."""
    nonces = nonce_stream(target.params.seed, f"{target.name}/{purpose}/train", NONCES)

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
        fresh_encryptions(target, "retrained"),
    )
    return outcome_of(recogniser, encrypted.hidden, encrypted.labels)
