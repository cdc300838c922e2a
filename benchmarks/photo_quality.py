"""What a photo model restores of photos that it was never trained on, channel by channel.

    python -m benchmarks.photo_quality --model photo/models/photo

The photos are scikit-learn's china and flower, matplotlib's grace_hopper, at their own size, and the ORL
faces as the default run prepares them. The channels are the exact ones: what Pillow makes of x_e.
"""

from __future__ import annotations

import argparse
from importlib.metadata import distribution
from pathlib import Path

import numpy
import torch
from torch import Tensor

from ddm_core.data.imaging import decode, open_upright
from ddm_core.data.sources import read_orl
from ddm_core.evaluation import as_float, decrypt_photos, evaluation_key
from ddm_core.exact_channels import EXACT_CHANNELS
from ddm_core.metrics import psnr_db
from ddm_core.networks import crop_like, pad_to_multiple
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.store import load_obfuscator

CHANNELS = ("png", "jpeg75", "resize50", "photo_site")
SHIPPED = {
    "china": ("scikit-learn", "sklearn/datasets/images/china.jpg"),
    "flower": ("scikit-learn", "sklearn/datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg"),
}


def colour_photos() -> dict[str, Tensor]:
    """Return the photos that the installed packages ship: name -> uint8 [1, 3, height, width]."""
    photos = {}
    for name, (package, path) in SHIPPED.items():
        content = Path(str(distribution(package).locate_file(path))).read_bytes()
        image, _, _ = open_upright(content, "RGB")
        photos[name] = torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return photos


def orl_photos(every: int) -> Tensor:
    """Return every so many-th ORL face in neutral RGB: uint8 [n, 3, 64, 64]."""
    files = [content for _, content in sorted(read_orl().items())][::every]
    squares = [decode(content, image_size=64, channels=3, square="crop") for content in files]
    return torch.from_numpy(numpy.stack(squares))


def quality(model: KeyedDdm, name: str, photos: Tensor) -> dict[str, float]:
    """Return the mean PSNR in decibels after each channel; grey photos are judged in grey."""
    originals = as_float(photos)
    whole = pad_to_multiple(originals, model.networks.patch)
    nonces = [f"{name:>8.8}{number:04}".encode() for number in range(len(photos))]
    hidden = model.encrypt(whole, nonces)
    result = {}
    for channel in CHANNELS:
        restored = crop_like(decrypt_photos(model, EXACT_CHANNELS[channel](hidden), nonces, "cpu"), originals)
        if name == "orl":
            restored = restored.mean(dim=1, keepdim=True)
        result[channel] = float(psnr_db(restored, originals[:, : restored.shape[1]]).mean())
    return result


def main() -> None:
    """Print one line a photo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained photo model")
    parser.add_argument("--orl-every", type=int, default=10, help="use every so many-th ORL face (10)")
    parser.add_argument("--threads", type=int, default=1, help="threads (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_obfuscator(options.model, master_key=evaluation_key(0, "victim"))
    assert isinstance(model, KeyedDdm)
    model = KeyedDdm(model.networks, model.master_key)  # photos of any size
    print(f"| photo | {' | '.join(CHANNELS)} |\n|---|{'---|' * len(CHANNELS)}")
    for name, photos in {**colour_photos(), "orl": orl_photos(options.orl_every)}.items():
        figures = quality(model, name, photos)
        print(f"| {name} | {' | '.join(f'{figures[channel]:.2f}' for channel in CHANNELS)} |", flush=True)


if __name__ == "__main__":
    main()
