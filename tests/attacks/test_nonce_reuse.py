"""What one nonce for all photos costs, whatever the keyed method."""

import pytest
import torch
from started_networks import started_networks
from weak_ciphers import OneTimePad, accuracy, at_chance, make_target

from ddm_core.attacks.nonce_reuse import NONCES, nonce_reuse, under_one_nonce
from ddm_core.attacks.recognition import retrained
from ddm_core.evaluation import as_float
from ddm_core.keys import KEY_BYTES
from ddm_core.obfuscators.block_scrambling import BlockScrambling
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.store import Description
from ddm_core.obfuscators.stream_cipher import AddmodCipher, XorCipher

VICTIM, ATTACKER = b"v" * KEY_BYTES, b"a" * KEY_BYTES


@pytest.mark.parametrize("cipher", [XorCipher, AddmodCipher])
def test_a_stream_cipher_hides_under_fresh_nonces_and_falls_under_one(cipher):
    target = make_target(cipher(VICTIM), cipher(ATTACKER), epochs=30)
    assert at_chance(retrained(target))
    outcome = nonce_reuse(target)
    assert len(outcome.labels) == 16 * NONCES
    assert accuracy(outcome) > 0.9


def test_scrambled_blocks_under_one_nonce_are_one_puzzle():
    target = make_target(BlockScrambling(4, VICTIM), BlockScrambling(4, ATTACKER), epochs=30)
    assert accuracy(nonce_reuse(target)) > 0.9


def test_a_pad_that_is_fresh_whatever_the_nonce_does_not_fall():
    assert at_chance(nonce_reuse(make_target(OneTimePad(), epochs=6)))


def test_keyed_ddm_is_encrypted_exactly_as_it_would_be_under_that_nonce(keyed_ddm_params):
    networks = started_networks(Description(keyed_ddm_params, 1, 16)).eval()
    target = make_target(KeyedDdm(networks, VICTIM))
    photos, nonce = as_float(target.test.images[:3]), b"repeated one"
    misused = under_one_nonce(target, nonce)(photos)
    for photo, hidden in zip(photos, misused, strict=True):
        honest = KeyedDdm(networks, VICTIM).encrypt(photo[None], [nonce])[0]
        torch.testing.assert_close(hidden, honest, atol=1.01 / 255, rtol=0)  # batches round otherwise


def test_the_misuse_is_the_controls_own_and_marks_no_nonce_as_used(keyed_ddm_params):
    victim = KeyedDdm(started_networks(Description(keyed_ddm_params, 1, 16)).eval(), VICTIM)
    target = make_target(victim)
    photos = as_float(target.test.images[:1])
    under_one_nonce(target, b"repeated one")(photos)
    victim.encrypt(photos, [b"repeated one"])
