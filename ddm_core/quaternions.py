"""Unit quaternions as torch tensors; the component axis is the third: [batch, n, 4, height, width].

Nothing here knows the number of components: all holds for octonions, with eight, as well (Cayley and
Dickson), whose rotation vectors have seven where those of quaternions have three. In float32 a norm is one
within 3e-7.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_TINY = 1e-12  # keeps the square root differentiable at zero


def normalise(vectors: Tensor) -> Tensor:
    """Return unit quaternions, of the same shape; an all-zero (or vanishing) one becomes the identity, 1.

    A norm below one would survive the rotation and leak; so tiny ones are replaced, never shrunk.
    """
    # A hundred times as fast as vectors.norm(dim=2); the bound keeps the gradient at zero finite.
    norm = vectors.square().sum(dim=2, keepdim=True).clamp_min(_TINY**2).sqrt()
    identity = torch.zeros_like(vectors)
    identity[:, :, 0] = 1.0
    vanishing = norm < 1e-6
    return torch.where(vanishing, identity, vectors / torch.where(vanishing, torch.ones_like(norm), norm))


def conjugate(q: Tensor) -> Tensor:
    """Return q*, the inverse of a unit quaternion, of the same shape."""
    return torch.cat([q[:, :, :1], -q[:, :, 1:]], dim=2)


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """Return p q, of the shape that both have.

    Left multiplication by a unit quaternion rotates S3, by a unit octonion S7: an isometry.
    """
    batch, count, size, height, width = p.shape
    members, signs = _products(size)
    # All pairs at once: number by number would cost a training step a twentieth more.
    factors = p[:, :, torch.tensor(members, device=p.device)]
    factors = factors * torch.tensor(signs, dtype=p.dtype, device=p.device).view(-1, 1, 1)
    return (factors.view(batch, count, size, size, height, width) * q.unsqueeze(2)).sum(dim=3)


@cache
def _products(size: int) -> tuple[list[int], list[int]]:
    """Return which component of p, with which sign, meets each of q in each of p q: size * size of both."""
    pairs = [(of ^ by, by) for of in range(size) for by in range(size)]
    return [first for first, _ in pairs], [_sign(first, second, size) for first, second in pairs]


def _sign(i: int, j: int, size: int) -> int:
    """Return the sign of e_i e_j = +- e_(i xor j), by (a, b)(c, d) = (a c - d* b, d a + b c*)."""
    if size == 1:
        return 1
    half = size // 2
    first, second = i % half, j % half
    conjugated = 1 if second == 0 else -1
    if i < half:
        return _sign(first, second, half) if j < half else _sign(second, first, half)
    if j < half:
        return conjugated * _sign(first, second, half)
    return -conjugated * _sign(second, first, half)


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
