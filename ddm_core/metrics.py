"""Pure measures: picture quality, accuracies with their confidence intervals, and scores of pairs."""

from __future__ import annotations

import math
from functools import cache
from typing import TypeAlias

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats: TypeAlias = NDArray[numpy.float64]
Booleans: TypeAlias = NDArray[numpy.bool_]

_NORMAL_97_5 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def psnr_db(images: Tensor, reference: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in decibels, [batch]; images in [0, 1].

    Of RGB the error is the mean over the three channels. Capped at 100 dB, where two 8-bit images are the
    same.
    """
    error = (images.double() - reference.double()).square().mean(dim=(1, 2, 3))
    return -10.0 * torch.log10(error.clamp(min=1e-10))


@cache
def _gaussian_window() -> Tensor:
    offsets = torch.arange(11.0) - 5
    weights = torch.exp(-offsets.square() / (2 * 1.5**2))
    weights = weights / weights.sum()
    return torch.outer(weights, weights)


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Return the structural similarity of each image, [batch], at most 1; images in [0, 1].

    Wang, Bovik, Sheikh and Simoncelli (2004): Gaussian window 11x11 with sigma 1.5, K1 0.01, K2 0.03,
    averaged over the places where the window fits, and over the channels of RGB.
    """
    channels = images.shape[1]
    window = _gaussian_window().to(images).expand(channels, 1, 11, 11)

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=channels)

    mean_a, mean_b = local_mean(images), local_mean(reference)
    variance_a = local_mean(images.square()) - mean_a.square()
    variance_b = local_mean(reference.square()) - mean_b.square()
    covariance = local_mean(images * reference) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a.square() + mean_b.square() + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion, fractions in [0, 1]; n at least 1."""
    z = _NORMAL_97_5
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def roc_auc(scores: Floats, same: Booleans) -> tuple[float, tuple[float, float]]:
    """Return the area under the ROC curve and its 95 % interval after DeLong et al. (1988), in [0, 1].

    The area is the probability that a matched pair scores above a mismatched one, ties counting half. Its
    variance is that of the two samples' placement values; pairs are taken as independent. The interval is
    cut off at 0 and 1, and has no width where the scores separate the pairs completely.

    `scores` [pairs] are finite, the higher the more alike; `same` [pairs] has at least two of either kind.
    """
    from scipy.stats import rankdata

    matched, mismatched = scores[same], scores[~same]
    ranks = rankdata(scores)
    above = (ranks[same] - rankdata(matched)) / len(mismatched)  # of a matched pair: the share it beats
    below = 1 - (ranks[~same] - rankdata(mismatched)) / len(matched)
    area = float(above.mean())
    half = _NORMAL_97_5 * math.sqrt(above.var(ddof=1) / len(matched) + below.var(ddof=1) / len(mismatched))
    return area, (max(0.0, area - half), min(1.0, area + half))


def equal_error_rate(scores: Floats, same: Booleans) -> float:
    """Return the rate in [0, 1] at which false accepts equal false rejects, between thresholds interpolated.

    `scores` and `same` as for `roc_auc`, at least one pair of either kind.
    """
    false_accepts, true_accepts = _roc_curve(scores, same)
    return float(numpy.interp(0, false_accepts - (1 - true_accepts), false_accepts))


def true_accept_rate(scores: Floats, same: Booleans, false_accept_rate: float) -> float:
    """Return the highest true accept rate of any threshold that keeps false accepts to the rate given.

    Not interpolated: with fewer mismatched pairs than 1 / `false_accept_rate` none of them may be accepted.
    `scores` and `same` as for `equal_error_rate`; the rates are fractions.
    """
    false_accepts, true_accepts = _roc_curve(scores, same)
    return float(true_accepts[false_accepts <= false_accept_rate].max())


def _roc_curve(scores: Floats, same: Booleans) -> tuple[Floats, Floats]:
    """Return false and true accept rates of `score >= threshold`, the threshold falling from infinity."""
    order = numpy.argsort(-scores)
    ranked, matched = scores[order], same[order]
    ends = numpy.append(numpy.flatnonzero(numpy.diff(ranked)), len(ranked) - 1)  # equal scores go together
    true_accepts = numpy.cumsum(matched)[ends] / matched.sum()
    false_accepts = numpy.cumsum(~matched)[ends] / (~matched).sum()
    return numpy.append(0.0, false_accepts), numpy.append(0.0, true_accepts)
