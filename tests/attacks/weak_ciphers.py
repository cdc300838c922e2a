"""People who are easily told apart, and ciphers of which it is known whether they hide them."""

import dataclasses
from dataclasses import dataclass, field

import torch

from ddm_core.attacks.protocol import Target
from ddm_core.attacks.recognition import train_recogniser
from ddm_core.data.shards import PhotoSet
from ddm_core.metrics import wilson_interval
from ddm_core.obfuscators.pixel_bytes import from_bytes, to_bytes
from ddm_core.obfuscators.stream_cipher import XorCipher
from ddm_core.params import AttackParams
from ddm_core.seeding import make_deterministic, torch_generator

PEOPLE = ("Ada", "Björn", "José", "王芳")
SIDE = 16
LEARNING = AttackParams(
    epochs=20,
    batch_size=8,
    learning_rate=2e-3,
    inversion_steps=80,
    inversion_learning_rate=2e-3,
    encryptions_per_photo=8,
    threads=1,
    seed=0,
)


def photo_set(per_person, name):
    """Each person is a bright bar at an own place, with noise."""
    draws = torch_generator(0, f"tests/weak_ciphers/{name}")
    labels = torch.arange(len(PEOPLE)).repeat_interleave(per_person)
    images = 100 + 8 * torch.randn(len(labels), 1, SIDE, SIDE, generator=draws)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4, :] += 60
    keys = tuple(f"{name} {number}" for number in range(len(labels)))
    return PhotoSet(images.clamp(0, 255).byte(), labels, PEOPLE, keys)


def make_target(victim, attacker=None, others=None, **settings):
    """Return the victim under attack, beside a recogniser that knows the people's clean photos."""
    make_deterministic(0, "tests/weak_ciphers", threads=1)
    train = photo_set(8, "train")
    return Target(
        name="tests",
        victim=victim,
        attacker=attacker or victim,
        train=train,
        test=photo_set(4, "test"),
        recogniser=train_recogniser(train.images, train.labels, len(PEOPLE), LEARNING, "tests", "cpu"),
        params=dataclasses.replace(LEARNING, **settings),
        device="cpu",
        others=others or {},
    )


def accuracy(outcome):
    return (outcome.predictions == outcome.labels).double().mean().item()


def at_chance(outcome):
    """Whether the 95 % interval, a little widened, contains chance."""
    right, n = int((outcome.predictions == outcome.labels).sum()), len(outcome.labels)
    low, high = wilson_interval(right, n)
    return low - 0.05 <= 1 / len(PEOPLE) <= high + 0.05


@dataclass(frozen=True)
class OneTimePad:
    """XOR with random bytes that are never used again: hides everything (Shannon 1949)."""

    pad: torch.Generator = field(default_factory=lambda: torch_generator(0, "tests/one-time pad"))

    def encrypt(self, images, nonces):
        pixels = to_bytes(images)
        return from_bytes(pixels ^ torch.randint(256, pixels.shape, generator=self.pad).byte())

    def with_key(self, master_key):
        return OneTimePad(torch_generator(0, master_key.hex()))


@dataclass(frozen=True)
class DeafXor:
    """A stream cipher that neglects its nonce: one keystream for all photos."""

    master_key: bytes = field(repr=False)

    def encrypt(self, images, nonces):
        return XorCipher(self.master_key).encrypt(images, [bytes(12)] * len(images))

    def with_key(self, master_key):
        return DeafXor(master_key)


@dataclass(frozen=True)
class DecoysByNonce:
    """Brightens the places that four bits of the nonce name: who reads the nonce knows which bar is real."""

    def encrypt(self, images, nonces):
        brighter = torch.zeros_like(images)
        for image, nonce in zip(brighter, nonces, strict=True):
            for place in range(len(PEOPLE)):
                image[:, 4 * place : 4 * place + 4, :] = 60 / 255 * (nonce[0] >> place & 1)
        return from_bytes(to_bytes(images + brighter))

    def with_key(self, master_key):
        return self
