"""k-same: groups of at least k people, and every photo becomes the average of one of them."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddm_core.checkpoints import CONFIGURATION, WEIGHTS
from ddm_core.data.shards import load_photos
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.obfuscators.k_same import KSame, group_people, make_reference
from ddm_core.obfuscators.store import describe, load_obfuscator
from ddm_core.params import parse_obfuscator
from ddm_core.seeding import torch_generator
from ddm_core.stages import train

NO_NONCES = ()


def faces(people, photos_each, *shape, seed=0):
    """uint8 photos of people who differ more than their photos do, and whose they are."""
    draws = torch_generator(seed, "tests/k same")
    person = torch.randint(40, 216, (people, 1, *shape), generator=draws)
    photos = person + torch.randint(-5, 6, (people, photos_each, *shape), generator=draws)
    return photos.flatten(0, 1).byte(), torch.arange(people).repeat_interleave(photos_each)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(2, 8), st.integers(0, 9))
def test_every_group_has_at_least_k_people_and_fewer_than_two_k(people, k, seed):
    people = max(people, k)
    means = torch.rand(people, 1, 4, 4, generator=torch_generator(seed, "tests/k same/groups"))
    sizes = group_people(means, k).bincount()
    assert sizes.sum() == people
    assert sizes.min() >= k
    assert sizes.max() < 2 * k


def test_people_who_look_alike_share_a_group():
    centres = torch.tensor([0.1, 0.5, 0.9]).repeat(4)
    near = 0.01 * torch.rand(12, generator=torch_generator(0, "tests/k same/alike"))
    groups = group_people((centres + near).view(12, 1, 1, 1), 4)
    pairs = zip(groups.tolist(), centres.tolist(), strict=True)
    assert len(set(pairs)) == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_every_output_is_the_average_of_one_group_and_all_photos_of_a_person_share_it(channels):
    photos, labels = faces(11, 4, channels, 17, 17)
    reference = make_reference(photos, labels, 3)
    hidden = KSame(3, reference).encrypt(as_float(photos), NO_NONCES)
    of_person = [set(reference.groups[labels == person].tolist()) for person in range(11)]
    assert all(len(groups) == 1 for groups in of_person)
    for person in range(11):
        members = [other for other in range(11) if of_person[other] == of_person[person]]
        assert len(members) >= 3
        expected = photos[torch.isin(labels, torch.tensor(members))].double().mean(0) / 255
        shown = hidden[labels == person].double()
        assert (shown - expected).abs().max() < 0.51 / 255
    assert len(hidden.unique(dim=0)) == len(reference.averages) == 3


def test_people_with_more_photos_do_not_outweigh_the_others():
    photos = torch.tensor([0, 0, 0, 200]).byte().view(4, 1, 1, 1).expand(-1, -1, 16, 16)
    reference = make_reference(photos, torch.tensor([0, 0, 0, 1]), 2)
    assert reference.averages.unique().tolist() == [100]


def test_a_photo_never_seen_is_shown_as_its_nearest_neighbours_group():
    photos, labels = faces(8, 3, 1, 16, 16)
    reference = make_reference(photos[:-1], labels[:-1], 2)
    hidden = KSame(2, reference).encrypt(as_float(photos[-1:]), NO_NONCES)
    group = reference.groups[labels[:-1] == 7][0]
    assert hidden.equal(as_float(reference.averages[group : group + 1]))


def test_too_few_people_are_refused():
    with pytest.raises(DdmError, match="k is 4, but the training photos show 3 people; lower k"):
        make_reference(*faces(3, 2, 1, 16, 16), 4)
    with pytest.raises(DdmError, match="k is 1; it must be at least 2"):
        parse_obfuscator({"method": "k_same", "k": 1}, "tests")


def test_images_of_another_shape_are_refused():
    method = KSame(2, make_reference(*faces(4, 2, 1, 16, 16), 2))
    with pytest.raises(DdmError, match=r"shape \[1, 16, 16\], got \[1, 20, 16\]"):
        method.encrypt(torch.zeros(1, 1, 20, 16), NO_NONCES)


def test_the_train_stage_keeps_the_reference_in_the_model_folder(prepared, tmp_path):
    params = parse_obfuscator({"method": "k_same", "k": 2}, "tests")
    places = {"model": tmp_path / "k_same", "history": tmp_path / "history"}
    result = train.run(params, name="k_same", prepared=prepared, **places)
    assert {CONFIGURATION, WEIGHTS} <= {entry.name for entry in places["model"].iterdir()}
    assert json.loads((places["model"] / CONFIGURATION).read_text())["params"] == {"method": "k_same", "k": 2}
    assert (describe(places["model"]).keyed, describe(places["model"]).decrypts) == (False, False)
    again = train.run(params, name="k_same", prepared=prepared, model=tmp_path / "b", history=tmp_path / "c")
    assert again.weights_sha256 == result.weights_sha256

    photos = load_photos(prepared, split="train")
    loaded = load_obfuscator(places["model"])
    hidden = loaded.encrypt(as_float(photos.images), NO_NONCES)
    expected = KSame(2, make_reference(photos.images, photos.labels, 2)).encrypt(
        as_float(photos.images), NO_NONCES
    )
    assert hidden.equal(expected)

    (places["model"] / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(DdmError, match="damaged weights"):
        load_obfuscator(places["model"])


def test_too_few_people_leave_no_model_behind(prepared, tmp_path):
    params = parse_obfuscator({"method": "k_same", "k": 50}, "tests")
    with pytest.raises(DdmError, match="lower k"):
        train.run(params, name="k", prepared=prepared, model=tmp_path / "k", history=tmp_path / "history")
    assert list(tmp_path.iterdir()) == []
