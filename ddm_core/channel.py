"""What happens to a photo on its way: 8-bit storage, JPEG, resizing. Exact (Pillow) and differentiable.

Images are float tensors [batch, channels, height, width] in [0, 1].
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache, partial

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

# The luminance quantisation table of the JPEG standard (ITU-T T.81, table K.1).
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
def quantisation_table(quality: int) -> Tensor:
    """Return libjpeg's luminance table [64], row by row, for a quality in 1..100 (steps of 0..255)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(_LUMINANCE_TABLE).flatten() * scale + 50) // 100).clamp(1, 255).float()


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


def simulate_jpeg(images: Tensor, quality: int) -> Tensor:
    """Differentiable JPEG of one grey channel: exact rounding forward, identity gradient through it."""
    table = quantisation_table(quality).to(images.device)
    coefficients = to_coefficients(images) / table
    quantised = coefficients + (coefficients.round() - coefficients).detach()
    return round_to_8_bits(from_coefficients(quantised * table))


@cache
def _resize_matrix(source: int, target: int) -> Tensor:
    # Bicubic resizing is linear and separable, so resizing the identity gives its matrix.
    identity = torch.eye(source).view(1, 1, source, source)
    return F.interpolate(identity, (target, source), mode="bicubic", antialias=True)[0, 0]


def simulate_resize(images: Tensor, scale: float) -> Tensor:
    """Differentiable bicubic down to `scale`, 8-bit rounding, and bicubic back up."""
    height, width = images.shape[-2:]
    small = max(1, round(height * scale)), max(1, round(width * scale))
    down = [_resize_matrix(a, b).to(images.device) for a, b in zip((height, width), small, strict=True)]
    up = [_resize_matrix(b, a).to(images.device) for a, b in zip((height, width), small, strict=True)]
    shrunk = round_to_8_bits(down[0] @ images @ down[1].T)
    return round_to_8_bits(up[0] @ shrunk @ up[1].T)


def to_uint8(images: Tensor) -> numpy.ndarray:
    """Return [b, c, h, w] in [0, 1] as uint8 [b, h, w, c]."""
    array: numpy.ndarray = (images.clamp(0, 1) * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


def to_pillow(array: numpy.ndarray) -> Image.Image:
    """Return one uint8 [h, w, c] image (c 1 or 3) as a Pillow image."""
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _apply(change: Callable[[Image.Image], Image.Image], images: Tensor) -> Tensor:
    changed = numpy.stack([numpy.array(change(to_pillow(array))) for array in to_uint8(images)])
    return torch.from_numpy(changed.reshape(*changed.shape[:3], -1)).permute(0, 3, 1, 2) / 255.0


def _png(image: Image.Image) -> Image.Image:
    return image  # PNG keeps 8-bit pixels as they are


def _jpeg(quality: int, image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(buffer)


def _resize(percent: int, image: Image.Image) -> Image.Image:
    small = max(1, round(image.width * percent / 100)), max(1, round(image.height * percent / 100))
    return image.resize(small, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


CHANNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "png": partial(_apply, _png),
    **{f"jpeg{quality}": partial(_apply, partial(_jpeg, quality)) for quality in (95, 85, 75, 50)},
    **{f"resize{percent}": partial(_apply, partial(_resize, percent)) for percent in (75, 50)},
}
"""Name -> exact channel: 8-bit PNG, JPEG at a quality (4:2:0), bicubic to a percentage and back."""
