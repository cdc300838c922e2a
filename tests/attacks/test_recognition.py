"""Recognisers: what they are made of, how the best is chosen, and what is refused."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from ddm_core.attack_params import ARCHITECTURES, AttackParams
from ddm_core.attacks import recogniser_training
from ddm_core.attacks.recogniser_training import Lesson, Trial, choose, fit, split_for_validation, validate
from ddm_core.attacks.recognition import outcome_of, train_recogniser
from ddm_core.augmentation import augment_strongly
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.recognition_networks import ARCFACE_MARGIN, ARCFACE_SCALE, ARCHITECTURE, arcface_loss
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.strict import parse

PEOPLE, PHOTOS, SIDE = 4, 6, 16


def photos(name="train"):
    """Each person is a bright bar at an own place, with noise."""
    draws = torch_generator(0, f"tests/recognition/{name}")
    labels = torch.arange(PEOPLE).repeat_interleave(PHOTOS)
    images = torch.full((len(labels), 1, SIDE, SIDE), 100.0)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4, :] += 60
    return (images + 8 * torch.randn(images.shape, generator=draws)).clamp(0, 255).byte(), labels


@pytest.fixture
def settings(attack_params):
    return dataclasses.replace(attack_params, epochs=12)


@pytest.fixture
def lesson(settings):
    def lesson(obfuscate=None, **changes):
        make_deterministic(0, "tests/recognition", threads=1)
        images, labels = photos()
        return Lesson(
            images, labels, PEOPLE, dataclasses.replace(settings, **changes), "tests", "cpu", obfuscate
        )

    return lesson


def scramble(images):
    """Move every pixel elsewhere, always to the same place."""
    order = torch.randperm(SIDE * SIDE, generator=torch_generator(0, "tests/scramble"))
    return images.flatten(1)[:, order].view_as(images)


# Networks


def test_every_architecture_of_the_parameters_exists():
    assert tuple(ARCHITECTURE) == ARCHITECTURES


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 33)])
def test_an_architecture_scores_every_person_and_embeds_the_face(name, channels, side):
    network = ARCHITECTURE[name].build(channels, 7, 24).eval()
    images = torch.rand(2, channels, side, side)
    assert network(images).shape == (2, 7)
    assert network.embed(images).shape[0] == 2
    assert network.embed(images).ndim == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contrast_and_brightness_do_not_matter_to_a_recogniser(name):
    network = ARCHITECTURE[name].build(1, 7, 24).eval()
    images = torch.rand(3, 1, 32, 32)
    assert torch.allclose(network(images), network(images * 0.5 + 0.3), atol=0.1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_learns_to_tell_people_apart(lesson, name):
    known = lesson()
    network = fit(known, name, known.settings.epochs)
    images, labels = photos("test")
    assert (network(as_float(images)).argmax(1) == labels).double().mean() > 0.9


def test_arcface_scores_are_scaled_cosines():
    network = ARCHITECTURE["resnet_arcface"].build(1, 7, 24).eval()
    images = torch.rand(5, 1, 16, 16)
    faces, people = F.normalize(network.embed(images)), F.normalize(network.directions)
    assert torch.allclose(network(images), ARCFACE_SCALE * faces @ people.T, atol=1e-5)


def test_arcface_loss_adds_its_margin_to_the_true_persons_angle():
    angles = torch.tensor([[0.3, 1.2], [1.0, 0.4]])
    labels = torch.tensor([0, 0])
    pushed = angles.clone()
    pushed[:, 0] += ARCFACE_MARGIN
    expected = F.cross_entropy(ARCFACE_SCALE * pushed.cos(), labels)
    assert torch.allclose(arcface_loss(ARCFACE_SCALE * angles.cos(), labels), expected, atol=1e-4)


def test_arcface_loss_never_rewards_a_larger_angle():
    angles = torch.linspace(0.01, math.pi - 0.01, 200)
    scores = ARCFACE_SCALE * torch.stack([angles.cos(), torch.zeros(200)], 1)
    losses = torch.stack([arcface_loss(score[None], torch.tensor([0])) for score in scores])
    assert (losses.diff() > 0).all()


# Training


@pytest.mark.parametrize("stronger", [False, True])
def test_the_same_training_gives_the_same_network(lesson, stronger):
    first, second = (fit(lesson(stronger_augmentation=stronger), "cnn", 2).state_dict() for _ in range(2))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step(lesson):
    steps = iter(range(100))

    def break_down(images):
        return images * (math.nan if next(steps) == 4 else 1.0)

    with pytest.raises(DdmError, match=r"recogniser tests: the loss is not finite at step 5; lower"):
        fit(lesson(break_down), "cnn", 3)


def test_stronger_augmentation_varies_each_photo_on_its_own_and_never_mirrors():
    images = torch.zeros(64, 1, 32, 32)
    images[:, :, :, :8] = 0.8
    varied = augment_strongly(images, torch_generator(0, "tests/augment"))
    assert varied.shape == images.shape
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert len({tuple(photo.flatten().tolist()) for photo in varied}) > 60
    assert (varied[..., 1].mean((1, 2)) > varied[..., -2].mean((1, 2))).all()


# Choosing


def test_photos_to_validate_on_are_never_trained_on(lesson):
    whole = lesson(validation_fraction=0.3)
    kept, held_back = split_for_validation(whole)
    assert sorted([*kept.tolist(), *held_back.tolist()]) == list(range(PEOPLE * PHOTOS))
    assert whole.labels[held_back].bincount().tolist() == [2] * PEOPLE


def test_a_person_with_one_photo_is_trained_on_and_one_with_two_on_both_sides(lesson):
    whole = lesson(validation_fraction=0.9)
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    few = dataclasses.replace(whole, labels=labels, images=whole.images[:6])
    kept, held_back = split_for_validation(few)
    assert labels[kept].bincount().tolist() == [1, 1, 1]
    assert labels[held_back].bincount().tolist() == [0, 1, 2]


def test_nobody_with_a_second_photo_is_an_error(lesson):
    whole = lesson(validation_fraction=0.5)
    single = dataclasses.replace(whole, labels=torch.arange(PEOPLE), images=whole.images[:PEOPLE])
    with pytest.raises(DdmError, match="nobody has a second training photo to validate on"):
        split_for_validation(single)


@pytest.mark.parametrize(
    ("accuracies", "winner", "epochs"),
    [
        ([[0.5, 0.9, 0.88], [0.9, 0.91, 0.91]], "cnn", 3),  # as good within a standard error: the first
        ([[0.1, 0.2, 0.1], [0.6, 0.9, 0.4]], "resnet_arcface", 2),
        ([[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]], "cnn", 3),
    ],
)
def test_the_first_architecture_wins_unless_another_is_clearly_better(
    lesson, monkeypatch, accuracies, winner, epochs
):
    whole = lesson(architectures=("cnn", "resnet_arcface"), validation_fraction=0.5)
    network = ARCHITECTURE["cnn"].build(1, PEOPLE, 24)
    trials = {
        name: Trial(name, tuple((accuracy, 0.0) for accuracy in row), network)
        for name, row in zip(whole.settings.architectures, accuracies, strict=True)
    }
    monkeypatch.setattr(
        recogniser_training, "try_architecture", lambda lesson, held_back, name, epochs: trials[name]
    )
    choice = choose(whole, 3)
    assert (choice.architecture, choice.epochs) == (winner, epochs)
    assert [trial.architecture for trial in choice.trials] == ["cnn", "resnet_arcface"]


def test_training_stops_when_validation_gains_nothing_for_a_while(lesson):
    def blank(images):
        return torch.full_like(images, 0.5)

    whole = lesson(blank, validation_fraction=0.3, patience_epochs=2)
    kept, held_back = split_for_validation(whole)
    trial = recogniser_training.try_architecture(whole.part(kept), whole.part(held_back), "cnn", 12)
    assert 3 <= len(trial.scores) <= 12
    best = trial.scores.index(max(trial.scores))
    assert len(trial.scores) in (best + 3, 12)


def test_validation_leaves_the_network_in_training(lesson):
    whole = lesson()
    network = ARCHITECTURE["cnn"].build(1, PEOPLE, 24).train()
    accuracy, likelihood = validate(network, whole)
    assert network.training
    assert 0 <= accuracy <= 1
    assert likelihood < 0


def test_a_fixed_permutation_of_the_pixels_hides_nothing_from_the_best_of_two(settings):
    make_deterministic(0, "tests/recognition", threads=1)
    strong = dataclasses.replace(
        settings,
        epochs=16,
        architectures=("cnn", "resnet_arcface"),
        validation_fraction=0.3,
        patience_epochs=12,
    )
    images, labels = photos()
    trained = train_recogniser(images, labels, PEOPLE, strong, "tests", "cpu", scramble)
    unseen, people = photos("test")
    assert trained.architecture in strong.architectures
    hidden = scramble(as_float(unseen))
    assert (trained.recognise(hidden) == people).double().mean() > 0.9
    trials = {trial.architecture: trial for trial in outcome_of(trained, hidden, people).trials}
    assert tuple(trials) == strong.architectures, "the loser is reported too"
    assert [trial.chosen for trial in trials.values()].count(True) == 1
    assert trials[trained.architecture].chosen
    assert trials[trained.architecture].validation_top1 > 0.9
    assert trials[trained.architecture].test_top1 > 0.7


# What comes out


def test_a_ranking_starts_with_who_is_recognised_and_embeddings_have_length_one(lesson, settings):
    whole = lesson()
    trained = train_recogniser(whole.images, whole.labels, PEOPLE, settings, "tests", "cpu")
    ranking = trained.rank(as_float(whole.images))
    assert ranking.shape == (len(whole.labels), PEOPLE), "all four, for there are not five"
    assert ranking.sort(1)[0].equal(torch.arange(PEOPLE).expand_as(ranking))
    assert ranking[:, 0].equal(trained.recognise(as_float(whole.images)))
    embedded = trained.embed(as_float(whole.images))
    assert torch.allclose(embedded.norm(dim=1), torch.ones(len(embedded)), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": []}, "architectures is empty; known: cnn, resnet_arcface"),
        ({"architectures": ["cn"]}, "unknown 'cn'; did you mean 'cnn'"),
        ({"architectures": ["cnn", "resnet_arcface"]}, "need validation photos"),
        ({"patience_epochs": 3}, "need validation photos"),
        ({"patience_epochs": -1}, "must not be negative"),
        ({"validation_fraction": 1.0}, "must lie in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(attack_params, changes, message):
    with pytest.raises(DdmError, match=message):
        parse({**dataclasses.asdict(attack_params), **changes}, AttackParams, "tests")
