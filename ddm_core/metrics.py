"""Pure measures: picture quality, and accuracies with their confidence intervals."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


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
    z = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
