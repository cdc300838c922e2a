"""What the photo model could reach at best, by linear algebra, before anything is trained.

    python -m benchmarks.photo_bounds --prepared photo/data/prepared

First the share of a photo that is left when only the k strongest coefficients of each 8x8 RGB cell are kept
(PCA of the training crops, no channel). Then what each channel leaves of the carrier: Gaussian amplitudes
on its patterns, the best linear reader over 3x3 cells, its signal-to-noise ratio, and the capacity in bits.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.unseen_photos import CHANNELS, colour_photos, orl_faces
from ddm_core.data.shards import load_photos
from ddm_core.evaluation import as_float
from ddm_core.exact_channels import EXACT_CHANNELS
from ddm_core.learned_params import PhotoDdmParams
from ddm_core.networks import CellNetwork
from ddm_core.obfuscators.cell_code import PATCH, CellLayout, cell_code
from ddm_core.photos.picture import read_pixels
from ddm_core.seeding import torch_generator

KEPT = (18, 27, 36, 48, 60, 72, 81)
QUATERNIONS = 27
LAYOUT = CellLayout(channels=3, carrier=PhotoDdmParams.carrier, octonions=PhotoDdmParams.octonions)
CELLS = 40  # a side of the pictures that carriers are measured on


def cells(images: Tensor) -> Tensor:
    """Return the whole 8x8 cells of images as rows of 192 values around 0."""
    whole = images[..., : images.shape[-2] // PATCH * PATCH, : images.shape[-1] // PATCH * PATCH]
    return F.pixel_unshuffle(whole, PATCH).flatten(2).transpose(1, 2).reshape(-1, 3 * PATCH**2) - 0.5


def in_colour(files: Iterable[bytes]) -> Tensor:
    """Return photos of one size, grey ones as neutral RGB: uint8 [n, 3, height, width]."""
    pixels = [torch.from_numpy(read_pixels(content).copy()) for content in files]
    return torch.stack([each.expand(-1, -1, 3).permute(2, 0, 1) for each in pixels])


def print_kept(prepared: Path) -> None:
    """Print PSNR in decibels by the number of coefficients, a column a photo."""
    training = cells(as_float(load_photos(prepared, split="train").images))
    _, axes = torch.linalg.eigh(training.T @ training)
    files = {name: [content] for name, content in colour_photos().items()} | {"orl": orl_faces(10)}
    photos = {name: cells(as_float(in_colour(contents))) for name, contents in files.items()}
    print(f"| k | {' | '.join(photos)} |\n|---|{'---|' * len(photos)}")
    for kept in KEPT:
        strongest = axes[:, -kept:]
        errors = [rows - rows @ strongest @ strongest.T for rows in photos.values()]
        figures = [f"{-10 * error.square().mean().log10():.2f}" for error in errors]
        print(f"| {kept} | {' | '.join(figures)} |")


def print_carrier() -> None:
    """Print mean signal-to-noise ratio and capacity of both bands, a line a channel."""
    draws = torch_generator(0, "benchmarks/photo bounds")
    renderer = CellNetwork(4 * QUATERNIONS, LAYOUT.carrier**2, 1, 0).requires_grad_(False)
    renderer.start_linear(*cell_code(LAYOUT, QUATERNIONS, PhotoDdmParams.start).render)
    strength = torch.full((4 * QUATERNIONS, 1, 1), 1 / 2)  # of a component of a unit quaternion
    strength[: 8 * LAYOUT.octonions] = math.sqrt(1 / 8)  # of an octonion's
    sent = strength * torch.randn(6, 4 * QUATERNIONS, CELLS, CELLS, generator=draws)
    pictures = F.pixel_shuffle(renderer(sent), LAYOUT.carrier)
    print("\n| channel | robust dB | bits a cell | detail dB | bits a cell |\n|---|---|---|---|---|")
    for channel in CHANNELS:
        seen = F.pixel_unshuffle(EXACT_CHANNELS[channel](pictures) - 0.5, LAYOUT.carrier)
        windows = F.unfold(seen, 3, padding=1).transpose(1, 2)
        targets = sent.flatten(2).transpose(1, 2)
        inputs, outputs = windows[:-1].flatten(0, 1), targets[:-1].flatten(0, 1)
        gram = inputs.T @ inputs
        reader = torch.linalg.solve(gram + 1e-5 * len(inputs) * torch.eye(len(gram)), inputs.T @ outputs)
        read, true = windows[-1] @ reader, targets[-1]
        explained = (read * true).sum(0).square() / (read.square().sum(0) * true.square().sum(0))
        ratio = explained / (1 - explained)
        bands = ratio.split([4 * LAYOUT.robust, 4 * (QUATERNIONS - LAYOUT.robust)])
        cells_of_line = [
            f"{10 * band.log10().mean():.1f} | {0.5 * (1 + band).log2().sum():.0f}" for band in bands
        ]
        print(f"| {channel} | {' | '.join(cells_of_line)} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path, required=True, help="folder of the prepared training crops")
    parser.add_argument("--threads", type=int, default=1, help="threads (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_kept(options.prepared)
    print_carrier()


if __name__ == "__main__":
    main()
