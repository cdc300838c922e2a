"""The attackers win where there is something to win, and stay at chance where there is nothing."""

import dataclasses

import pytest
import torch
from started_networks import started_networks

from ddm_core.attacks.attackers import ATTACK
from ddm_core.attacks.inversion import train_inversion
from ddm_core.attacks.protocol import Target, encrypt_test_photos
from ddm_core.attacks.recognition import train_recogniser
from ddm_core.data.shards import PhotoSet
from ddm_core.evaluation import CHUNK, as_float, evaluation_key, in_chunks
from ddm_core.keys import KEY_BYTES
from ddm_core.metrics import psnr_db, wilson_interval
from ddm_core.obfuscators.classical import Identity, Mosaic
from ddm_core.obfuscators.ddm import Ddm, DdmNetworks
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.store import Description
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.results import ATTACKERS, CONTROLS, LAB_ATTACKERS
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training import train

PEOPLE = ("Ada", "Björn", "José", "王芳")
SIDE = 16


def photo_set(per_person, name, contrast=60):
    """Each person is a bright bar at an own place, with noise: obviously separable."""
    draws = torch_generator(0, f"tests/attackers/{name}")
    labels = torch.arange(len(PEOPLE)).repeat_interleave(per_person)
    images = torch.full((len(labels), 1, SIDE, SIDE), 100.0)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4, :] += contrast
    if contrast:
        images += 8 * torch.randn(images.shape, generator=draws)
    keys = tuple(f"{name} {index}" for index in range(len(labels)))
    return PhotoSet(images.clamp(0, 255).byte(), labels, PEOPLE, keys)


@pytest.fixture(scope="module")
def learning(attack_params):
    """Enough epochs to learn a few bars."""
    return dataclasses.replace(attack_params, epochs=40, inversion_steps=80, encryptions_per_photo=8)


@pytest.fixture(scope="module")
def recogniser(learning):
    make_deterministic(0, "tests/attackers/recogniser", threads=1)
    known = photo_set(8, "train")
    return train_recogniser(known.images, known.labels, len(PEOPLE), learning, "tests", "cpu")


@pytest.fixture
def target(learning, recogniser):
    def target(victim, attacker=None, params=learning, contrast=60):
        make_deterministic(0, "tests/attackers/target", threads=1)
        return Target(
            name="tests",
            victim=victim,
            attacker=attacker or victim,
            train=photo_set(8, "train", contrast),
            test=photo_set(4, "test", contrast),
            recogniser=recogniser,
            params=params,
            device="cpu",
        )

    return target


@pytest.fixture(scope="module")
def keyed_networks(keyed_ddm_params):
    make_deterministic(0, "tests/attackers/keyed", threads=1)
    networks = started_networks(Description(keyed_ddm_params, 1, SIDE))
    params = dataclasses.replace(keyed_ddm_params, steps=60, batch_size=8)
    train(
        networks, photo_set(8, "train").images, params, "tests", lambda _: None, goal=training_goal(networks)
    )
    return networks.eval().requires_grad_(False)


@pytest.fixture
def keyed(target, keyed_networks):
    victim, attacker = (
        KeyedDdm(keyed_networks, evaluation_key(0, owner)) for owner in ("victim", "attacker")
    )
    return target(victim, attacker)


def accuracy(outcome):
    return (outcome.predictions == outcome.labels).double().mean().item()


def at_chance(outcome):
    right, n = int((outcome.predictions == outcome.labels).sum()), len(outcome.labels)
    low, high = wilson_interval(right, n)
    return low - 0.05 <= 1 / len(PEOPLE) <= high + 0.05


def test_every_attacker_that_results_name_exists():
    assert tuple(ATTACK) == ATTACKERS + LAB_ATTACKERS + CONTROLS


# Recognition


def test_the_clean_attacker_wins_where_nothing_is_hidden(target):
    assert accuracy(ATTACK["clean"](target(Identity()))) == 1.0


@pytest.mark.parametrize("victim", [Identity(), Mosaic(4)], ids=repr)
def test_the_retrained_attacker_learns_what_can_be_learnt(target, victim):
    assert accuracy(ATTACK["retrained"](target(victim))) > 0.9


def test_the_retrained_attacker_stays_at_chance_on_constant_pictures(target):
    outcome = ATTACK["retrained"](target(Identity(), contrast=0))
    assert len(outcome.predictions.unique()) == 1, "equal pictures get equal answers"
    assert accuracy(outcome) == 1 / len(PEOPLE)


