"""Obfuscation with a differential-privacy guarantee: DP-Pix (Fan 2018) and DP-Blur (Fan 2019).

Images are neighbours when they differ in at most m pixels. The noise is secret and fresh for every photo: it
comes from the master key and the photo's nonce. The guarantee of epsilon holds for each colour channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy
import torch
from torch import Tensor
from torch.nn import functional as F

from ddm_core.channel import round_to_8_bits
from ddm_core.keys import keystream
from ddm_core.networks import crop_like
from ddm_core.obfuscators.classical import Blur
from ddm_core.obfuscators.protocol import check_one_nonce_an_image


@dataclass(frozen=True)
class DpPix:
    """Means of block x block squares plus Laplace noise of scale 255 m / (pixels epsilon) grey levels.

    `pixels` is how many a square has: block^2, fewer at the edges, where one pixel moves the mean further.
    """

    block: int
    neighbourhood: int
    epsilon: float
    master_key: bytes = field(repr=False)

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the noisy mosaic, clipped to [0, 1].

        Raises:
            DdmError: not one nonce an image.
        """
        check_one_nonce_an_image(images, nonces)
        means = F.avg_pool2d(images, self.block, ceil_mode=True, count_include_pad=False)
        noise = laplace(self.master_key, nonces, means.shape[1:], "dp_pix").to(images.device)
        noisy = means + noise * self._scale(*images.shape[-2:]).to(images.device)
        squares = noisy.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
        return round_to_8_bits(crop_like(squares, images))

    def with_key(self, master_key: bytes) -> DpPix:
        """Return the same method under another master key."""
        return replace(self, master_key=master_key)

    def _scale(self, height: int, width: int) -> Tensor:
        pixels = torch.outer(self._sides(height), self._sides(width))
        return self.neighbourhood / (pixels * self.epsilon)  # of the range [0, 1]

    def _sides(self, length: int) -> Tensor:
        return (length - torch.arange(0, length, self.block)).clamp(max=self.block)


@dataclass(frozen=True)
class DpBlur:
    """DP-Pix with small squares, then a Gaussian blur: what is done to a private image keeps it private."""

    pixelise: DpPix
    blur: Blur

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the blurred noisy mosaic.

        Raises:
            DdmError: not one nonce an image.
        """
        return self.blur.encrypt(self.pixelise.encrypt(images, nonces), nonces)

    def with_key(self, master_key: bytes) -> DpBlur:
        """Return the same method under another master key."""
        return replace(self, pixelise=self.pixelise.with_key(master_key))


def laplace(master_key: bytes, nonces: Sequence[bytes], shape: Sequence[int], purpose: str) -> Tensor:
    """Return float32 [len(nonces), *shape]: independent Laplace draws of scale 1 from the keystream.

    Raises:
        DdmError: a key or nonce of the wrong length.
    """
    words = keystream(master_key, nonces, 8 * int(numpy.prod(shape)), purpose).view("<u8")
    uniform = ((words >> 11) + 0.5) / 2.0**53 - 0.5  # inside (-1/2, 1/2): the logarithm is finite
    draws = -numpy.sign(uniform) * numpy.log1p(-2 * numpy.abs(uniform))
    return torch.from_numpy(draws).float().view(len(nonces), *shape)
