"""The learning curve: how accurate the retrained attacker is with fewer photos or other compute.

One accuracy says what one attacker reached; the curve says whether a stronger one would reach more. Along the
photos every point has taken the same number of steps, half of the attacker's own training; along the compute
every point has all photos, from a quarter of that training to twice and four times it. The longer ones are
run only while the network still gains on its own training photos, so a curve ends where learning does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_core.attacks.lesson import lesson_from
from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.attacks.recogniser_training import Lesson, batches_of, choose, fit, vary
from ddm_core.attacks.recognition import Recogniser, fresh_encryptions
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.metrics import wilson_interval
from ddm_core.results import CurvePoint
from ddm_core.seeding import torch_generator

PHOTOS_PER_PERSON = (1, 2, 4)
SHARES = (1 / 4, 1 / 2, 1)  # of the attacker's own epochs
FEWER_PHOTOS_SHARE = 1 / 2  # of the attacker's own steps, whatever the number of photos
LONGER = (2, 4)  # times the attacker's own epochs, while it gains
MASTERY_PHOTOS = 640  # training photos, varied and obfuscated anew, that tell whether it gains
MASTERED = 0.99  # of them named: nothing is left to learn
CERTAINTY = 2.0  # standard errors that a gain is more than


@dataclass(frozen=True)
class Step:
    """One point to measure: what is learnt from, and for how many epochs."""

    lesson: Lesson
    epochs: int


def learning_curve(target: Target) -> Outcome:
    """Train the retrained attacker on fewer photos, then on all for ever more epochs, while it gains.

    Its architecture is chosen once, on all photos in a quarter of the epochs. The last point, the longest
    training on all photos, is the attacker's result.
    """
    encrypted = encrypt_test_photos(target, "learning_curve")
    params = target.params
    lesson = lesson_from(target, "learning_curve", fresh_encryptions(target, "learning_curve"))
    architecture = params.architectures[0]
    if params.validation_fraction > 0:
        architecture = choose(lesson, _epochs(params.epochs, SHARES[0])).architecture
    points, rankings, masteries = [], [], []

    def measure(step: Step) -> None:
        recogniser = Recogniser(fit(step.lesson, architecture, step.epochs), target.device, architecture)
        rankings.append(recogniser.rank(encrypted.hidden))
        points.append(_point(step, rankings[-1], encrypted.labels))
        if step.epochs >= params.epochs // 2 and step.lesson is lesson:
            masteries.append(mastery(recogniser, lesson))

    for step in steps_of_the_curve(lesson, params.epochs):
        measure(step)
    for step in longer_steps(lesson, params.epochs):
        if not still_gains(masteries):
            break
        measure(step)
    return Outcome(encrypted.labels, rankings[-1], curve=tuple(points), architecture=architecture)


def steps_of_the_curve(lesson: Lesson, epochs: int) -> list[Step]:
    """Return what is always measured: ever more photos a person, then ever more epochs on all."""
    most = int(lesson.labels.bincount().max())
    fewer = [lesson.part(_first_of_each(lesson.labels, count)) for count in PHOTOS_PER_PERSON if count < most]
    steps = FEWER_PHOTOS_SHARE * epochs * batches_of(lesson)
    return [
        *(Step(part, max(1, round(steps / batches_of(part)))) for part in fewer),
        *(Step(lesson, _epochs(epochs, share)) for share in SHARES),
    ]


def longer_steps(lesson: Lesson, epochs: int) -> list[Step]:
    """Return what is measured beyond that, in this order, while the network gains."""
    return [Step(lesson, times * epochs) for times in LONGER]


def still_gains(masteries: list[float]) -> bool:
    """Say whether the last doubling of the epochs let the network master more of its training photos.

    `masteries` are fractions of MASTERY_PHOTOS photos; a gain that chance may explain is none.
    """
    before, after = masteries[-2:]
    mean = (before + after) / 2
    gained = after - before > CERTAINTY * math.sqrt(2 * mean * (1 - mean) / MASTERY_PHOTOS)
    return gained and after < MASTERED


def mastery(recogniser: Recogniser, lesson: Lesson) -> float:
    """Return the fraction of its own training photos, varied and obfuscated anew, that the network names."""
    draws = torch_generator(lesson.settings.seed, f"mastery/{lesson.name}")
    chosen = torch.randint(len(lesson.images), (MASTERY_PHOTOS,), generator=draws)
    named = []
    for part in in_chunks(len(chosen)):
        photos = vary(as_float(lesson.images[chosen[part]]).to(lesson.device), draws, lesson.settings)
        named.append(recogniser.recognise(lesson.obfuscate(photos) if lesson.obfuscate else photos))
    return float((torch.cat(named) == lesson.labels[chosen]).double().mean())


def _epochs(epochs: int, share: float) -> int:
    return max(1, int(share * epochs))


def _first_of_each(labels: Tensor, count: int) -> Tensor:
    people = range(int(labels.max()) + 1)
    return torch.cat([(labels == person).nonzero().flatten()[:count] for person in people])


def _point(step: Step, ranking: Tensor, labels: Tensor) -> CurvePoint:
    lesson = step.lesson
    in_an_epoch = min(len(lesson.images), batches_of(lesson) * lesson.settings.batch_size)
    right, n = int((ranking[:, 0] == labels).sum()), len(labels)
    return CurvePoint(
        photos_per_person=int(lesson.labels.bincount().max()),
        epochs=step.epochs,
        images_seen=step.epochs * in_an_epoch,
        top1=right / n,
        ci95=wilson_interval(right, n),
        n=n,
    )