def test_keyed_ddm_keeps_the_retrained_attacker_at_chance(keyed):
    outcome = ATTACK["retrained"](keyed)
    assert len(outcome.labels) == 16 * 8
    assert at_chance(outcome)


def test_control_with_one_nonce_for_all_the_same_attacker_wins(keyed):
    """So the attacker is strong enough, and fresh nonces are what protects."""
    assert accuracy(ATTACK["nonce_reuse"](keyed)) > 0.9


# Inversion


def test_the_inversion_attacker_rebuilds_what_a_mosaic_leaves(target):
    outcome = ATTACK["inversion"](target(Mosaic(2)))
    assert outcome.reconstructions.shape == outcome.originals.shape == outcome.hidden.shape
    assert outcome.reconstructions.min() >= 0
    assert outcome.reconstructions.max() <= 1
    mean = as_float(photo_set(8, "train").images).mean(0, keepdim=True).expand_as(outcome.originals)
    gained = psnr_db(outcome.reconstructions, outcome.originals) - psnr_db(mean, outcome.originals)
    assert gained.mean() > 2
    assert accuracy(outcome) > 0.9


def test_keyed_ddm_leaves_inversion_nothing_but_the_mean_photo(keyed):
    outcome = ATTACK["inversion"](keyed)
    mean = as_float(photo_set(8, "train").images).mean(0, keepdim=True).expand_as(outcome.originals)
    gained = psnr_db(outcome.reconstructions, outcome.originals) - psnr_db(mean, outcome.originals)
    assert gained.mean() < 1
    assert at_chance(outcome)


# Without the key


def test_a_keyless_methods_public_network_decrypts_for_everyone(target, ddm_params):
    torch.manual_seed(0)
    networks = DdmNetworks(1, 8)
    params = dataclasses.replace(ddm_params, steps=250, batch_size=8)
    train(networks, photo_set(8, "train").images, params, "tests", lambda _: None)
    case = target(Ddm(networks.eval()))
    outcome = ATTACK["wrong_key"](case)
    with torch.no_grad():
        assert outcome.reconstructions.equal(networks.reveal(outcome.hidden).clamp(0, 1))
    assert accuracy(outcome) > 0.9


def test_a_wrong_key_restores_nothing(keyed):
    outcome = ATTACK["wrong_key"](keyed)
    right = keyed.victim.decrypt(outcome.hidden, nonces_of(keyed, "wrong_key"))
    better = psnr_db(right, outcome.originals) - psnr_db(outcome.reconstructions, outcome.originals)
    assert better.min() > 3
    assert accuracy(ATTACK["clean"](keyed)) < 0.6
    assert (keyed.recogniser.recognise(right) == outcome.labels).double().mean() > 0.9
    assert accuracy(outcome) < 0.6


def nonces_of(case, purpose):
    fresh = dataclasses.replace(case, victim=case.victim.with_key(b"n" * KEY_BYTES))
    return encrypt_test_photos(fresh, purpose).nonces


# What an attacker is given


def test_a_keyed_victim_encrypts_every_test_photo_several_times_and_a_keyless_one_once(keyed, target):
    encrypted = encrypt_test_photos(keyed, "count")
    assert len(encrypted.hidden) == len(encrypted.labels) == len(set(encrypted.nonces)) == 16 * 8
    assert encrypted.labels[:16].equal(encrypted.labels[16:32])
    assert encrypted.originals[:16].equal(encrypted.originals[16:32])
    assert not encrypted.hidden[:16].equal(encrypted.hidden[16:32])
    once = encrypt_test_photos(target(Identity()), "count")
    assert len(once.hidden) == 16


def test_the_three_evaluation_keys_differ_and_follow_the_seed():
    keys = {evaluation_key(seed, owner) for seed in (0, 1) for owner in ("victim", "attacker", "wrong")}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {KEY_BYTES}
    assert evaluation_key(0, "victim") == evaluation_key(0, "victim")


def test_no_key_and_no_nonce_is_shown_with_a_target(keyed):
    shown = repr(keyed) + repr(encrypt_test_photos(keyed, "shown"))
    for owner in ("victim", "attacker"):
        assert repr(evaluation_key(0, owner)) not in shown
    assert "nonces" not in shown


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_chunks_cover_every_image_once(count):
    assert [index for part in in_chunks(count) for index in range(count)[part]] == list(range(count))


def test_the_same_attack_trains_the_same_network(target, attack_params):
    networks = [train_inversion(target(Mosaic(4), params=attack_params)).state_dict() for _ in range(2)]
    assert all(networks[0][name].equal(networks[1][name]) for name in networks[0])
