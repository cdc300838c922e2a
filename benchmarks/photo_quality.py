"""What `ddm decrypt` restores of photos that the model was never trained on, channel by channel.

    python -m benchmarks.photo_quality --model photo/models/photo

The whole way: encrypted as `ddm encrypt` does it, with its code band; the file sent through a channel, as
real software makes it; decrypted as `ddm decrypt` does it. The photos are scikit-learn's china and flower and
matplotlib's grace_hopper at their own size, and ORL faces of 64 x 64 pixels. Exits with 1 below a limit.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from benchmarks.unseen_photos import CHANNELS, colour_photos, new_ring, orl_faces, psnr_db
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo
from ddm_core.photos.model import PhotoModel, load_model

LIMITS = {
    "mean of colour": {"png": 31.0, "jpeg75": 30.0, "photo_site": 26.0},
    "orl": {"photo_site": 27.0},
}
"""The least mean PSNR in decibels that the photo model is made for."""


def quality(model: PhotoModel, photo: bytes) -> dict[str, float]:
    """Return the PSNR in decibels after each channel."""
    ring = new_ring()
    hidden = encrypt_photo(photo, model, ring)
    return {
        name: psnr_db(decrypt_photo(channel(hidden), model, ring), photo)
        for name, channel in CHANNELS.items()
    }


def mean(figures: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each channel."""
    return {name: statistics.fmean(each[name] for each in figures) for name in CHANNELS}


def row(name: str, figures: dict[str, float]) -> str:
    """Return a line of the table."""
    return f"| {name} | {' | '.join(f'{figures[channel]:.2f}' for channel in CHANNELS)} |"


def main() -> None:
    """Print one line a photo, the means, and what lies below its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained photo model")
    parser.add_argument("--orl-every", type=int, default=4, help="use every so many-th of the 400 faces (4)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    print(f"| photo | {' | '.join(CHANNELS)} |\n|---|{'---|' * len(CHANNELS)}")
    colour = []
    for name, photo in colour_photos().items():
        colour.append(quality(model, photo))
        print(row(name, colour[-1]), flush=True)
    means = {"mean of colour": mean(colour)}
    print(row("mean of colour", means["mean of colour"]), flush=True)
    faces = orl_faces(options.orl_every)
    means["orl"] = mean([quality(model, face) for face in faces])
    print(row(f"orl, mean of {len(faces)}", means["orl"]))
    missed = [
        f"{name} after {channel}: {means[name][channel]:.2f} dB, at least {limit:.1f} wanted"
        for name, limits in LIMITS.items()
        for channel, limit in limits.items()
        if means[name][channel] < limit
    ]
    if missed:
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
