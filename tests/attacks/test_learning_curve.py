"""The learning curve grows with photos and epochs, and says what each point cost."""

import dataclasses

import pytest
import torch
from weak_ciphers import OneTimePad

from ddm_core.attacks.learning_curve import learning_curve, still_gains
from ddm_core.attacks.protocol import Target
from ddm_core.attacks.recognition import Recogniser
from ddm_core.data.shards import PhotoSet
from ddm_core.metrics import wilson_interval
from ddm_core.obfuscators.classical import Mosaic
from ddm_core.recognition_networks import ARCHITECTURE
from ddm_core.seeding import make_deterministic, torch_generator

PEOPLE = ("Ada", "Björn", "José", "王芳")


def photo_set(per_person, name):
    draws = torch_generator(0, f"tests/learning_curve/{name}")
    labels = torch.arange(len(PEOPLE)).repeat_interleave(per_person)
    images = torch.full((len(labels), 1, 16, 16), 100.0)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4, :] += 60
    images += 8 * torch.randn(images.shape, generator=draws)
    keys = tuple(f"{name} {index}" for index in range(len(labels)))
    return PhotoSet(images.clamp(0, 255).byte(), labels, PEOPLE, keys)


@pytest.fixture(scope="module")
def target(attack_params):
    def target(photos_per_person=8, **changes):
        params = dataclasses.replace(attack_params, **{"epochs": 8, **changes})
        train = photo_set(photos_per_person, "train")
        make_deterministic(0, "tests/learning_curve", threads=1)
        judge = Recogniser(ARCHITECTURE["cnn"].build(1, len(PEOPLE), 24).eval(), "cpu")
        victim = Mosaic(4)
        return Target("tests", victim, victim, train, photo_set(4, "test"), judge, params, "cpu")

    return target


@pytest.fixture(scope="module")
def outcome(target):
    return learning_curve(target())


def test_points_go_from_few_photos_to_all_and_from_few_epochs_to_all(outcome):
    points = [(point.photos_per_person, point.epochs, point.images_seen) for point in outcome.curve]
    # with fewer photos as many steps as all photos take in half of the eight epochs: 16 of up to 8 photos
    assert points[:3] == [(1, 16, 4 * 16), (2, 16, 8 * 16), (4, 8, 16 * 8)]
    assert points[3:6] == [(8, 2, 32 * 2), (8, 4, 32 * 4), (8, 8, 32 * 8)]
    assert points[6:] == [(8, 16, 32 * 16), (8, 32, 32 * 32)][: len(points) - 6]


def test_longer_training_is_tried_only_while_the_last_doubling_gained():
    assert still_gains([0.2, 0.5])
    assert not still_gains([0.5, 0.5])
    assert not still_gains([0.025, 0.031]), "chance explains that"
    assert not still_gains([0.99, 1.0]), "nothing is left to master"


def test_a_curve_that_climbs_is_followed_until_all_is_learnt(target):
    outcome = learning_curve(target(learning_rate=1e-4))
    epochs = [point.epochs for point in outcome.curve if point.photos_per_person == 8]
    assert epochs == [2, 4, 8, 16]
    assert outcome.curve[-1].top1 > outcome.curve[4].top1


def test_where_nothing_can_be_learnt_training_goes_on_no_longer(target):
    case = target(epochs=4)
    pad = OneTimePad()
    outcome = learning_curve(dataclasses.replace(case, victim=pad, attacker=pad))
    assert [point.epochs for point in outcome.curve if point.photos_per_person == 8] == [1, 2, 4]


def test_the_last_point_is_the_attackers_result(outcome):
    last = outcome.curve[-1]
    right = int((outcome.predictions == outcome.labels).sum())
    assert (last.top1, last.n, last.ci95) == (right / 16, 16, wilson_interval(right, 16))
    assert last.top1 > 0.9
    assert outcome.architecture == "cnn"


def test_with_three_photos_a_person_there_is_no_point_at_four(target):
    outcome = learning_curve(target(3, epochs=1))
    assert [point.photos_per_person for point in outcome.curve] == [1, 2, 3, 3, 3]


def test_one_architecture_makes_the_whole_curve(target):
    outcome = learning_curve(
        target(architectures=("resnet_arcface", "cnn"), validation_fraction=0.25, epochs=1)
    )
    assert outcome.architecture in ("resnet_arcface", "cnn")
