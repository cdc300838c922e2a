"""What happens to a photo on its way, differentiable: 8-bit storage, JPEG, resizing.

Images are float tensors [batch, channels, height, width] in [0, 1]. What real software makes of them is in
`ddm_core.exact_channels`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ddm_core.networks import crop_like, pad_to_multiple

Subsampling = Literal["4:2:0", "4:4:4"]
"""How JPEG keeps the chroma of RGB: one sample for 2x2 pixels (as nearly all software does), or for each."""

# The quantisation tables of the JPEG standard (ITU-T T.81, tables K.1 and K.2).
_LUMINANCE_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)

# RGB to Y, Cb, Cr (ITU-R BT.601 as JFIF has it: full range, chroma around 128).
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
_TO_YCBCR = (
    (_RED, _GREEN, _BLUE),
    (-_RED / 2 / (1 - _BLUE), -_GREEN / 2 / (1 - _BLUE), 0.5),
    (0.5, -_GREEN / 2 / (1 - _RED), -_BLUE / 2 / (1 - _RED)),
)
_NEUTRAL = 128 / 255


def round_to_8_bits(images: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to multiples of 1/255; the gradient passes straight through."""
    clamped = images.clamp(0.0, 1.0)
    return clamped + ((clamped * 255.0).round() / 255.0 - clamped).detach()


@cache
def dct_matrix() -> Tensor:
    """Return the orthonormal two-dimensional 8x8 DCT-II, [64, 64]: coefficients = matrix @ pixels.

    One 64x64 product a block is far faster than two 8x8 ones.
    """
    k = torch.arange(8.0).unsqueeze(1)
    n = torch.arange(8.0).unsqueeze(0)
    matrix = torch.cos(torch.pi * (2 * n + 1) * k / 16) * 0.5
    matrix[0] *= 0.5**0.5
    return torch.kron(matrix, matrix)


