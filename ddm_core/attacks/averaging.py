"""The averaging attacker: several encryptions of one photo under fresh nonces, averaged.

A person posts one photo more than once, or a service encrypts it again for every friend. Independent noise
of zero mean shrinks with the root of their number, and a photo that shines through it appears (the reason why
privacy budgets add up, Dwork et al. 2006). The recogniser is trained on such averages made under the
attacker's own key.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_core.attacks.lesson import lesson_from
from ddm_core.attacks.protocol import Outcome, Target
from ddm_core.attacks.recogniser_training import Trial, choose, fit
from ddm_core.attacks.recognition import Obfuscate, Recogniser, fresh_encryptions, outcome_of
from ddm_core.evaluation import encrypt_photos

ENCRYPTIONS = 8  # of one photo, in one average
FEWER_EPOCHS = 2  # half as many: every average costs ENCRYPTIONS encryptions
CHOOSING = 4  # a quarter of the epochs chooses the architecture


def averaging(target: Target) -> Outcome:
    """Train a recogniser on averages and try it on averages of the test photos' encryptions."""
    hidden, labels = _averaged_test_photos(target)
    params, lesson = target.params, lesson_from(target, "averaging", _fresh_averages(target))
    architecture, trials = params.architectures[0], tuple[Trial, ...]()
    if params.validation_fraction > 0:
        choice = choose(lesson, max(1, params.epochs // CHOOSING))
        architecture, trials = choice.architecture, choice.trials
    network = fit(lesson, architecture, max(1, params.epochs // FEWER_EPOCHS))
    return outcome_of(Recogniser(network, target.device, architecture, trials), hidden, labels)


def mean_of_encryptions(hidden: Tensor) -> Tensor:
    """Return the averages [n, c, h, w] of encryptions [ENCRYPTIONS n, c, h, w]: all n photos, then again."""
    return hidden.float().view(ENCRYPTIONS, -1, *hidden.shape[1:]).mean(dim=0)


def _averaged_test_photos(target: Target) -> tuple[Tensor, Tensor]:
    """Return averages of the test photos, no nonce in two of them, and the labels.

    There are as many of each photo as other attackers get encryptions.
    """
    params, repeats = target.params, target.params.encryptions_per_photo
    averages = []
    for number in range(repeats):
        name = f"{target.name}/averaging/test/{number}"
        encrypted = encrypt_photos(target.victim, target.test, ENCRYPTIONS, params.seed, name, target.device)
        averages.append(mean_of_encryptions(encrypted.hidden))
    return torch.cat(averages), target.test.labels.repeat(repeats)


def _fresh_averages(target: Target) -> Obfuscate:
    encrypt = fresh_encryptions(target, "averaging")

    def obfuscate(images: Tensor) -> Tensor:
        # bf16 is a grey level off at most and halves the time that the training data takes
        with torch.autocast(target.device, torch.bfloat16):
            return mean_of_encryptions(encrypt(images.repeat(ENCRYPTIONS, 1, 1, 1)))

    return obfuscate
