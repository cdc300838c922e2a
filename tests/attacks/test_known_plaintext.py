"""The known-plaintext attacker: it undoes what its triples determine, and nothing else."""

import pytest
import torch
from weak_ciphers import DeafXor, DecoysByNonce, OneTimePad, accuracy, at_chance, make_target

from ddm_core.attacks.inversion import inversion
from ddm_core.attacks.known_plaintext import (
    KNOWN_ENCRYPTIONS,
    known_plaintext,
    known_triples,
    nonce_signs,
    weighted_bits,
)
from ddm_core.evaluation import as_float
from ddm_core.keys import KEY_BYTES
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.stream_cipher import AddmodCipher, XorCipher


def mean_photo_psnr(target, outcome):
    mean = as_float(target.train.images).mean(0, keepdim=True).expand_as(outcome.originals)
    return psnr_db(mean, outcome.originals).mean()


def test_a_cipher_that_neglects_its_nonce_is_undone():
    target = make_target(DeafXor(b"v" * KEY_BYTES), DeafXor(b"a" * KEY_BYTES))
    outcome = known_plaintext(target)
    assert accuracy(outcome) > 0.9
    assert psnr_db(outcome.reconstructions, outcome.originals).mean() > mean_photo_psnr(target, outcome) + 3
    assert accuracy(inversion(target)) < 0.6, "another key's keystream does not help"


def test_the_nonce_is_read():
    """Without it nobody could tell which bar is the person's."""
    target = make_target(DecoysByNonce())
    assert accuracy(known_plaintext(target)) > 0.8
    assert accuracy(inversion(target)) < 0.6


@pytest.mark.parametrize("cipher", [XorCipher, AddmodCipher])
def test_known_keystreams_do_not_tell_the_next_one(cipher):
    target = make_target(cipher(b"v" * KEY_BYTES))
    outcome = known_plaintext(target)
    assert len(outcome.labels) == 16 * 8
    assert at_chance(outcome)
    assert psnr_db(outcome.reconstructions, outcome.originals).mean() < mean_photo_psnr(target, outcome) + 0.5


def test_a_one_time_pad_stays_one():
    assert at_chance(known_plaintext(make_target(OneTimePad())))


# What it is given


def test_it_knows_every_training_photo_several_times_under_the_victims_key_and_other_nonces():
    victim = XorCipher(b"v" * KEY_BYTES)
    target = make_target(victim, XorCipher(b"a" * KEY_BYTES))
    known = known_triples(target)
    assert known.photo_numbers.bincount().tolist() == [KNOWN_ENCRYPTIONS] * len(target.train.images)
    assert len(known.nonce_bits.unique(dim=0)) == len(known.photos)
    nonces = [bytes_of(bits) for bits in known.nonce_bits]
    torch.testing.assert_close(victim.decrypt(known.hidden, nonces), known.photos, atol=0.5 / 255, rtol=0)


def test_all_bits_of_the_nonces_vary():
    bits = known_triples(make_target(XorCipher(b"v" * KEY_BYTES))).nonce_bits
    assert bits.shape[1] == 96
    assert bits.unique().tolist() == [-1, 1]
    assert bits.mean(0).abs().max() < 0.5


def bytes_of(bits):
    return int("".join("1" if bit > 0 else "0" for bit in bits), 2).to_bytes(12, "big")


def test_nonces_are_read_from_the_highest_bit():
    assert nonce_signs([b"\x80" + bytes(10) + b"\x01"])[0].tolist() == [1] + [-1] * 94 + [1]


def test_bits_of_a_pixel_weigh_half_as_much_from_one_to_the_next():
    assert weighted_bits(torch.tensor([[[[0xA0 / 255]]]])).flatten().tolist() == [1, -0.5, 0.25, -0.125]