@cache
def quantisation_table(quality: int, *, chrominance: bool = False) -> Tensor:
    """Return libjpeg's table [64], row by row, for a quality in 1..100 (steps of 0..255)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(_CHROMINANCE_TABLE if chrominance else _LUMINANCE_TABLE).flatten()
    return ((table * scale + 50) // 100).clamp(1, 255).float()


def to_coefficients(images: Tensor) -> Tensor:
    """Return the DCT coefficients [b, c, h/8, w/8, 64] of images [b, c, h, w]; h and w multiples of 8.

    In steps of the 0..255 scale, level-shifted by 128 as JPEG does.
    """
    batch, channels, height, width = images.shape
    blocks = images.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4).flatten(4)
    return (blocks * 255.0 - 128.0) @ dct_matrix().to(images.device).T


def from_coefficients(coefficients: Tensor) -> Tensor:
    """Return the images of DCT coefficients, unbounded; the inverse of `to_coefficients`."""
    blocks = (coefficients @ dct_matrix().to(coefficients.device) + 128.0) / 255.0
    batch, channels, rows, columns, _ = coefficients.shape
    apart = blocks.reshape(batch, channels, rows, columns, 8, 8).transpose(3, 4)
    return apart.reshape(batch, channels, rows * 8, columns * 8)


def luma(images: Tensor) -> Tensor:
    """Return ITU-R BT.601 luma [batch, 1, height, width] of RGB; grey is its own luma."""
    shares = torch.tensor(_TO_YCBCR[0] if images.shape[1] == 3 else (1.0,), device=images.device)
    return (images * shares.view(-1, 1, 1)).sum(dim=1, keepdim=True)


def recode_jpeg(
    images: Tensor, quality: int, change: Callable[[Tensor], Tensor], subsampling: Subsampling = "4:2:0"
) -> Tensor:
    """Return the 8-bit picture that JPEG's decoder shows after `change` of the coefficients.

    `change` gets them in steps of their quantisation table, [batch, planes, rows, columns, 64]: grey, or once
    luma (one plane) and once Cb and Cr. As in libjpeg, blocks that are not full repeat the edge, and
    subsampled chroma is the mean of 2x2 pixels, interpolated linearly by the decoder.
    """
    if images.shape[1] == 1:
        return crop_like(_recode_planes(images, quantisation_table(quality), change), images)
    step = 2 if subsampling == "4:2:0" else 1
    planes = pad_to_multiple(_to_ycbcr(images), 8 * step)
    luminance = _recode_planes(planes[:, :1], quantisation_table(quality), change)
    small = round_to_8_bits(F.avg_pool2d(planes[:, 1:], step))
    coded = _recode_planes(small, quantisation_table(quality, chrominance=True), change)
    seen = coded[..., : -(-images.shape[-2] // step), : -(-images.shape[-1] // step)]
    chroma = round_to_8_bits(F.interpolate(seen, scale_factor=step, mode="bilinear"))
    together = [crop_like(plane, images) for plane in (luminance, chroma)]
    return _from_ycbcr(torch.cat(together, dim=1))


def simulate_jpeg(images: Tensor, quality: int, subsampling: Subsampling = "4:2:0") -> Tensor:
    """Differentiable JPEG of grey or RGB: exact rounding forward, identity gradient through it."""
    return recode_jpeg(images, quality, lambda steps: steps + (steps.round() - steps).detach(), subsampling)


def _recode_planes(planes: Tensor, table: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    table = table.to(planes.device)
    coefficients = to_coefficients(pad_to_multiple(planes, 8)) / table
    return round_to_8_bits(from_coefficients(change(coefficients) * table))


def _to_ycbcr(images: Tensor) -> Tensor:
    matrix = torch.tensor(_TO_YCBCR, device=images.device)
    level = torch.tensor([0.0, _NEUTRAL, _NEUTRAL], device=images.device)
    return round_to_8_bits((matrix @ images.flatten(2)).view_as(images) + level.view(3, 1, 1))


def _from_ycbcr(planes: Tensor) -> Tensor:
    luminance = planes[:, :1]
    blue = 2 * (1 - _BLUE) * (planes[:, 1:2] - _NEUTRAL)
    red = 2 * (1 - _RED) * (planes[:, 2:] - _NEUTRAL)
    green = -(_BLUE * blue + _RED * red) / _GREEN
    return round_to_8_bits(luminance + torch.cat([red, green, blue], dim=1))


@cache
def resize_matrix(source: int, target: int) -> Tensor:
    """Return bicubic resizing along one side, [target, source]: it is linear and separable."""
    identity = torch.eye(source).view(1, 1, source, source)
    return F.interpolate(identity, (target, source), mode="bicubic", antialias=True)[0, 0]


def simulate_resize(images: Tensor, scale: float) -> Tensor:
    """Differentiable bicubic down to `scale`, 8-bit rounding, and bicubic back up."""
    height, width = images.shape[-2:]
    small = max(1, round(height * scale)), max(1, round(width * scale))
    down = [resize_matrix(a, b).to(images.device) for a, b in zip((height, width), small, strict=True)]
    up = [resize_matrix(b, a).to(images.device) for a, b in zip((height, width), small, strict=True)]
    shrunk = round_to_8_bits(down[0] @ images @ down[1].T)
    return round_to_8_bits(up[0] @ shrunk @ up[1].T)


def simulate_site(images: Tensor, quality: int, subsampling: Subsampling = "4:2:0") -> Tensor:
    """Differentiable photo site: bicubic down to half the size, JPEG, and bicubic back up."""
    (height, width), small = images.shape[-2:], [max(1, round(side / 2)) for side in images.shape[-2:]]
    down = [resize_matrix(a, b).to(images.device) for a, b in zip((height, width), small, strict=True)]
    up = [resize_matrix(b, a).to(images.device) for a, b in zip((height, width), small, strict=True)]
    shown = simulate_jpeg(round_to_8_bits(down[0] @ images @ down[1].T), quality, subsampling)
    return round_to_8_bits(up[0] @ shown @ up[1].T)


def to_uint8(images: Tensor) -> numpy.ndarray:
    """Return [b, c, h, w] in [0, 1] as uint8 [b, h, w, c]."""
    array: numpy.ndarray = (images.clamp(0, 1) * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


def to_pillow(array: numpy.ndarray) -> Image.Image:
    """Return one uint8 [h, w, c] image (c 1 or 3) as a Pillow image."""
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
