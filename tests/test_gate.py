"""The gate passes a model only on evidence, and says in one line what is not good enough."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.gate import CHANNELS, beats, judge, mean_psnr_db
from ddm_core.params import GateParams

GATE = GateParams(
    attackers=("clean", "retrained", "wrong_key"),
    max_worst_case_top1_upper95=0.08,
    min_psnr_db=32.0,
    min_psnr_db_jpeg75=31.0,
    min_psnr_db_resize50=28.0,
    min_recognition_top1=0.97,
)
GOOD = {
    "method": "keyed_ddm",
    "decrypts": True,
    "attacks": {
        "clean": {"top1": 0.02, "ci95": [0.01, 0.04], "n": 1280},
        "retrained": {"top1": 0.03, "ci95": [0.02, 0.05], "n": 1280},
        "wrong_key": {"top1": 0.02, "ci95": [0.01, 0.04], "n": 1280},
    },
    "worst_case": {"attacker": "retrained", "top1": 0.03, "ci95": [0.02, 0.05]},
    "not_applicable": {},
    "utility": {
        channel: {"psnr_db": psnr, "ssim": 0.95, "recognition_top1": 0.99, "ci95": [0.97, 1.0], "n": 320}
        for channel, psnr in zip(CHANNELS, (33.0, 32.0, 29.0), strict=True)
    },
}


def changed(path, value):
    evidence = copy.deepcopy(GOOD)
    *folders, last = path
    place = evidence
    for step in folders:
        place = place[step]
    place[last] = value
    return evidence


def without(*path):
    evidence = copy.deepcopy(GOOD)
    *folders, last = path
    place = evidence
    for step in folders:
        place = place[step]
    del place[last]
    return evidence


def failed(evidence):
    return [check.name for check in judge(evidence, GATE).checks if not check.passed]


def test_a_model_that_withstands_every_attack_and_restores_photos_passes():
    verdict = judge(GOOD, GATE)
    assert verdict.passed
    assert verdict.failures == ""


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        (("worst_case", "ci95"), [0.02, 0.0801], "worst_case_top1_upper95"),
        (("decrypts",), False, "decrypts"),
        (("utility", "png", "psnr_db"), 31.99, "psnr_db_png"),
        (("utility", "jpeg75", "psnr_db"), 30.99, "psnr_db_jpeg75"),
        (("utility", "resize50", "psnr_db"), 27.99, "psnr_db_resize50"),
        (("utility", "png", "recognition_top1"), 0.96, "recognition_top1_png"),
        (("utility", "jpeg75", "recognition_top1"), 0.96, "recognition_top1_jpeg75"),
        (("utility", "resize50", "recognition_top1"), 0.96, "recognition_top1_resize50"),
    ],
)
def test_one_figure_beyond_its_limit_fails_that_check_alone(path, value, check):
    assert failed(changed(path, value)) == [check]


def test_a_figure_exactly_at_its_limit_passes():
    evidence = changed(("utility", "png", "psnr_db"), 32.0)
    evidence["worst_case"]["ci95"] = [0.02, 0.08]
    assert judge(evidence, GATE).passed


def test_the_upper_bound_is_judged_and_not_the_accuracy_itself():
    few_encryptions = {"attacker": "retrained", "top1": 0.0, "ci95": [0.0, 0.28]}
    assert failed(changed(("worst_case",), few_encryptions)) == ["worst_case_top1_upper95"]


def test_the_failure_is_told_with_figure_limit_and_attacker():
    verdict = judge(changed(("worst_case", "ci95"), [0.9, 0.95]), GATE)
    assert verdict.failures == "worst attacker (retrained): upper 95 % bound 95.0 %, more than 8.0 %"


@pytest.mark.parametrize(
    ("path", "check", "words"),
    [
        (("worst_case",), "worst_case_top1_upper95", "no evidence of its accuracy"),
        (("attacks", "retrained"), "attacker_retrained", "attacker retrained: no evidence that it was tried"),
        (("utility", "jpeg75"), "psnr_db_jpeg75", "PSNR after jpeg75: no evidence"),
        (("decrypts",), "decrypts", "no evidence that a receiver can restore photos"),
    ],
)
def test_missing_evidence_fails_in_its_own_words(path, check, words):
    verdict = judge(without(*path), GATE)
    assert check in [check.name for check in verdict.checks if not check.passed]
    assert words in verdict.failures


def test_no_evidence_at_all_fails_every_check():
    verdict = judge({}, GATE)
    assert not any(check.passed for check in verdict.checks)


def test_an_attacker_that_does_not_apply_needs_no_figures():
    evidence = without("attacks", "wrong_key")
    evidence["not_applicable"] = {"wrong_key": "this method has no key"}
    assert judge(evidence, GATE).passed


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "33", True, [33.0]])
def test_what_is_not_a_finite_number_is_no_evidence(value):
    assert "psnr_db_png" in failed(changed(("utility", "png", "psnr_db"), value))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_evidence_out_of_shape_fails_and_never_crashes(junk):
    for part in ("attacks", "worst_case", "utility", "not_applicable", "decrypts"):
        evidence = changed((part,), junk)
        assert judge(evidence, GATE).passed in (True, False)
        if part in ("attacks", "worst_case", "utility"):
            assert not judge(evidence, GATE).passed


def with_gain(decibels):
    evidence = copy.deepcopy(GOOD)
    for channel in CHANNELS:
        evidence["utility"][channel]["psnr_db"] += decibels
    return evidence


@pytest.mark.parametrize(
    ("gain", "wins"), [(0.2, True), (0.1, True), (0.09, False), (0.0, False), (-1, False)]
)
def test_a_challenger_wins_by_the_demanded_gain_in_mean_psnr(gain, wins):
    better, reason = beats(with_gain(gain), GOOD, 0.1)
    assert better is wins
    assert f"{mean_psnr_db(GOOD):.2f} dB" in reason


def test_a_champion_without_figures_gives_way():
    assert beats(GOOD, {}, 0.1) == (True, "the present champion has no measured figures")


def test_a_challenger_without_figures_never_wins():
    assert beats(without("utility", "png"), GOOD, 0.1)[0] is False


@given(st.floats(0, 5), st.floats(0, 5))
def test_two_models_never_beat_each_other(first, second):
    forwards, _ = beats(with_gain(first), with_gain(second), 0.1)
    backwards, _ = beats(with_gain(second), with_gain(first), 0.1)
    assert not (forwards and backwards)
