"""The averaging attacker: independent noise averages out, a keystream does not."""

import torch
from weak_ciphers import OneTimePad, accuracy, at_chance, make_target

from ddm_core.attacks.averaging import CHOOSING, ENCRYPTIONS, averaging, mean_of_encryptions
from ddm_core.attacks.recognition import retrained
from ddm_core.keys import KEY_BYTES
from ddm_core.obfuscators.differential_privacy import DpPix
from ddm_core.obfuscators.stream_cipher import XorCipher


def dp_pix(owner):
    """Noise of deviation 0.47 in every square, twice what people differ by."""
    return DpPix(block=4, neighbourhood=16, epsilon=3.0, master_key=owner * KEY_BYTES)


def test_independent_noise_that_hides_one_photo_averages_out():
    target = make_target(dp_pix(b"v"), dp_pix(b"a"))
    averaged, single = accuracy(averaging(target)), accuracy(retrained(target))
    assert averaged > 0.75
    assert averaged > single + 0.15


def test_averages_of_keystreams_tell_nothing():
    target = make_target(XorCipher(b"v" * KEY_BYTES), XorCipher(b"a" * KEY_BYTES))
    outcome = averaging(target)
    assert len(outcome.labels) == 16 * 8, "as many averages of a photo as others get encryptions"
    assert at_chance(outcome)


def test_averages_of_one_time_pads_tell_nothing():
    assert at_chance(averaging(make_target(OneTimePad())))


def test_the_architecture_is_chosen_on_averages_of_photos_held_back():
    target = make_target(
        dp_pix(b"v"), dp_pix(b"a"), architectures=("cnn", "resnet_arcface"), validation_fraction=0.25
    )
    outcome = averaging(target)
    assert {trial.architecture for trial in outcome.trials} == {"cnn", "resnet_arcface"}
    assert {trial.epochs for trial in outcome.trials} == {20 // CHOOSING}
    assert outcome.architecture == next(trial.architecture for trial in outcome.trials if trial.chosen)


def test_an_average_is_over_encryptions_of_one_and_the_same_photo():
    photos = torch.rand(3, 1, 4, 4)
    offsets = torch.linspace(-0.5, 0.5, ENCRYPTIONS).repeat_interleave(3).view(-1, 1, 1, 1)
    encryptions = photos.repeat(ENCRYPTIONS, 1, 1, 1) + offsets
    torch.testing.assert_close(mean_of_encryptions(encryptions), photos)


def test_every_encryption_has_a_nonce_of_its_own():
    class Recording(XorCipher):
        def encrypt(self, images, nonces):
            used.extend((self.master_key, nonce) for nonce in nonces)
            return super().encrypt(images, nonces)

    used = []
    victim, attacker = Recording(b"v" * KEY_BYTES), Recording(b"a" * KEY_BYTES)
    averaging(make_target(victim, attacker, epochs=2, encryptions_per_photo=4))
    assert len(set(used)) == len(used) == 16 * 4 * ENCRYPTIONS + 32 * ENCRYPTIONS
