"""LFW's own pairs, from fetch to attack: pairs.txt over its photos, or lfw.bin beside a set to train on."""

import io
import json
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from ddm_core.attacks.protocol import Target
from ddm_core.attacks.verification import _split_others
from ddm_core.attacks.verification_protocol import load_verification_set
from ddm_core.cli import main
from ddm_core.data.lfw_protocol import read_pairs
from ddm_core.data.manifest import read_manifest
from ddm_core.data.shards import load_photos
from ddm_core.errors import DdmError
from ddm_core.obfuscators.classical import Identity
from ddm_core.seeding import numpy_generator

PARAMS = Path(__file__).parents[2] / "params.yaml"
FOLDS = 10
IN_PAIRS = [f"Pat_{number}" for number in range(10)]
OTHERS = [f"Oda_{number}" for number in range(12)]
PHOTOS = 4


def face(person, number):
    """A JPEG: a coarse pattern of the person's own, with noise."""
    pattern = numpy_generator(0, f"tests/verification_protocol/{person}").integers(0, 2, (4, 4, 1))
    noise = numpy_generator(0, f"tests/verification_protocol/{person}/{number}").normal(0, 8, (64, 64, 3))
    pixels = (60 + 120 * pattern.repeat(16, 0).repeat(16, 1) + noise).clip(0, 255).astype(numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


def lay_people(root, people):
    for person in people:
        (root / person).mkdir(parents=True)
        for number in range(1, PHOTOS + 1):
            (root / person / f"{person}_{number:04}.jpg").write_bytes(face(person, number))


def write_pairs(path):
    """pairs.txt: ten folds, each a person of its own in its matched pairs."""
    lines = [f"{FOLDS}\t2"]
    for fold, person in enumerate(IN_PAIRS):
        others = [IN_PAIRS[(fold + step) % FOLDS] for step in (1, 2)]
        lines += [f"{person}\t1\t2", f"{person}\t3\t4"]
        lines += [f"{person}\t{place}\t{other}\t{place}" for place, other in enumerate(others, start=3)]
    path.write_text("\n".join([*lines, ""]))


def write_lfw_bin(path):
    """The same pairs as InsightFace stores them: pictures and flags."""
    import pickle

    write_pairs(path.with_suffix(".txt"))
    pairs = [pair for fold in read_pairs(path.with_suffix(".txt")) for pair in fold]
    names = [name for pair in pairs for name in (pair.first, pair.second)]
    images = [face(name.partition("/")[0], int(name[-8:-4])) for name in names]
    path.write_bytes(pickle.dumps((images, [pair.same for pair in pairs]), protocol=3))
    path.with_suffix(".txt").unlink()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params.yaml, the current one; `change(section, **settings)` changes that."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load(PARAMS.read_text())
    params["prepare"] |= {"image_size": 16}
    params["train"] = {"none": {"method": "none"}}
    params["report"] = {"headline": "none"}
    params["register"]["models"] = {}
    params["recognise"] |= {"epochs": 1, "threads": 1}
    params["attack"] |= {"epochs": 8, "threads": 1, "verification_protocol": "lfw"}

    def change(section, **settings):
        params[section] |= settings
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))

    return change


def attack():
    for arguments in (
        ["fetch"],
        ["prepare", "--workers", "1"],
        ["train", "none"],
        ["recognise"],
        ["attack", "none", "verification"],
    ):
        status = main(arguments)
        if status:
            return None
    return json.loads(Path("results/attacks/none/verification/result.json").read_text())


def fetch_lfw(project, people=(*IN_PAIRS, *OTHERS)):
    lay_people(Path("lfw"), people)
    write_pairs(Path("pairs.txt"))
    project("fetch", source="lfw", uri="lfw", lists=["pairs.txt"], digest=None)


def fetch_training_set_and_lfw_bin(project):
    lay_people(Path("people"), OTHERS)
    write_lfw_bin(Path("lfw.bin"))
    project("fetch", source="casia_webface", uri="people", verification="lfw.bin", digest=None)


