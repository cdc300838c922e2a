"""Attackers see colour: people who differ in hue alone are told apart, unless keyed DDM hides them."""

import dataclasses

import pytest
import torch
from started_networks import started_networks

from ddm_core.attacks.attackers import ATTACK
from ddm_core.attacks.protocol import Target
from ddm_core.attacks.recognition import train_recogniser
from ddm_core.channel import luma
from ddm_core.data.shards import PhotoSet
from ddm_core.evaluation import as_float, evaluation_key
from ddm_core.metrics import psnr_db, wilson_interval
from ddm_core.obfuscators.classical import P3, Identity, Mosaic
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.store import Description
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training import train

SIDE = 18  # fits no grid, so that x_e is larger than the photo
HUES = {"Ada": (160, 80, 80), "José": (60, 130, 80), "王芳": (90, 100, 170)}  # all of luma 102 to 105


def photo_set(per_person, name):
    """Each person is a centred square of one hue on grey, with noise."""
    draws = torch_generator(0, f"tests/colour_attackers/{name}")
    labels = torch.arange(len(HUES)).repeat_interleave(per_person)
    images = torch.full((len(labels), 3, SIDE, SIDE), 103.0)
    images[:, :, 4:14, 4:14] = torch.tensor(list(HUES.values())).float()[labels, :, None, None]
    images += 8 * torch.randn(images.shape, generator=draws)
    keys = tuple(f"{name} {index}" for index in range(len(labels)))
    return PhotoSet(images.clamp(0, 255).byte(), labels, tuple(HUES), keys)


@pytest.fixture(scope="module")
def target(attack_params):
    learning = dataclasses.replace(attack_params, epochs=20, inversion_steps=80, encryptions_per_photo=8)
    known = photo_set(10, "train")
    make_deterministic(0, "tests/colour_attackers", threads=1)
    recogniser = train_recogniser(known.images, known.labels, len(HUES), learning, "tests", "cpu")

    def target(victim, attacker=None):
        make_deterministic(0, "tests/colour_attackers/target", threads=1)
        return Target(
            name="tests",
            victim=victim,
            attacker=attacker or victim,
            train=known,
            test=photo_set(5, "test"),
            recogniser=recogniser,
            params=learning,
            device="cpu",
        )

    return target


@pytest.fixture(scope="module")
def keyed_networks(keyed_ddm_params):
    make_deterministic(0, "tests/colour_attackers/keyed", threads=1)
    networks = started_networks(Description(keyed_ddm_params, 3, SIDE))
    params = dataclasses.replace(keyed_ddm_params, steps=60, batch_size=8)
    train(
        networks, photo_set(10, "train").images, params, "tests", lambda _: None, goal=training_goal(networks)
    )
    return networks.eval().requires_grad_(False)


@pytest.fixture
def keyed(target, keyed_networks):
    keys = (evaluation_key(0, owner) for owner in ("victim", "attacker"))
    return target(*(KeyedDdm(keyed_networks, key, SIDE) for key in keys))


def accuracy(outcome):
    return (outcome.predictions == outcome.labels).double().mean().item()


def at_chance(outcome):
    right, n = int((outcome.predictions == outcome.labels).sum()), len(outcome.labels)
    low, high = wilson_interval(right, n)
    return low - 0.05 <= 1 / len(HUES) <= high + 0.05


def test_people_of_one_brightness_are_told_apart_by_their_hue(target):
    photos = as_float(photo_set(5, "test").images)
    brightness = luma(photos)[:, :, 4:14, 4:14].mean(dim=(1, 2, 3)) * 255
    assert brightness.max() - brightness.min() < 8
    assert accuracy(ATTACK["clean"](target(Identity()))) == 1.0


@pytest.mark.parametrize("victim", [Mosaic(4), P3(10, 90)], ids=repr)
def test_the_retrained_attacker_reads_the_hue_that_baselines_leave(target, victim):
    assert accuracy(ATTACK["retrained"](target(victim))) > 0.9


def test_the_inversion_attacker_rebuilds_colours(target):
    outcome = ATTACK["inversion"](target(Mosaic(2)))
    assert outcome.reconstructions.shape == outcome.originals.shape
    grey = luma(outcome.originals).expand_as(outcome.originals)
    assert (
        psnr_db(outcome.reconstructions, outcome.originals).mean() > psnr_db(grey, outcome.originals).mean()
    )
    assert accuracy(outcome) > 0.9


@pytest.mark.parametrize("attacker", ["clean", "retrained", "inversion", "wrong_key"])
def test_keyed_ddm_keeps_every_attacker_at_chance(keyed, attacker):
    outcome = ATTACK[attacker](keyed)
    assert len(outcome.labels) == 15 * 8
    assert at_chance(outcome)
    if outcome.reconstructions is not None:
        assert outcome.hidden.shape[-2:] == (24, 24)
        assert outcome.reconstructions.shape == outcome.originals.shape


def test_control_with_one_nonce_for_all_the_same_attacker_wins(keyed):
    assert accuracy(ATTACK["nonce_reuse"](keyed)) > 0.9
