"""Measures of verification against brute force over pairs and thresholds, and against SciPy."""

import itertools
import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddm_core.metrics import equal_error_rate, roc_auc, true_accept_rate
from ddm_core.seeding import numpy_generator

# Whole numbers, so that ties are common; at least two pairs of either kind.
values = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=25)
samples = st.tuples(values, values)


def pairs(sample):
    matched, mismatched = sample
    same = numpy.arange(len(matched) + len(mismatched)) < len(matched)
    return numpy.array(matched + mismatched), same


def rates(sample):
    """(false accept rate, true accept rate) at every threshold there is."""
    matched, mismatched = map(numpy.array, sample)
    thresholds = [math.inf, *sorted({*matched, *mismatched}, reverse=True)]
    return [((mismatched >= t).mean(), (matched >= t).mean()) for t in thresholds]


@given(samples)
def test_the_area_is_the_share_of_matched_pairs_above_mismatched_ones(sample):
    matched, mismatched = sample
    wins = [(a > b) + (a == b) / 2 for a in matched for b in mismatched]
    assert roc_auc(*pairs(sample))[0] == pytest.approx(numpy.mean(wins))
    statistic = stats.mannwhitneyu(matched, mismatched).statistic
    assert roc_auc(*pairs(sample))[0] == pytest.approx(statistic / len(wins))


@given(samples)
def test_the_areas_interval_is_delongs(sample):
    matched, mismatched = sample
    wins = numpy.array([[(a > b) + (a == b) / 2 for b in mismatched] for a in matched])
    variance = wins.mean(1).var(ddof=1) / len(matched) + wins.mean(0).var(ddof=1) / len(mismatched)
    half = stats.norm.ppf(0.975) * math.sqrt(variance)
    expected = max(0, wins.mean() - half), min(1, wins.mean() + half)
    assert roc_auc(*pairs(sample))[1] == pytest.approx(expected, abs=1e-9)


def test_the_interval_holds_the_true_area_about_95_times_in_100():
    true_area = stats.norm.cdf(1 / math.sqrt(2))
    held = 0
    for trial in range(400):
        draws = numpy_generator(trial, "tests/verification metrics/coverage").normal(size=(2, 60))
        _, (low, high) = roc_auc(*pairs(((draws[0] + 1).tolist(), draws[1].tolist())))
        held += low <= true_area <= high
    assert 0.91 <= held / 400 <= 0.98


def test_six_thousand_pairs_of_chance_give_a_half_within_a_standard_error_below_a_hundredth():
    scores = numpy_generator(0, "tests/verification metrics/chance").normal(size=6000)
    area, (low, high) = roc_auc(scores, numpy.arange(6000) < 3000)
    assert low <= 0.5 <= high
    assert (high - low) / 2 / stats.norm.ppf(0.975) < 0.01
    assert area == pytest.approx(0.5, abs=0.03)


@given(samples, st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0]))
def test_the_true_accept_rate_is_the_best_of_all_thresholds_that_keep_the_false_one(sample, limit):
    expected = max(true for false, true in rates(sample) if false <= limit)
    assert true_accept_rate(*pairs(sample), limit) == expected


@given(samples)
def test_the_equal_error_rate_lies_where_the_two_errors_cross(sample):
    points = rates(sample)
    for (false_1, true_1), (false_2, true_2) in itertools.pairwise(points):
        before, after = (1 - true_1) - false_1, (1 - true_2) - false_2
        if before >= 0 >= after:
            along = before / (before - after)
            expected = false_1 + along * (false_2 - false_1)
            break
    assert equal_error_rate(*pairs(sample)) == pytest.approx(expected, abs=1e-12)


def test_pairs_that_scores_separate_have_no_error():
    sample = ([0.9, 0.8, 0.7], [0.1, 0.2, 0.3, 0.4])
    assert roc_auc(*pairs(sample)) == (1.0, (1.0, 1.0))
    assert equal_error_rate(*pairs(sample)) == 0.0
    assert true_accept_rate(*pairs(sample), 0.0) == 1.0


@given(samples)
def test_the_other_way_round_all_is_mirrored(sample):
    scores, same = pairs(sample)
    assert roc_auc(-scores, same)[0] == pytest.approx(1 - roc_auc(scores, same)[0])
    assert equal_error_rate(-scores, same) == pytest.approx(1 - equal_error_rate(scores, same))
