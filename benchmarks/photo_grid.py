"""A picture of what the photo model does to photos that it was never trained on; docs/photos.md shows it.

python -m benchmarks.photo_grid --model photo/models/photo -o docs/images/photo.jpg
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.unseen_photos import CHANNELS, colour_photos, new_ring, orl_faces
from ddm_core.files import write_bytes
from ddm_core.grids import labelled_grid
from ddm_core.keys import generate_key
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo, guess_photo
from ddm_core.photos.model import PhotoModel, load_model
from ddm_core.photos.picture import read_image

SIDE = 240  # pixels a picture of the grid


def rows_of(model: PhotoModel, photo: bytes) -> dict[str, bytes]:
    """Return the files to show of one photo, by their labels."""
    ring = new_ring()
    hidden = encrypt_photo(photo, model, ring)
    arrived = CHANNELS["photo_site"](hidden)
    return {
        "photo": photo,
        "encrypted,\nwith its code band": hidden,
        "decrypted": decrypt_photo(hidden, model, ring),
        "encrypted, as a\nphoto site shows it:\nhalf size, JPEG 75": arrived,
        "decrypted from that": decrypt_photo(arrived, model, ring),
        "the same under a\nwrong key": guess_photo(arrived, model, generate_key()),
    }


def shown(content: bytes) -> Tensor:
    """Return a picture scaled to fit a square of SIDE, on white: [3, SIDE, SIDE] in [0, 1]."""
    image = ImageOps.pad(read_image(content).convert("RGB"), (SIDE, SIDE), color="white")
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1) / 255.0


def as_jpeg(picture: bytes) -> bytes:
    """Return a picture as JPEG, a third as large as PNG: half of it is noise, which PNG keeps bit by bit."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(buffer, "JPEG", quality=90, subsampling="4:4:4", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained photo model")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JPEG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    columns = [rows_of(model, photo) for photo in (*colour_photos().values(), orl_faces(400)[0])]
    rows = {label: torch.stack([shown(column[label]) for column in columns]) for label in columns[0]}
    write_bytes(options.output, as_jpeg(labelled_grid(rows)))


if __name__ == "__main__":
    main()
