"""Inversion and decryption with a wrong key, against methods with secret randomness."""

import pytest
import torch
from weak_ciphers import OneTimePad, accuracy, at_chance, make_target

from ddm_core.attacks import inversion as inversion_module
from ddm_core.attacks.inversion import hold_one_back, inversion, train_inversion
from ddm_core.attacks.wrong_key import wrong_key
from ddm_core.evaluation import as_float
from ddm_core.keys import KEY_BYTES
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.block_scrambling import BlockScrambling
from ddm_core.obfuscators.differential_privacy import DpPix
from ddm_core.obfuscators.stream_cipher import AddmodCipher, XorCipher
from ddm_core.seeding import torch_generator

VICTIM, ATTACKER = b"v" * KEY_BYTES, b"a" * KEY_BYTES


def gain_over_the_mean_photo(target, outcome):
    mean = as_float(target.train.images).mean(0, keepdim=True).expand_as(outcome.originals)
    return (psnr_db(outcome.reconstructions, outcome.originals) - psnr_db(mean, outcome.originals)).mean()


def test_training_ends_when_photos_held_back_gain_nothing_and_gives_the_best_network(monkeypatch):
    looks = []

    class Recording(inversion_module._Watch):
        def is_over(self, network, step):
            over = super().is_over(network, step)
            looks.append((step, self._best, over))
            return over

    monkeypatch.setattr(inversion_module, "_Watch", Recording)
    target = make_target(OneTimePad(), inversion_steps=5000, inversion_patience_steps=180)
    network = train_inversion(target)
    steps, errors, overs = zip(*looks, strict=True)
    assert overs[-1]
    assert steps[-1] < 1500, "a pad gives nothing to learn beyond the mean photo"
    assert list(errors) == sorted(errors, reverse=True)
    assert not network.training


def test_one_photo_of_everybody_who_has_several_is_held_back():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    kept, held_back = hold_one_back(labels, torch_generator(0, "tests/hold back"))
    assert sorted([*kept.tolist(), *held_back.tolist()]) == list(range(6))
    assert labels[held_back].tolist() == [0, 2]
    kept, held_back = hold_one_back(torch.arange(3), torch_generator(0, "tests/hold back"))
    assert (len(kept), len(held_back)) == (2, 1)


def test_inversion_takes_weak_noise_away():
    target = make_target(DpPix(4, 16, 8.0, VICTIM), DpPix(4, 16, 8.0, ATTACKER), inversion_steps=160)
    outcome = inversion(target)
    assert len(outcome.labels) == 16 * 8, "secret noise: several encryptions of each photo"
    assert gain_over_the_mean_photo(target, outcome) > 1
    assert accuracy(outcome) > 0.8


@pytest.mark.parametrize(
    ("victim", "attacker"),
    [(OneTimePad(), None), (XorCipher(VICTIM), XorCipher(ATTACKER))],
    ids=["one-time pad", "stream cipher"],
)
def test_a_keystream_leaves_inversion_the_mean_photo(victim, attacker):
    target = make_target(victim, attacker)
    outcome = inversion(target)
    assert gain_over_the_mean_photo(target, outcome) < 0.5
    assert at_chance(outcome)


@pytest.mark.parametrize(
    "victim", [XorCipher(VICTIM), AddmodCipher(VICTIM), BlockScrambling(2, VICTIM)], ids=repr
)
def test_a_wrong_key_does_not_decrypt(victim):
    target = make_target(victim)
    outcome = wrong_key(target)
    assert outcome.reconstructions.shape == outcome.originals.shape
    assert gain_over_the_mean_photo(target, outcome) < 0
    assert accuracy(outcome) < 0.5
