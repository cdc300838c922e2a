"""How much of a person is in a reconstruction: a figure between references that say what it is worth."""

import dataclasses

import pytest
import torch
from weak_ciphers import LEARNING, make_target

from ddm_core.attacks.face_embedding import NOT_INSTALLED, is_installed
from ddm_core.attacks.identity import identity_similarities
from ddm_core.attacks.protocol import Outcome
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.obfuscators.classical import Identity
from ddm_core.params import AttackParams
from ddm_core.seeding import torch_generator
from ddm_core.strict import parse


@pytest.fixture(scope="module")
def target():
    return make_target(Identity())


def judged(target, rebuilt):
    originals = as_float(target.test.images).repeat(len(rebuilt) // len(target.test.images), 1, 1, 1)
    return identity_similarities(target, Outcome(reconstructions=rebuilt, originals=originals))


def test_two_photos_of_one_person_are_more_alike_than_of_two_people_or_the_mean_face(target):
    figures = judged(target, as_float(target.test.images))["recogniser"]
    assert figures.same_person > figures.mean_face > figures.different_people


def test_a_perfect_reconstruction_is_one_and_the_mean_face_is_worth_the_mean_face(target):
    photos = as_float(target.test.images)
    perfect = judged(target, photos)["recogniser"]
    assert perfect.reconstruction == pytest.approx(1.0, abs=1e-5)
    assert perfect.others == pytest.approx(perfect.different_people, abs=1e-5)
    mean = as_float(target.train.images).mean(0, keepdim=True).expand_as(photos).contiguous()
    nothing = judged(target, mean)["recogniser"]
    assert nothing.reconstruction == pytest.approx(nothing.mean_face, abs=1e-5)
    assert nothing.others == pytest.approx(nothing.reconstruction, abs=1e-3), "it is as like anybody else"


def test_references_are_of_pairs_of_clean_test_photos(target):
    vectors, labels = target.recogniser.embed(as_float(target.test.images)), target.test.labels
    pairs = [(i, j) for i in range(len(labels)) for j in range(i)]
    figures = judged(target, as_float(target.test.images))["recogniser"]
    for same, found in ((True, figures.same_person), (False, figures.different_people)):
        cosines = [vectors[i] @ vectors[j] for i, j in pairs if bool(labels[i] == labels[j]) == same]
        assert found == pytest.approx(float(torch.stack(cosines).mean()), abs=1e-5)


def test_every_encryption_is_judged_and_one_test_photo_a_person_makes_no_pair_of_one_person(target):
    twice = as_float(target.test.images).repeat(2, 1, 1, 1)
    assert judged(target, twice)["recogniser"].n == 32
    first = [int((target.test.labels == person).nonzero()[0]) for person in range(4)]
    test = dataclasses.replace(
        target.test, images=target.test.images[first], labels=target.test.labels[first]
    )
    alone = judged(dataclasses.replace(target, test=test), as_float(test.images))["recogniser"]
    assert alone.same_person is None
    assert alone.different_people is not None


@pytest.mark.skipif(not is_installed(), reason=NOT_INSTALLED)
def test_an_embedding_of_others_judges_one_reconstruction_of_each_photo(target):
    params = dataclasses.replace(target.params, identity_embeddings=("recogniser", "dlib_resnet"))
    case = dataclasses.replace(target, params=params)
    noise = torch.rand(32, 1, 16, 16, generator=torch_generator(0, "tests/identity"))
    figures = judged(case, noise)
    assert (figures["recogniser"].n, figures["dlib_resnet"].n) == (32, 16)
    assert figures["dlib_resnet"].reconstruction < figures["dlib_resnet"].same_person


def test_without_its_extra_an_embedding_is_left_out(target, monkeypatch):
    monkeypatch.setattr("ddm_core.attacks.identity.is_installed", lambda: False)
    params = dataclasses.replace(target.params, identity_embeddings=("recogniser", "dlib_resnet"))
    case = dataclasses.replace(target, params=params)
    assert set(judged(case, as_float(target.test.images))) == {"recogniser"}


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (["recogniser", "dlib"], "identity_embeddings: unknown 'dlib'"),
        (["dlib_resnet"], "identity_embeddings lacks 'recogniser'; add it"),
    ],
)
def test_unknown_and_missing_judges_are_refused(embeddings, message):
    with pytest.raises(DdmError, match=message):
        parse(dataclasses.asdict(LEARNING) | {"identity_embeddings": embeddings}, AttackParams, "tests")
