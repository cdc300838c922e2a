"""How one recogniser is trained, and how the best of several is chosen without a look at test photos."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ddm_core.augmentation import augment_strongly
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.networks import place
from ddm_core.recognition_networks import ARCHITECTURE, RecogniserNetwork
from ddm_core.seeding import torch_generator
from ddm_core.training import augment, rate_factor

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

    @property
    def architectures(self) -> tuple[str, ...]:
        """The networks to choose from."""
        ...

    @property
    def validation_fraction(self) -> float:
        """Part of the training photos, of each person, that the choice is made on."""
        ...

    @property
    def patience_epochs(self) -> int:
        """Epochs without gain on those photos before training stops; 0: never."""
        ...

    @property
    def stronger_augmentation(self) -> bool:
        """Whether training photos vary more."""
        ...

    @property
    def width(self) -> int:
        """The network's channels at half size."""
        ...


@dataclass(frozen=True)
class Lesson:
    """What a recogniser learns from: uint8 photos [n, c, h, w] and the people in them, and how it sees them.

    `name` tells this training's draws from others'.
    """

    images: Tensor
    labels: Tensor
    identities: int
    settings: RecognitionSettings
    name: str
    device: str
    obfuscate: Obfuscate | None

    def part(self, chosen: Tensor) -> Lesson:
        """Return the same lesson with only the photos at positions `chosen`."""
        return dataclasses.replace(self, images=self.images[chosen], labels=self.labels[chosen])


@dataclass(frozen=True)
class Trial:
    """How one architecture did on held-back photos after each epoch: accuracy and mean log-likelihood.

    `network` is as the last epoch left it.
    """

    architecture: str
    scores: tuple[tuple[float, float], ...]
    network: RecogniserNetwork

    @property
    def accuracy(self) -> float:
        """The best epoch's."""
        return max(self.scores)[0]


@dataclass(frozen=True)
class Choice:
    """The architecture and the epochs that were chosen, and every trial that they were chosen from."""

    architecture: str
    epochs: int
    trials: tuple[Trial, ...]


def choose(lesson: Lesson, epochs: int) -> Choice:
    """Return the architecture and the epochs for it, found on photos that are held back from training.

    Of two that differ by no more than a standard error the architecture named first wins, and the longer
    training: a few held-back photos tell no more (Breiman, Friedman, Olshen and Stone 1984).

    Raises:
        DdmError: nobody has a photo to hold back.
    """
    kept, held_back = split_for_validation(lesson)
    trials = [
        try_architecture(lesson.part(kept), lesson.part(held_back), name, epochs)
        for name in lesson.settings.architectures
    ]
    best = max(trial.accuracy for trial in trials)
    winner = next(trial for trial in trials if trial.accuracy >= _as_good_as(best, len(held_back)))
    enough = _as_good_as(winner.accuracy, len(held_back))
    last = max(epoch for epoch, (accuracy, _) in enumerate(winner.scores, start=1) if accuracy >= enough)
    return Choice(winner.architecture, last, tuple(trials))


def _as_good_as(accuracy: float, count: int) -> float:
    """Return what lies one standard error below an accuracy on `count` photos."""
    # One success and one failure more: at 100 % of few photos the plain formula claims certainty.
    smoothed = (accuracy * count + 1) / (count + 2)
    return accuracy - math.sqrt(smoothed * (1 - smoothed) / count)


