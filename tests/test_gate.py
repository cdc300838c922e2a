"""The gate passes a model only on evidence, and says in one line what is not good enough."""

import copy
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.gate import Proportion, beats, judge, mean_psnr_db, rise_upper, wilson
from ddm_core.metrics import wilson_interval
from ddm_core.params import AttackerLimit, ChampionParams, ChannelLimit, GateParams, load
from ddm_core.results import ATTACKERS

GATE = GateParams(
    attackers={
        "clean": AttackerLimit(0.08),
        "retrained": AttackerLimit(0.08),
        "wrong_key": AttackerLimit(0.06),
    },
    max_worst_case_top1_upper95=0.08,
    channels={
        "png": ChannelLimit(32.0, 0.97),
        "jpeg75": ChannelLimit(31.0, 0.97),
        "resize50": ChannelLimit(28.0, 0.95),
    },
    champion=ChampionParams(
        min_psnr_gain_db=0.1, max_top1_rise=0.03, max_recognition_fall=0.05, confidence=0.95
    ),
)
CHANNELS = tuple(GATE.channels)
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
        (("utility", "resize50", "recognition_top1"), 0.94, "recognition_top1_resize50"),
        (("attacks", "clean", "ci95"), [0.02, 0.0801], "attacker_clean_top1_upper95"),
        (("attacks", "wrong_key", "ci95"), [0.02, 0.07], "attacker_wrong_key_top1_upper95"),
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
        (
            ("attacks", "retrained"),
            "attacker_retrained_top1_upper95",
            "attacker retrained: no evidence that it was tried",
        ),
        (
            ("attacks", "retrained", "ci95"),
            "attacker_retrained_top1_upper95",
            "retrained: no evidence of its accuracy",
        ),
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


def rule(challenger, champion=GOOD):
    return beats(challenger, champion, GATE.champion, GATE.channels)


@pytest.mark.parametrize(
    ("gain", "wins"), [(0.2, True), (0.1, True), (0.09, False), (0.0, False), (-1, False)]
)
def test_a_challenger_wins_by_the_demanded_gain_in_mean_psnr(gain, wins):
    better, reason = rule(with_gain(gain))
    assert better is wins
    assert f"{mean_psnr_db(GOOD, CHANNELS):.2f} dB" in reason


def test_a_champion_without_figures_gives_way():
    assert rule(GOOD, {}) == (True, "the present champion has no measured figures")


def test_a_challenger_without_figures_never_wins():
    assert rule(without("utility", "png"))[0] is False


@given(st.floats(0, 5), st.floats(0, 5))
def test_two_models_never_beat_each_other(first, second):
    forwards, _ = rule(with_gain(first), with_gain(second))
    backwards, _ = rule(with_gain(second), with_gain(first))
    assert not (forwards and backwards)


def test_a_better_picture_does_not_buy_a_stronger_attacker():
    leaky = with_gain(3)
    leaky["worst_case"] |= {"top1": 0.06}
    better, reason = rule(leaky)
    assert not better
    assert "the worst attacker's top-1 may be up to" in reason


def test_nor_does_it_buy_people_nobody_recognises():
    poor = with_gain(3)
    poor["utility"]["jpeg75"]["recognition_top1"] = 0.93
    better, reason = rule(poor)
    assert not better
    assert "the fall of recognition after jpeg75" in reason


def test_too_few_trials_to_be_confident_keep_the_champion():
    few = with_gain(3)
    few["attacks"]["retrained"] |= {"n": 40}
    assert not rule(few)[0]


@pytest.mark.parametrize(
    "path", [("attacks", "retrained", "n"), ("utility", "png", "n"), ("worst_case", "top1")]
)
def test_a_challenger_whose_certainty_cannot_be_told_never_wins(path):
    evidence = with_gain(3)
    *folders, last = path
    place = evidence
    for step in folders:
        place = place[step]
    del place[last]
    better, reason = rule(evidence)
    assert not better
    assert "lacks the figure or its n" in reason


@given(successes=st.integers(0, 200), n=st.integers(200, 2000))
def test_two_one_sided_bounds_of_97_5_percent_are_the_interval_of_95(successes, n):
    assert wilson(Proportion(successes / n, n), 0.975) == pytest.approx(
        wilson_interval(successes, n), abs=1e-9
    )


def test_the_bound_of_a_difference_agrees_with_newcombes_published_example():
    """56 of 70 against 48 of 80: 95 % interval of the difference from 0.0524 to 0.3339 (his table II, a)."""
    assert rise_upper(Proportion(56 / 70, 70), Proportion(48 / 80, 80), 0.975) == pytest.approx(
        0.3339, abs=1e-4
    )
    assert -rise_upper(Proportion(48 / 80, 80), Proportion(56 / 70, 70), 0.975) == pytest.approx(
        0.0524, abs=1e-4
    )


def test_the_settings_of_the_project_pass_the_figures_they_were_written_for():
    gate = load(Path(__file__).parents[1] / "params.yaml").register.gate
    assert set(gate.attackers) == set(ATTACKERS)
    assert {name: limit.min_psnr_db for name, limit in gate.channels.items()} == {
        "png": 32.0,
        "jpeg75": 31.0,
        "resize50": 28.0,
    }
    evidence = changed(("attacks", "inversion"), GOOD["attacks"]["clean"])
    assert judge(evidence, gate).passed
