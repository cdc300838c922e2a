"""The same photo encrypted twice: nobody without the key can tell that it is the same photo.

The attacker knows the networks. It trains a recogniser to tell photos apart by their encryptions under keys
of its own, embeds pairs of encryptions of photos that it never saw, and says which pairs show one photo.
"""

import numpy
import pytest
import torch
from photo_files import encoded, pixels_of

from ddm_core import rotations
from ddm_core.attacks.recognition import train_recogniser
from ddm_core.metrics import roc_auc
from ddm_core.params import RecogniseParams
from ddm_core.photos.cipher import encrypt_photo
from ddm_core.seeding import make_deterministic, torch_generator

SIDE = 32
KNOWN, UNSEEN = 40, 240
SETTINGS = RecogniseParams(epochs=40, batch_size=20, learning_rate=2e-3, threads=1, seed=0)


@pytest.fixture(scope="module")
def photos():
    """Smooth random patterns, every one different: uint8 [photos, 1, SIDE, SIDE]."""
    noise = torch.rand(KNOWN + UNSEEN, 1, 5, 5, generator=torch_generator(0, "tests/linkage/photos"))
    smooth = torch.nn.functional.interpolate(noise, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8)


@pytest.fixture
def learn(models, photos):
    """Return the attacker's recogniser for encryptions under the rotations that a function gives."""
    networks = models["grey"].networks

    def learn(drawn):
        def obfuscate(images):
            with torch.no_grad():
                return networks.hide(images, drawn(len(images), networks.grid(images)))

        make_deterministic(SETTINGS.seed, "tests/linkage", SETTINGS.threads)
        known, labels = photos[:KNOWN], torch.arange(KNOWN)
        return train_recogniser(known, labels, KNOWN, SETTINGS, "tests/linkage", "cpu", obfuscate)

    return learn


def linked(recogniser, first, second):
    """Return how well pairs of one photo are told from pairs of two: AUC, and its 95 % interval."""
    one, other = recogniser.embed(first), recogniser.embed(second)
    scores = torch.cat([(one * other).sum(1), (one * other.roll(1, 0)).sum(1)]).double().numpy()
    return roc_auc(scores, numpy.arange(2 * len(first)) < len(first))


def files(photos, model, ring):
    """The pictures that `ddm encrypt` makes, without their code band."""
    hidden = [
        pixels_of(encrypt_photo(encoded(photo[0].numpy()), model, ring))[:SIDE, :SIDE] for photo in photos
    ]
    return torch.from_numpy(numpy.stack(hidden))[:, None].float() / 255


def test_an_attacker_cannot_link_encryptions_under_two_nonces_or_two_keys(
    *, learn, models, photos, ring, other_ring
):
    draws = torch_generator(0, "tests/linkage/rotations")
    recogniser = learn(lambda images, grid: rotations.random_unit(images, grid, draws))
    once, again, under_another_key = (
        files(photos[KNOWN:], models["grey"], each) for each in (ring, ring, other_ring)
    )
    for other in (again, under_another_key):
        _, (low, high) = linked(recogniser, once, other)
        # Nonces are fresh in every run: one in twenty would miss the interval itself.
        assert low - 0.05 < 0.5 < high + 0.05
        assert high - low < 0.15, "the test could not tell"


def test_the_same_attacker_links_photos_whose_nonce_was_reused(learn, models, photos):
    networks = models["grey"].networks
    draws = torch_generator(0, "tests/linkage/reused")
    rotation = rotations.random_unit(1, networks.grid(photos[:1]), draws)
    recogniser = learn(lambda images, _: rotation.expand(images, -1, -1, -1, -1))
    noise = torch.randn(UNSEEN, 1, SIDE, SIDE, generator=torch_generator(0, "tests/linkage/noise"))
    with torch.no_grad():
        hidden = networks.hide(photos[KNOWN:].float() / 255, rotation.expand(UNSEEN, -1, -1, -1, -1))
    area, (low, _) = linked(recogniser, hidden, (hidden + 0.02 * noise).clamp(0, 1))
    assert low > 0.9, area
