"""The sender's start in keyed DDM: robust coefficients that reach into the neighbouring cells.

After halving, a few numbers a cell are all there is. Patterns that overlap those of the neighbours, as in a
lapped transform (Malvar and Staelin 1989), say more with as many numbers than the DCT of single cells does:
0.2 dB for halved faces (docs/experiments.md). They are those of a linear autoencoder, trained for a second
before the first step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.seeding import torch_generator

_STEPS = 400
_LEAST_DEVIATION = 1e-3  # radians
_RATE = 2e-3
_CELLS_A_STEP = 2048


def fit_sender(networks: KeyedNetworks, images: Tensor, seed: int) -> None:
    """Replace the encoder's robust patterns, from uint8 photos [n, channels, height, width].

    Each coefficient keeps the deviation over these photos that it had, and so its group's angles. One that
    these photos hardly turn, such as colour in grey photos, stays the pattern that it was.
    """
    photos = networks.cells(images.float() / 255.0)
    robust = networks.layout.numbers(networks.layout.robust)
    was = networks.encoder.linear.weight[:robust].detach().clone()
    fitted = _autoencoder_patterns(was, photos, torch_generator(seed, "train/sender start"))
    with torch.no_grad():
        before, after = _deviations(photos, was), _deviations(photos, fitted)
        varies = (before > _LEAST_DEVIATION) & (after > 0)
        gain = before / torch.where(varies, after, torch.ones_like(after))
        fitted *= gain.view(-1, 1, 1, 1)
        networks.encoder.linear.weight[:robust] = torch.where(varies.view(-1, 1, 1, 1), fitted, was)


@torch.enable_grad()
def _autoencoder_patterns(start: Tensor, photos: Tensor, draws: torch.Generator) -> Tensor:
    """Return the encoder [n, pixels, 3, 3] of the linear autoencoder with n numbers a cell."""
    count, pixels = start.shape[:2]
    encode = nn.Conv2d(pixels, count, 3, padding=1, bias=False)
    decode = nn.Conv2d(count, pixels, 3, padding=1)
    with torch.no_grad():
        patterns = start / start.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        encode.weight.copy_(patterns)
        decode.weight.copy_(patterns.transpose(0, 1).flip(2, 3))
        decode.bias.zero_()  # type: ignore[union-attr]
    optimiser = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=_RATE)
    batch = max(1, _CELLS_A_STEP // (photos.shape[-2] * photos.shape[-1]))
    for step in range(_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * 0.5 * (1.0 + math.cos(math.pi * step / _STEPS))
        chosen = photos[torch.randint(len(photos), (batch,), generator=draws)]
        optimiser.zero_grad()
        nn.functional.mse_loss(decode(encode(chosen)), chosen).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return encode.weight.detach()


def _deviations(photos: Tensor, patterns: Tensor) -> Tensor:
    return nn.functional.conv2d(photos, patterns, padding=1).std(dim=(0, 2, 3))