@pytest.mark.parametrize("fetch", [fetch_lfw, fetch_training_set_and_lfw_bin])
def test_view_2_is_reported_with_its_standard_error(project, capsys, fetch):
    fetch(project)
    result = attack()
    assert result["applicable"]
    for kind in ("obfuscated", "linkage"):
        figures = result["verification"][kind]
        assert figures["pairs"] == 4 * FOLDS
        assert figures["accuracy"] > 0.85
        assert figures["accuracy_standard_error"] == pytest.approx(
            figures["accuracy_deviation"] / FOLDS**0.5, abs=1e-12
        )
    printed = capsys.readouterr().out.splitlines()[-1]
    figures = result["verification"]["obfuscated"]
    accuracy, error = 100 * figures["accuracy"], 100 * figures["accuracy_standard_error"]
    assert f"accuracy {accuracy:.2f} ± {error:.2f} % of 40" in printed


def test_without_pairs_of_lfw_the_attack_says_how_to_get_them(project, capsys):
    lay_people(Path("people"), OTHERS)
    project("fetch", source="folder", uri="people", digest=None)
    assert attack() is None
    assert "carries no pairs of LFW; name pairs.txt in fetch.lists, or lfw.bin in" in capsys.readouterr().err


def test_a_pair_whose_photo_is_not_there_is_an_error_and_no_smaller_test(project, capsys):
    fetch_lfw(project)
    Path("lfw/Pat_3/Pat_3_0002.jpg").unlink()
    assert attack() is None
    assert "1 of its photos are not among the prepared ones, such as Pat_3/Pat_3_0002.jpg" in (
        capsys.readouterr().err
    )


def test_too_few_people_beside_the_pairs_do_not_apply(project):
    fetch_lfw(project, people=(*IN_PAIRS, *OTHERS[:3]))
    result = attack()
    assert not result["applicable"]
    assert "too few people to verify" in result["reason"]


# The set of pairs


@pytest.fixture
def prepared(project):
    fetch_lfw(project)
    assert main(["fetch"]) == 0
    assert main(["prepare", "--workers", "1"]) == 0
    return Path("data/prepared")


def load(prepared):
    train, test = (load_photos(prepared, split=split) for split in ("train", "test"))
    return train, test, load_verification_set(prepared, train, test)


def test_the_pairs_are_those_of_the_list_in_its_order(prepared):
    train, test, found = load(prepared)
    source_of = {photo.key: photo.source for photo in read_manifest(prepared).photos}
    sources = [source_of[key] for key in train.keys + test.keys]
    folds = read_pairs(Path("pairs.txt"))
    listed = [(pair.first, pair.second, pair.same) for fold in folds for pair in fold]
    places = zip(found.pairs.first, found.pairs.second, found.pairs.same, strict=True)
    assert [(sources[first], sources[second], bool(same)) for first, second, same in places] == listed
    assert found.pairs.fold.tolist() == [fold for fold in range(FOLDS) for _ in range(4)]
    assert {train.identities[label] for label in found.people} == set(IN_PAIRS)


def test_nobody_in_the_pairs_is_trained_on_or_chosen_by(prepared, attack_params):
    train, test, found = load(prepared)
    target = Target("tests", Identity(), Identity(), train, test, None, attack_params, "cpu")
    people = _split_others(target, found)
    training, validation = (
        {train.identities[label] for label in photos.labels.tolist()}
        for photos in (people.training, people.validation)
    )
    assert training | validation == set(OTHERS)
    assert not training & validation


def test_a_list_that_was_changed_after_prepare_is_refused(prepared):
    path = prepared / "protocol/pairs.txt"
    path.write_text(path.read_text().replace("Pat_0\t1\t2", "Pat_0\t1\t3"))
    with pytest.raises(DdmError, match=r"pairs\.txt: missing or changed since ddm prepare; run it again"):
        load(prepared)


def test_pictures_of_lfw_bin_that_cannot_be_read_are_an_error(project):
    fetch_training_set_and_lfw_bin(project)
    content = Path("lfw.bin").read_bytes()
    first = content.index(b"\xff\xd8\xff")
    damaged = content[: first + 200] + bytes(600) + content[first + 800 :]
    Path("lfw.bin").write_bytes(damaged)
    assert main(["fetch"]) == 0
    assert main(["prepare", "--workers", "1"]) == 0
    with pytest.raises(DdmError, match=r"lfw\.bin: pair_0001/a\.jpg: .*corrupt"):
        load(Path("data/prepared"))
