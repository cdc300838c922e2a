"""The pretrained attacker: nearest clean photos, its own clean level first, plain words without the extra."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddm_core.attacks import pretrained
from ddm_core.attacks.applicability import DoesNotApplyError
from ddm_core.attacks.face_embedding import NOT_INSTALLED, embed_faces, is_installed
from ddm_core.attacks.pretrained import clean_level, rank_by_nearest
from ddm_core.attacks.protocol import Target
from ddm_core.data.shards import PhotoSet, load_photos
from ddm_core.obfuscators.classical import Identity, Mosaic
from ddm_core.params import FetchParams
from ddm_core.seeding import torch_generator
from ddm_core.stages import fetch, prepare

needs_extra = pytest.mark.skipif(not is_installed(), reason=NOT_INSTALLED)


def vectors_of(count, name, size=3):
    return torch.randn(count, size, generator=torch_generator(0, f"tests/pretrained/{name}"))


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(2, 9), st.integers(1, 4))
def test_people_rank_by_their_nearest_photo(count, people, photos):
    labels = torch.arange(people).repeat(photos)
    gallery, asked = vectors_of(people * photos, "gallery"), vectors_of(count, "asked")
    ranking = rank_by_nearest(asked, gallery, labels, people)
    assert ranking.shape == (count, min(5, people))
    for vector, ranked in zip(asked[:3], ranking[:3], strict=False):
        distance = [min(math.dist(vector, one) for one in gallery[labels == k]) for k in range(people)]
        assert ranked.tolist() == sorted(range(people), key=distance.__getitem__)[:5]


def test_people_without_a_gallery_photo_come_last():
    ranking = rank_by_nearest(torch.zeros(1, 2), torch.ones(2, 2), torch.tensor([1, 3]), 4)
    assert set(ranking[0, :2].tolist()) == {1, 3}


def test_the_clean_level_leaves_out_the_photo_itself_and_people_with_one_photo():
    gallery = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0], [0.05]])
    assert clean_level(gallery, torch.tensor([0, 0, 1, 1, 2, 1])) == pytest.approx(2 / 5)
    assert clean_level(gallery[4:], torch.tensor([0, 1])) == 0.0


def test_without_the_extra_the_attack_does_not_apply_and_says_what_to_install(target, monkeypatch):
    monkeypatch.setattr(pretrained, "is_installed", lambda: False)
    with pytest.raises(DoesNotApplyError) as raised:
        pretrained.pretrained(target(Identity()))
    assert str(raised.value) == "extra pretrained is not installed; pip install '.[pretrained]'"


@needs_extra
def test_photos_that_are_no_faces_make_the_embedding_too_weak_to_count(target):
    with pytest.raises(
        DoesNotApplyError, match=r"too weak to count: it names \d+\.\d% of the clean"
    ) as raised:
        pretrained.pretrained(target(Identity()))
    level = raised.value.clean_level
    assert (level.least, level.strong_enough) == (0.9, False)
    assert level.top1 < 0.9


@needs_extra
@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 40, 40)])
def test_any_photo_has_a_vector_and_the_same_one_every_time(shape):
    photos = torch.rand(shape, generator=torch_generator(0, "tests/pretrained/photos"))
    vectors = embed_faces(photos)
    assert vectors.shape == (2, 128)
    assert vectors.equal(embed_faces(photos))


@needs_extra
def test_real_faces_are_named_when_clean_and_not_under_a_coarse_mosaic(orl, attack_params):
    def attack(victim):
        return pretrained.pretrained(Target("tests", victim, victim, *orl, None, attack_params, "cpu"))

    named = attack(Identity())
    assert (named.predictions == named.labels).double().mean() > 0.95
    assert named.ranking.shape == (len(named.labels), 5)
    assert named.clean_level.strong_enough
    assert named.clean_level.top1 >= named.clean_level.least
    hidden = attack(Mosaic(16))
    assert (hidden.predictions == hidden.labels).double().mean() < 0.5


@pytest.fixture
def target(attack_params):
    def target(victim):
        draws = torch_generator(0, "tests/pretrained/noise")
        images = torch.randint(0, 256, (12, 1, 16, 16), dtype=torch.uint8, generator=draws)
        noise = PhotoSet(images, torch.arange(6).repeat(2), tuple("abcdef"), tuple(map(str, range(12))))
        return Target("tests", victim, victim, noise, noise, None, attack_params, "cpu")

    return target


@pytest.fixture(scope="module")
def orl(prepare_params, tmp_path_factory):
    """Ten of the forty people, 64 pixels a side: the photos to train on and to test on."""
    folder = tmp_path_factory.mktemp("orl")
    fetch.run(FetchParams(source="orl"), raw=folder / "raw")
    params = dataclasses.replace(prepare_params, image_size=64)
    prepare.run(params, raw=folder / "raw", prepared=folder / "prepared")
    return [first_people(load_photos(folder / "prepared", split=split), 10) for split in ("train", "test")]


def first_people(photos, count):
    chosen = (photos.labels < count).nonzero().flatten()
    keys = tuple(photos.keys[place] for place in chosen)
    return PhotoSet(photos.images[chosen], photos.labels[chosen], photos.identities[:count], keys)
