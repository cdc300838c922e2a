"""The baselines everyone compares with: none, mosaic, Gaussian blur and P3's public part. All are keyless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ddm_core.channel import recode_jpeg, round_to_8_bits


@dataclass(frozen=True)
class Identity:
    """The photo as it is."""

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the images unchanged."""
        return round_to_8_bits(images)


@dataclass(frozen=True)
class Mosaic:
    """Each block x block square becomes its mean (pixelation); blocks at the edge may be smaller."""

    block: int

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the pixelated images."""
        height, width = images.shape[-2:]
        means = F.avg_pool2d(images, self.block, ceil_mode=True, count_include_pad=False)
        squares = means.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
        return round_to_8_bits(squares[..., :height, :width])


@dataclass(frozen=True)
class Blur:
    """Gaussian blur; sigma = 0.3 ((kernel - 1) / 2 - 1) + 0.8, OpenCV's rule for a given kernel size."""

    kernel: int

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the blurred images; edges are replicated."""
        radius = self.kernel // 2
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        weights = torch.exp(-offsets.square() / (2 * (0.3 * (radius - 1) + 0.8) ** 2))
        weights = weights / weights.sum()
        flat = F.pad(images, (radius,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
        blurred = F.conv2d(F.conv2d(flat, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
        return round_to_8_bits(blurred.view_as(images))


@dataclass(frozen=True)
class P3:
    """The public part of P3 (Ra, Govindan and Ortega 2013), decoded to pixels.

    In the quantised JPEG coefficients the DC is removed; an AC coefficient y stays where |y| <= threshold
    and becomes +threshold elsewhere: its sign and excess travel in the secret part. RGB is coded as JPEG
    does it: luma and 4:2:0 chroma, each with its own table.
    """

    threshold: int
    quality: int

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the public part."""
        return recode_jpeg(images, self.quality, self._public)

    def _public(self, coefficients: Tensor) -> Tensor:
        quantised = coefficients.round()
        public = torch.where(quantised.abs() <= self.threshold, quantised, float(self.threshold))
        public[..., 0] = 0.0  # the DC
        return public
