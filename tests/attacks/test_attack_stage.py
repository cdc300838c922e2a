"""One cell of the table: measured, not applicable for a reason, or refused; twice the same."""

import dataclasses
import json

import pytest
import torch
from started_networks import started_networks

from ddm_core.checkpoints import WEIGHTS, save_weights, weights_digest
from ddm_core.data.shards import load_photos
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.files import write_json
from ddm_core.metrics import wilson_interval
from ddm_core.networks import RecognitionNetwork
from ddm_core.obfuscators.store import Description, save_obfuscator
from ddm_core.params import RecogniseParams, parse_obfuscator
from ddm_core.results import (
    ATTACKERS,
    PICTURES,
    RESULT,
    AttackResult,
    VerificationFigures,
    read_result,
    write_result,
)
from ddm_core.seeding import make_deterministic
from ddm_core.stages import attack, recognise
from ddm_core.stages.recognise import DESCRIPTION, load_recogniser


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recogniser")
    make_deterministic(0, "tests/recogniser", threads=1)
    save_weights(RecognitionNetwork(1, 5), folder / WEIGHTS)
    write_json(folder / DESCRIPTION, {"channels": 1, "identities": 5})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory, ddm_params, keyed_ddm_params):
    folder = tmp_path_factory.mktemp("models")
    for name, params in {
        "mosaic8": parse_obfuscator({"method": "mosaic", "block": 8}, "tests"),
        "ddm": ddm_params,
        "keyed_ddm": keyed_ddm_params,
    }.items():
        description = Description(params, 1, 32)
        make_deterministic(0, f"tests/{name}", threads=1)
        networks = None if name == "mosaic8" else started_networks(description)
        (folder / name).mkdir()
        save_obfuscator(folder / name, description, networks)
    return folder


@pytest.fixture
def run(attack_params, prepared, models, recogniser, tmp_path):
    def run(obfuscator, attacker, place="result", params=attack_params):
        return attack.run(
            params,
            attacker=attacker,
            prepared=prepared,
            model=models / obfuscator,
            recogniser=recogniser,
            result=tmp_path / place,
        )

    return run


@pytest.mark.parametrize("attacker", [*ATTACKERS, "nonce_reuse"])
def test_the_same_attack_twice_gives_the_same_result_apart_from_its_time(run, tmp_path, attacker):
    first = run("keyed_ddm", attacker, "first")
    torch.rand(3)
    run("keyed_ddm", attacker, "second")
    texts = [json.loads((tmp_path / place / RESULT).read_text()) for place in ("first", "second")]
    for text in texts:
        text.pop("seconds")
    assert texts[0] == texts[1]
    pictures = [tmp_path / place / PICTURES for place in ("first", "second")]
    drawn = attacker in ("inversion", "wrong_key")
    assert [path.exists() for path in pictures] == [drawn, drawn]
    assert not drawn or pictures[0].read_bytes() == pictures[1].read_bytes()
    assert read_result(tmp_path / "first" / RESULT, AttackResult) == first


def test_a_cell_holds_its_accuracy_with_interval_and_what_was_attacked(run, models):
    result = run("keyed_ddm", "wrong_key")
    assert (result.obfuscator, result.attacker, result.applicable) == ("keyed_ddm", "wrong_key", True)
    assert result.n == 5 * 2, "five test photos, two nonces each"
    assert result.ci95 == wilson_interval(round(result.top1 * result.n), result.n)
    assert result.weights_sha256 == weights_digest(models / "keyed_ddm")
    assert 0 < result.psnr_db < 30
    assert result.ssim < 1
    assert result.counts_for_gate
    assert (result.top5, result.chance) == (1.0, 1 / 5), "five people: the five likeliest are everyone"
    assert set(result.identity) == {"recogniser"}
    judged = result.identity["recogniser"]
    assert (judged.n, judged.reconstruction) == (10, result.identity_similarity)
    assert judged.same_person is None, "one test photo of each person makes no pair"
    assert -1 <= judged.mean_face <= 1


def test_the_learning_curve_is_written_and_read_back(run, tmp_path):
    result = run("mosaic8", "learning_curve")
    assert [point.photos_per_person for point in result.curve] == [1, 2, 4, 5, 5, 5]
    assert result.architecture == "cnn"
    assert read_result(tmp_path / "result" / RESULT, AttackResult) == result


