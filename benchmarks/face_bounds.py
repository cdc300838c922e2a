"""What a linear code of the AT&T faces could reach at best, by the numbers that a channel lets through.

    python -m benchmarks.face_bounds --prepared data/prepared

PSNR of the test photos when only so many coefficients of each cell are kept (PCA of the training photos,
cells of 8x8 and of 16x16 pixels, no channel), and of the photo itself, halved and enlarged again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ddm_core.data.shards import load_photos
from ddm_core.evaluation import as_float
from ddm_core.exact_channels import EXACT_CHANNELS
from ddm_core.metrics import psnr_db

KEPT = (9, 12, 15, 18, 24, 36, 48)  # numbers for each 64 pixels
CELLS = (8, 16)


def cells(images: Tensor, side: int) -> Tensor:
    """Return grey images as rows of `side` x `side` values."""
    return F.pixel_unshuffle(images, side).movedim(1, -1).flatten(0, 2)


def code_and_restore(training: Tensor, test: Tensor, side: int, kept: int) -> Tensor:
    """Return the test images when `kept` numbers for each 64 pixels tell what their cells are."""
    rows = cells(training, side)
    mean = rows.mean(dim=0)
    _, axes = torch.linalg.eigh((rows - mean).T @ (rows - mean))
    strongest = axes[:, -(kept * side**2 // 64) :]
    grid = F.pixel_unshuffle(test, side).movedim(1, -1)
    restored = mean + (grid - mean) @ strongest @ strongest.T
    return F.pixel_shuffle(restored.movedim(-1, 1), side)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path, required=True, help="folder of the prepared faces, grey")
    options = parser.parse_args()
    torch.set_num_threads(1)
    training, test = (
        as_float(load_photos(options.prepared, split=split).images) for split in ("train", "test")
    )
    print("| numbers for 64 pixels | cells of 8x8 | cells of 16x16 |\n|---|---|---|")
    for kept in KEPT:
        restored = [code_and_restore(training, test, side, kept) for side in CELLS]
        figures = [f"{psnr_db(images, test).mean():.1f}" for images in restored]
        print(f"| {kept} | {' | '.join(figures)} |")
    halved = psnr_db(EXACT_CHANNELS["resize50"](test), test).mean()
    print(f"\nThe photo itself, halved and enlarged: {halved:.1f} dB")


if __name__ == "__main__":
    main()
