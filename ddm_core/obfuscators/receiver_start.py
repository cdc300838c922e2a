"""The receiver's start in keyed DDM: the best linear readers of what real channels leave of x_e.

Encoder and renderer are a code by then (`cell_code`, `sender_start`). What the seeker has to read depends on
the channels alone, what the decoder has to restore on photos; both are least squares problems, solved before
the first step. Each network has two readers, one for a whole x_e and one for an x_e that was halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ddm_core import rotations
from ddm_core.channel import simulate_jpeg, simulate_resize, simulate_site
from ddm_core.networks import pad_to_multiple
from ddm_core.obfuscators.cell_code import PATCH
from ddm_core.obfuscators.keyed_networks import KeyedNetworks, read_rotations
from ddm_core.seeding import torch_generator

Channel: TypeAlias = Callable[[Tensor], Tensor]

CELLS = 16_384  # ten times more equations than unknowns
_RIDGE = 1e-5  # of the carrier's pixels, variance about 0.04
_RIDGE_OF_ROTATIONS = 1e-4

_WHOLE: tuple[Channel, ...] = (lambda hidden: hidden, lambda hidden: simulate_jpeg(hidden, 75))
_HALVED: tuple[Channel, ...] = (lambda hidden: simulate_resize(hidden, 0.5),)
_OF_A_SITE: tuple[Channel, ...] = (lambda hidden: simulate_site(hidden, 75),)


def photos_of(cells: int, side: int) -> int:
    """Return how many photos of so many pixels a side have that many cells; at least one."""
    return max(1, cells // (-(-side // PATCH)) ** 2)


@torch.no_grad()
def fit_receiver(networks: KeyedNetworks, images: Tensor, seed: int) -> None:
    """Set the linear readers of seeker and decoder, from uint8 photos [n, channels, height, width]."""
    draws = torch_generator(seed, "train/photo start")
    chosen = torch.randperm(len(images), generator=draws)[: photos_of(CELLS, images.shape[-1])]
    photos = pad_to_multiple(images[chosen].float() / 255.0, PATCH)
    rotation = rotations.random_unit(len(photos), networks.grid(photos), draws)
    rotated = networks.rotated(photos, rotation)
    hidden = networks.draw(rotated)
    halved = _HALVED + (_OF_A_SITE if networks.params.site_share else ())
    received = [[channel(hidden) for channel in state] for state in (_WHOLE, halved)]

    target = rotated.flatten(1, 2)
    networks.seeker.start_linear(
        *_readers(
            (((F.pixel_unshuffle(x, networks.carrier) - 0.5, target) for x in state) for state in received),
            _RIDGE,
        )
    )
    inputs, octonions = networks.decoder.linear_inputs, networks.layout.octonions

    def numbers(seen: Tensor) -> Tensor:
        latent = rotations.rotate_back(rotation, networks.seek(seen), octonions)
        return read_rotations(latent, octonions)[:, :inputs]

    pixels = F.pixel_unshuffle(photos, PATCH)
    networks.decoder.start_linear(
        *_readers((((numbers(x), pixels) for x in state) for state in received), _RIDGE_OF_ROTATIONS)
    )


def _readers(states: Iterable[Iterable[tuple[Tensor, Tensor]]], ridge: float) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the 3x3 convolutions that read the states, one after the other."""
    solved = [_least_squares(state, ridge) for state in states]
    return torch.cat([weight for weight, _ in solved]), torch.cat([bias for _, bias in solved])


def _least_squares(pairs: Iterable[tuple[Tensor, Tensor]], ridge: float) -> tuple[Tensor, Tensor]:
    """Return the 3x3 convolution that best maps grids [b, c, h, w] to grids [b, o, h, w], and its bias."""
    gram = product = torch.zeros(())
    count = 0
    for grid, target in pairs:
        inputs, outputs = grid.shape[1], target.shape[1]
        windows = F.unfold(grid, 3, padding=1).transpose(1, 2).reshape(-1, 9 * inputs)
        windows = F.pad(windows, (0, 1), value=1.0)
        gram = gram + windows.T @ windows
        product = product + windows.T @ target.flatten(2).transpose(1, 2).reshape(-1, outputs)
        count += len(windows)
    eye = torch.eye(len(gram), dtype=torch.float64)
    solution = torch.linalg.solve(gram.double() / count + ridge * eye, product.double() / count).float()
    return solution[:-1].T.reshape(outputs, inputs, 3, 3), solution[-1]
