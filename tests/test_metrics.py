"""Picture quality and confidence intervals against their definitions and against SciPy."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddm_core.metrics import psnr_db, ssim, wilson_interval
from ddm_core.seeding import torch_generator


def pictures(name, *shape):
    return torch.rand(*shape, generator=torch_generator(0, f"tests/metrics/{name}"))


@settings(deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(outcome):
    successes, n = outcome
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(outcome):
    successes, n = outcome
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1


@pytest.mark.parametrize(("error", "decibels"), [(0.1, 20.0), (0.01, 40.0), (1.0, 0.0), (0.5, 6.0206)])
def test_psnr_of_a_known_error(error, decibels):
    black = torch.zeros(2, 1, 4, 4)
    assert psnr_db(black + error, black).tolist() == pytest.approx([decibels] * 2, abs=1e-4)


def test_psnr_is_one_figure_an_image_and_is_capped_where_images_are_equal():
    images = torch.zeros(2, 3, 4, 4)
    other = images.clone()
    other[1] += 0.1
    assert psnr_db(other, images).tolist() == pytest.approx([100.0, 20.0], abs=1e-4)


def test_psnr_of_rgb_is_that_of_the_mean_error_over_all_channels():
    black = torch.zeros(1, 3, 4, 4)
    red = black.clone()
    red[:, 0] = 0.3
    assert psnr_db(red, black).item() == pytest.approx(-10 * math.log10(0.3**2 / 3), abs=1e-4)


def test_ssim_of_an_image_with_itself_is_one():
    images = pictures("self", 3, 3, 16, 20)
    assert ssim(images, images).tolist() == pytest.approx([1.0] * 3, abs=1e-6)


def test_ssim_is_symmetric():
    a, b = pictures("a", 3, 1, 16, 16), pictures("b", 3, 1, 16, 16)
    assert ssim(a, b).tolist() == pytest.approx(ssim(b, a).tolist(), abs=1e-6)


def test_ssim_falls_with_noise():
    rows = torch.linspace(0, 1, 32).view(1, 1, 32, 1).expand(1, 1, 32, 32)
    noise = pictures("noise", 1, 1, 32, 32) - 0.5
    values = [ssim((rows + scale * noise).clamp(0, 1), rows).item() for scale in (0, 0.1, 0.3, 1)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.3


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_the_mean_over_windows_of_the_papers_formula(channels):
    a = pictures("slow a", 1, channels, 14, 13)
    b = (0.7 * a + 0.3 * pictures("slow b", 1, channels, 14, 13)).clamp(0, 1)
    planes = zip(a[0].double().numpy(), b[0].double().numpy(), strict=True)
    expected = numpy.mean([slow_ssim(*pair) for pair in planes])
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-5)


def slow_ssim(a, b):
    """Wang et al. (2004), equation 13, window by window."""
    weight = {
        (i, j): math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for i in range(11) for j in range(11)
    }
    total = sum(weight.values())
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            mean_a = sum(w * a[top + i, left + j] for (i, j), w in weight.items()) / total
            mean_b = sum(w * b[top + i, left + j] for (i, j), w in weight.items()) / total
            variance_a = sum(w * (a[top + i, left + j] - mean_a) ** 2 for (i, j), w in weight.items()) / total
            variance_b = sum(w * (b[top + i, left + j] - mean_b) ** 2 for (i, j), w in weight.items()) / total
            covariance = (
                sum(
                    w * (a[top + i, left + j] - mean_a) * (b[top + i, left + j] - mean_b)
                    for (i, j), w in weight.items()
                )
                / total
            )
            values.append(
                (2 * mean_a * mean_b + 0.01**2)
                * (2 * covariance + 0.03**2)
                / ((mean_a**2 + mean_b**2 + 0.01**2) * (variance_a + variance_b + 0.03**2))
            )
    return sum(values) / len(values)