def test_verification_figures_are_written_and_read_back(tmp_path):
    figures = VerificationFigures(0.5, 0.02, 0.51, (0.48, 0.54), 0.49, 0.01, 0.001, 6000)
    result = AttackResult("mosaic8", "verification", applicable=True, verification={"linkage": figures})
    write_result(tmp_path / RESULT, result)
    assert read_result(tmp_path / RESULT, AttackResult) == result


def test_a_keyless_obfuscator_is_attacked_once_a_photo(run):
    assert run("mosaic8", "clean").n == 5


def test_the_nonce_reuse_control_does_not_count_for_the_gate(run):
    result = run("keyed_ddm", "nonce_reuse")
    assert result.applicable
    assert not result.counts_for_gate


@pytest.mark.parametrize(
    ("obfuscator", "attacker", "reason"),
    [
        ("mosaic8", "wrong_key", "mosaic has no decryption to try"),
        ("mosaic8", "nonce_reuse", "mosaic has no nonce to reuse"),
        ("ddm", "nonce_reuse", "ddm has no nonce to reuse"),
        (
            "mosaic8",
            "averaging",
            "mosaic has one obfuscation of a photo only, so there is nothing to average",
        ),
        ("ddm", "known_plaintext", "ddm has no secret to learn from known photos"),
        ("ddm", "transfer", "ddm has no other setting to learn from"),
    ],
)
def test_a_cell_that_makes_no_sense_says_why(run, tmp_path, obfuscator, attacker, reason):
    result = run(obfuscator, attacker)
    assert result == read_result(tmp_path / "result" / RESULT, AttackResult)
    assert (result.applicable, result.reason) == (False, reason)
    assert (result.top1, result.ci95, result.n) == (None, None, None)


def test_an_unknown_attacker_is_an_error_with_a_suggestion(run, tmp_path):
    with pytest.raises(DdmError, match="unknown attacker 'retraind'; did you mean 'retrained'"):
        run("mosaic8", "retraind")
    assert not (tmp_path / "result").exists()


def test_a_missing_model_or_recogniser_leaves_no_result(run, models, tmp_path, attack_params, prepared):
    with pytest.raises(DdmError, match=r"obfuscator.json: not found; run the stage that writes it"):
        run("none", "clean")
    with pytest.raises(DdmError, match=r"recogniser.json: not found"):
        attack.run(
            attack_params,
            attacker="clean",
            prepared=prepared,
            model=models / "mosaic8",
            recogniser=tmp_path / "nowhere",
            result=tmp_path / "result",
        )
    assert list(tmp_path.iterdir()) == []


def test_another_seed_attacks_other_encryptions(run, attack_params):
    first = run("keyed_ddm", "wrong_key")
    second = run("keyed_ddm", "wrong_key", params=dataclasses.replace(attack_params, seed=1))
    assert first.psnr_db != second.psnr_db


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.pop("identities"),
        lambda c: c.update(channels=None),
        lambda c: c.update(identities="many"),
        lambda c: c.update(identities=-1),
    ],
)
def test_a_damaged_recogniser_is_one_line(run, recogniser, damage):
    path = recogniser / DESCRIPTION
    whole = path.read_text()
    content = json.loads(whole)
    damage(content)
    write_json(path, content)
    try:
        with pytest.raises(DdmError, match=r"recogniser.json: damaged; run the recognise stage again"):
            run("mosaic8", "clean")
    finally:
        path.write_text(whole)


def test_a_recogniser_of_another_architecture_and_width_is_read_back(prepared, tmp_path):
    params = RecogniseParams(
        epochs=1,
        batch_size=8,
        learning_rate=2e-3,
        threads=1,
        seed=0,
        architectures=("resnet_arcface",),
        width=8,
    )
    result = recognise.run(params, prepared=prepared, recogniser=tmp_path / "judge")
    judge = load_recogniser(tmp_path / "judge", "cpu")
    test = load_photos(prepared, split="test")
    right = (judge.recognise(as_float(test.images)) == test.labels).double().mean()
    assert (judge.architecture, right.item()) == ("resnet_arcface", result.clean_top1)
