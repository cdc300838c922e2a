"""Verification: pairs after the protocol of LFW, of unknown people; it wins where something is left."""

import dataclasses
from collections import Counter

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddm_core.attacks.applicability import DoesNotApplyError
from ddm_core.attacks.protocol import Target
from ddm_core.attacks.verification import _split_people, verification
from ddm_core.attacks.verification_pairs import FOLDS, MOST_PAIRS, draw_pairs
from ddm_core.data.shards import PhotoSet
from ddm_core.evaluation import evaluation_key
from ddm_core.obfuscators.classical import Identity, Mosaic
from ddm_core.seeding import make_deterministic, numpy_generator, torch_generator

SIDE = 16

# Pairs

sizes = st.lists(st.integers(2, 7), min_size=2, max_size=6)


def drawn(photos_per_person, repeats=1, seed=0):
    labels = numpy.repeat(numpy.arange(len(photos_per_person)), photos_per_person)
    return labels, draw_pairs(labels, repeats, numpy_generator(seed, "tests/verification/pairs"))


@settings(deadline=None)
@given(sizes, st.integers(1, 3), st.integers(0, 5))
def test_half_the_pairs_show_one_person_and_half_show_two(photos_per_person, repeats, seed):
    labels, pairs = drawn(photos_per_person, repeats, seed)
    assert ((labels[pairs.first] == labels[pairs.second]) == pairs.same).all()
    assert pairs.same.sum() == len(pairs.same) / 2
    assert (pairs.first != pairs.second).all(), "a photo is paired with itself"


@settings(deadline=None)
@given(sizes, st.integers(0, 5))
def test_a_photo_is_as_often_in_matched_pairs_as_in_mismatched_ones(photos_per_person, seed):
    _, pairs = drawn(photos_per_person, 2, seed)
    for member in (pairs.first, pairs.second):
        assert Counter(member[pairs.same].tolist()) == Counter(member[~pairs.same].tolist())


@settings(deadline=None)
@given(sizes, st.integers(1, 3))
def test_a_matched_pair_stands_as_often_as_asked_and_in_one_fold(photos_per_person, repeats):
    _, pairs = drawn(photos_per_person, repeats)
    folds = {}
    for first, second, fold in zip(
        pairs.first[pairs.same], pairs.second[pairs.same], pairs.fold[pairs.same], strict=True
    ):
        folds.setdefault(frozenset((int(first), int(second))), []).append(int(fold))
    assert all(len(places) == repeats and len(set(places)) == 1 for places in folds.values())


def test_people_of_one_size_give_every_matched_pair():
    _, pairs = drawn([10] * 8)
    assert len(pairs.same) == 2 * 8 * 45
    assert set(pairs.fold) == set(range(FOLDS))


def test_there_are_at_most_six_thousand_pairs_with_equal_shares_of_the_people():
    labels, pairs = drawn([100, 50, 60])
    assert len(pairs.same) == MOST_PAIRS
    shares = Counter(labels[pairs.first[pairs.same]].tolist())
    assert max(shares.values()) - min(shares.values()) <= 1


def test_nobody_has_more_matched_pairs_than_all_others_together():
    labels, pairs = drawn([40, 3, 3])
    assert Counter(labels[pairs.first[pairs.same]].tolist()) == {0: 6, 1: 3, 2: 3}


def test_the_same_draws_give_the_same_pairs():
    assert (drawn([5] * 4)[1].second == drawn([5] * 4)[1].second).all()
    assert (drawn([5] * 4)[1].second != drawn([5] * 4, seed=1)[1].second).any()


# The attacker


def photo_set(people, per_person, name):
    """Each person is a coarse pattern of their own, with noise."""
    draws = torch_generator(0, f"tests/verification/{name}")
    patterns = torch.randint(0, 2, (people, 1, 4, 4), generator=torch_generator(0, "tests/verification"))
    labels = torch.arange(people).repeat_interleave(per_person)
    coarse = 80.0 + 100 * patterns[labels].repeat_interleave(4, 2).repeat_interleave(4, 3)
    images = coarse + 8 * torch.randn(coarse.shape, generator=draws)
    keys = tuple(f"{name} {place}" for place in range(len(labels)))
    return PhotoSet(images.clamp(0, 255).byte(), labels, tuple(f"person {i}" for i in range(people)), keys)


@dataclasses.dataclass(frozen=True)
class FreshNoise:
    """Pictures that hold nothing of the photo: noise that follows from key and nonce."""

    key: bytes

    def with_key(self, master_key):
        return FreshNoise(master_key)

    def encrypt(self, images, nonces):
        seeds = [int.from_bytes(nonce, "big") ^ self.key[0] for nonce in nonces]
        rows = [
            torch.rand(image.shape, generator=torch.Generator().manual_seed(seed % 2**63))
            for image, seed in zip(images, seeds, strict=True)
        ]
        return (torch.stack(rows) * 255).round() / 255


@pytest.fixture
def target(attack_params):
    def target(victim, attacker=None, people=16, per_person=4):
        make_deterministic(0, "tests/verification/target", threads=1)
        params = dataclasses.replace(attack_params, epochs=8, encryptions_per_photo=4)
        return Target(
            name="tests",
            victim=victim,
            attacker=attacker or victim,
            train=photo_set(people, per_person, "train"),
            test=photo_set(people, 2, "test"),
            recogniser=None,  # it knows the people of the pairs, so this attacker does without
            params=params,
            device="cpu",
        )

    return target


@pytest.mark.parametrize("victim", [Identity(), Mosaic(4)], ids=repr)
def test_people_never_seen_are_told_apart_where_the_obfuscation_leaves_their_pattern(target, victim):
    outcome = verification(target(victim))
    assert outcome.ranking is None
    assert outcome.labels is None
    assert set(outcome.verification) == {"obfuscated", "linkage"}
    for figures in outcome.verification.values():
        assert figures.auc > 0.9
        assert figures.accuracy > 0.8
        assert figures.eer < 0.2
        assert figures.tar_at_far_1e3 <= figures.tar_at_far_1e2
        assert figures.pairs == 2 * 3 * 15


def test_where_nothing_is_left_the_area_is_a_half(target):
    victim, attacker = (FreshNoise(evaluation_key(0, owner)) for owner in ("victim", "attacker"))
    for figures in verification(target(victim, attacker)).verification.values():
        low, high = figures.auc_ci95
        assert low - 0.05 <= 0.5 <= high + 0.05
        assert figures.pairs == 2 * 3 * 15 * 4, "each pair once with every encryption"


def test_the_people_of_the_pairs_are_neither_trained_on_nor_chosen_by(target):
    people = _split_people(target(Identity()))
    groups = [set(photos.labels.tolist()) for photos in (people.training, people.validation, people.unknown)]
    assert [len(group) for group in groups] == [11, 2, 3]
    assert len(set.union(*groups)) == 16
    assert len(people.unknown.keys) == 3 * 6, "photos of both splits"


def test_a_photo_that_is_there_twice_is_taken_once(target):
    case = target(Identity())
    twice = dataclasses.replace(
        case, test=dataclasses.replace(case.train, keys=tuple(f"again {key}" for key in case.train.keys))
    )
    people = _split_people(twice)
    assert sum(len(photos.keys) for photos in (people.training, people.validation, people.unknown)) == 16 * 4


def test_with_too_few_people_the_attack_does_not_apply_and_says_what_it_takes(target):
    with pytest.raises(DoesNotApplyError, match="too few people to verify: it takes three groups"):
        verification(target(Identity(), people=5))