def split_for_validation(lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Return positions of photos to train on and to hold back: at least one of each for every person.

    Raises:
        DdmError: nobody has a second photo.
    """
    draws = torch_generator(lesson.settings.seed, f"validation/{lesson.name}")
    kept, held_back = [], []
    for person in range(lesson.identities):
        photos = (lesson.labels == person).nonzero().flatten()
        photos = photos[torch.randperm(len(photos), generator=draws)]
        wanted = max(1, round(lesson.settings.validation_fraction * len(photos)))
        count = max(0, min(wanted, len(photos) - 1))
        held_back.append(photos[:count])
        kept.append(photos[count:])
    if not sum(map(len, held_back)):
        raise DdmError(
            f"recogniser {lesson.name}: nobody has a second training photo to validate on; "
            "set validation_fraction to 0, with one architecture and patience_epochs 0"
        )
    return torch.cat(kept), torch.cat(held_back)


def try_architecture(lesson: Lesson, held_back: Lesson, architecture: str, epochs: int) -> Trial:
    """Train one architecture and validate it after every epoch, until it gains nothing more."""
    scores: list[tuple[float, float]] = []

    def after_epoch(network: RecogniserNetwork) -> bool:
        scores.append(validate(network, held_back))
        without_gain = len(scores) - 1 - scores.index(max(scores))
        return 0 < lesson.settings.patience_epochs <= without_gain

    network = fit(lesson, architecture, epochs, after_epoch)
    return Trial(architecture, tuple(scores), network)


@torch.no_grad()
def validate(network: RecogniserNetwork, lesson: Lesson) -> tuple[float, float]:
    """Return the accuracy and the mean log-likelihood on the lesson's photos, obfuscated afresh."""
    network.eval()
    photos = as_float(lesson.images).to(lesson.device)
    seen = [
        lesson.obfuscate(photos[part]) if lesson.obfuscate else photos[part]
        for part in in_chunks(len(photos))
    ]
    scores = torch.cat([network(chunk).float() for chunk in seen])
    network.train()
    labels = lesson.labels.to(lesson.device)
    accuracy = (scores.argmax(1) == labels).double().mean()
    return accuracy.item(), -F.cross_entropy(scores, labels).item()


def batches_of(lesson: Lesson) -> int:
    """Return the steps in an epoch: whole batches, or one of all photos where they are fewer."""
    return len(lesson.images) // lesson.settings.batch_size or 1


def vary(photos: Tensor, draws: torch.Generator, settings: RecognitionSettings) -> Tensor:
    """Return the photos [n, c, h, w] as training sees them before they are obfuscated."""
    return (augment_strongly if settings.stronger_augmentation else augment)(photos, draws)


def fit(
    lesson: Lesson,
    architecture: str,
    epochs: int,
    after_epoch: Callable[[RecogniserNetwork], bool] | None = None,
) -> RecogniserNetwork:
    """Return a network trained on the lesson: photos augmented, then obfuscated, as an attacker would.

    After each epoch `after_epoch` gets the network and says whether to stop.

    Raises:
        DdmError: the loss is not finite.
    """
    settings, where, count = lesson.settings, lesson.device, len(lesson.images)
    draws = torch_generator(settings.seed, f"recognise/{lesson.name}")
    loss_of = ARCHITECTURE[architecture].loss
    built = ARCHITECTURE[architecture].build(lesson.images.shape[1], lesson.identities, settings.width)
    network = place(built, where).train()
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=0.05, fused=True)
    batches = batches_of(lesson)
    steps = epochs * batches
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(step, steps, steps // 10)
    )
    for step in tqdm(range(steps), desc=f"recogniser {lesson.name}", unit="step", mininterval=1.0):
        if step % batches == 0:
            order = torch.randperm(count, generator=draws)
        chosen = order[step % batches * settings.batch_size :][: settings.batch_size]
        photos = vary(as_float(lesson.images[chosen]).to(where), draws, settings)
        seen = lesson.obfuscate(photos) if lesson.obfuscate else photos
        with torch.autocast(where, torch.bfloat16):
            scores = network(seen.contiguous(memory_format=torch.channels_last))
        loss = loss_of(scores, lesson.labels[chosen].to(where))
        if not torch.isfinite(loss):
            raise DdmError(
                f"recogniser {lesson.name}: the loss is not finite at step {step + 1}; lower learning_rate"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if after_epoch and (step + 1) % batches == 0 and after_epoch(network):
            break
    return network.eval()
