"""The learning curve: how accurate the retrained attacker is with fewer labelled photos and less training.

One accuracy says what one attacker reached; the curve says whether a stronger one would reach more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.attacks.recogniser_training import Lesson, choose, fit
from ddm_core.attacks.recognition import Recogniser, fresh_encryptions
from ddm_core.metrics import wilson_interval
from ddm_core.results import CurvePoint

PHOTOS_PER_PERSON = (1, 2, 4)
PARTS_OF_THE_EPOCHS = (4, 2)  # a quarter, a half
MOST_REPEATS = 2  # few photos are gone through more often, or the point would show too few steps instead


def learning_curve(target: Target) -> Outcome:
    """Train the retrained attacker on fewer photos, then for fewer epochs, then on everything.

    Its architecture is chosen once, on all photos in a quarter of the epochs.
    """
    encrypted = encrypt_test_photos(target, "learning_curve")
    params, train = target.params, target.train
    lesson = Lesson(
        images=train.images,
        labels=train.labels,
        identities=len(train.identities),
        settings=params,
        name=f"{target.name}/learning_curve",
        device=target.device,
        obfuscate=fresh_encryptions(target, "learning_curve"),
    )
    architecture = params.architectures[0]
    if params.validation_fraction > 0:
        architecture, _ = choose(lesson, max(1, params.epochs // PARTS_OF_THE_EPOCHS[0]))
    points, rankings = [], []
    for part, epochs in steps_of_the_curve(lesson, params.epochs):
        recogniser = Recogniser(fit(part, architecture, epochs), target.device, architecture)
        rankings.append(recogniser.rank(encrypted.hidden))
        points.append(_point(part, epochs, rankings[-1], encrypted.labels))
    return Outcome(encrypted.labels, rankings[-1], curve=tuple(points), architecture=architecture)


def steps_of_the_curve(lesson: Lesson, epochs: int) -> list[tuple[Lesson, int]]:
    """Return the lessons with their epochs: ever more photos a person, then ever more epochs on all."""
    most = int(lesson.labels.bincount().max())
    fewer = [
        (lesson.part(_first_of_each(lesson.labels, count)), epochs * min(MOST_REPEATS, most // count))
        for count in PHOTOS_PER_PERSON
        if count < most
    ]
    shorter = [(lesson, max(1, epochs // part)) for part in PARTS_OF_THE_EPOCHS]
    return [*fewer, *shorter, (lesson, epochs)]


def _first_of_each(labels: Tensor, count: int) -> Tensor:
    people = range(int(labels.max()) + 1)
    return torch.cat([(labels == person).nonzero().flatten()[:count] for person in people])


def _point(lesson: Lesson, epochs: int, ranking: Tensor, labels: Tensor) -> CurvePoint:
    batch = lesson.settings.batch_size
    in_an_epoch = min(len(lesson.images), max(1, len(lesson.images) // batch) * batch)
    right, n = int((ranking[:, 0] == labels).sum()), len(labels)
    return CurvePoint(
        photos_per_person=int(lesson.labels.bincount().max()),
        epochs=epochs,
        images_seen=epochs * in_an_epoch,
        top1=right / n,
        ci95=wilson_interval(right, n),
        n=n,
    )
