"""The collaborative objective measures the Jensen-Shannon divergence, from below and never beyond ln 2."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from ddm_core.discrepancy import discrepancy_loss, jsd_lower_bound

LN2 = math.log(2.0)
logits = st.lists(st.floats(-30, 30), min_size=1, max_size=20).map(torch.tensor)
outcomes = 6
counts = st.lists(st.integers(1, 20), min_size=outcomes, max_size=outcomes)


def expected_loss(restored, hidden, logit_of_outcome):
    """L_D over two discrete distributions, each given by how often every outcome comes."""
    return discrepancy_loss(
        logit_of_outcome.repeat_interleave(torch.tensor(restored)),
        logit_of_outcome.repeat_interleave(torch.tensor(hidden)),
    ).item()


def jsd(restored, hidden):
    return jensenshannon(restored, hidden) ** 2  # SciPy returns the square root, in nats


def best_logits(restored, hidden):
    """D* = p_r / (p_r + p_e), as a logit."""
    p, q = torch.tensor(restored).double(), torch.tensor(hidden).double()
    return (p / p.sum()).log() - (q / q.sum()).log()


@settings(deadline=None)
@given(counts, counts)
def test_at_the_best_discriminator_the_loss_is_2_ln_2_minus_2_jsd(restored, hidden):
    loss = expected_loss(restored, hidden, best_logits(restored, hidden))
    assert -loss == pytest.approx(2 * jsd(restored, hidden) - 2 * LN2, abs=1e-5)
    assert jsd_lower_bound(loss) == pytest.approx(jsd(restored, hidden), abs=1e-5)


@settings(deadline=None)
@given(counts, counts, st.lists(st.floats(-5, 5), min_size=outcomes, max_size=outcomes))
def test_any_other_discriminator_claims_less(restored, hidden, change):
    other = best_logits(restored, hidden) + torch.tensor(change)
    claimed = jsd_lower_bound(expected_loss(restored, hidden, other))
    assert claimed <= jsd(restored, hidden) + 1e-5


@settings(deadline=None)
@given(logits, logits)
def test_the_loss_is_never_negative_so_the_bound_never_exceeds_ln_2(restored, hidden):
    loss = discrepancy_loss(restored, hidden).item()
    assert loss >= 0
    assert jsd_lower_bound(loss) <= LN2


@settings(deadline=None)
@given(logits, logits)
def test_the_loss_is_the_mean_negative_logarithm_of_the_right_answers(restored, hidden):
    right = [1 / (1 + math.exp(-value)) for value in restored.tolist()]
    wrong = [1 / (1 + math.exp(value)) for value in hidden.tolist()]
    expected = -sum(map(math.log, right)) / len(right) - sum(map(math.log, wrong)) / len(wrong)
    assert discrepancy_loss(restored, hidden).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_discriminator_that_knows_nothing_claims_nothing():
    nothing = torch.zeros(3, 1, 2, 2)
    assert jsd_lower_bound(discrepancy_loss(nothing, nothing).item()) == pytest.approx(0.0, abs=1e-6)


def test_a_perfect_discriminator_claims_ln_2():
    sure = torch.full((3, 1, 2, 2), 50.0)
    assert jsd_lower_bound(discrepancy_loss(sure, -sure).item()) == pytest.approx(LN2, abs=1e-6)


def test_the_loss_keeps_fp32_when_the_networks_run_in_bf16():
    assert discrepancy_loss(torch.zeros(2).bfloat16(), torch.zeros(2).bfloat16()).dtype == torch.float32
