"""How often the header of an encrypted photo is read after a photo site: scaled to half, JPEG 75, stripped.

    python -m benchmarks.photo_headers --model photo/models/photo

Every photo is another part of one of the unseen photos, from 48 pixels a side to all of it, encrypted under a
fresh nonce as `ddm encrypt` does it. A header counts as read if every field is what was written: a single
wrong bit would fail its HMAC tag. Exits with 1 below 99.9 %.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.unseen_photos import colour_photos, new_ring
from ddm_core.errors import DdmError
from ddm_core.exact_channels import share_on_photo_site
from ddm_core.metrics import wilson_interval
from ddm_core.photos.band import read_band
from ddm_core.photos.cipher import encrypt_photo
from ddm_core.photos.model import load_model
from ddm_core.photos.picture import Output, Pixels, read_image, read_pixels, write_pixels

LEAST_SIDE = 48
LIMIT = 0.999


def part(photo: Pixels, random: numpy.random.Generator) -> Pixels:
    """Return a rectangle of the photo, sides drawn evenly by their logarithm."""
    sides = [
        int(numpy.exp(random.uniform(numpy.log(LEAST_SIDE), numpy.log(side)))) for side in photo.shape[:2]
    ]
    top, left = (
        int(random.integers(0, side - own + 1)) for side, own in zip(photo.shape[:2], sides, strict=True)
    )
    return photo[top : top + sides[0], left : left + sides[1]]


def main() -> None:
    """Encrypt, send, read; print the share that was read, with its 95 % interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained photo model")
    parser.add_argument("--photos", type=int, default=1000, help="how many encryptions (1000)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, ring = load_model(options.model), new_ring()
    photos = [read_pixels(content) for content in colour_photos().values()]
    random = numpy.random.default_rng(0)
    lost = []
    for number in tqdm(range(options.photos), unit="photo"):
        pixels = part(photos[number % len(photos)], random)
        hidden = encrypt_photo(write_pixels(pixels, Output()), model, ring)
        written = read_band(Image.open(io.BytesIO(hidden)).convert("L"))
        written.check(ring.current.secret)
        try:
            if read_band(read_image(share_on_photo_site(hidden)).convert("L")) != written:
                lost.append(pixels.shape)
        except DdmError:
            lost.append(pixels.shape)
    kept = options.photos - len(lost)
    low, high = wilson_interval(kept, options.photos)
    print(f"{kept} of {options.photos} headers read after a photo site: {kept / options.photos:.2%}", end=" ")
    print(f"(95 % interval {low:.2%} to {high:.2%}); at least {LIMIT:.1%} wanted")
    for height, width, _ in lost:
        print(f"lost: a photo of {width} x {height}")
    if kept < LIMIT * options.photos:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
