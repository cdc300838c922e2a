"""Inversion and decryption with a wrong key, against methods with secret randomness."""

import pytest
from weak_ciphers import OneTimePad, accuracy, at_chance, make_target

from ddm_core.attacks.inversion import inversion
from ddm_core.attacks.wrong_key import wrong_key
from ddm_core.evaluation import as_float
from ddm_core.keys import KEY_BYTES
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.block_scrambling import BlockScrambling
from ddm_core.obfuscators.differential_privacy import DpPix
from ddm_core.obfuscators.stream_cipher import AddmodCipher, XorCipher

VICTIM, ATTACKER = b"v" * KEY_BYTES, b"a" * KEY_BYTES


def gain_over_the_mean_photo(target, outcome):
    mean = as_float(target.train.images).mean(0, keepdim=True).expand_as(outcome.originals)
    return (psnr_db(outcome.reconstructions, outcome.originals) - psnr_db(mean, outcome.originals)).mean()


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
