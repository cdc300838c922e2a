"""Images as the bytes that an 8-bit file holds, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def to_bytes(images: Tensor) -> Tensor:
    """Return images in [0, 1] as uint8 of the same shape, rounded."""
    return (images.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def from_bytes(pixels: Tensor) -> Tensor:
    """Return uint8 as floats in [0, 1]; `to_bytes` gives exactly the same bytes back."""
    return pixels.float() / 255.0
