"""Photos that no photo model is trained on, as installed packages ship them, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import numpy

from ddm_core.data.imaging import decode
from ddm_core.data.sources import read_orl
from ddm_core.exact_channels import share, share_on_photo_site
from ddm_core.key_ring import KeyRing, MasterKey
from ddm_core.keys import generate_key
from ddm_core.photos.picture import Output, read_pixels, write_pixels

SHIPPED = {
    "china": ("scikit-learn", "sklearn/datasets/images/china.jpg"),
    "flower": ("scikit-learn", "sklearn/datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg"),
}
CHANNELS: dict[str, Callable[[bytes], bytes]] = {
    "png": lambda upload: share(upload, 100, None),
    "jpeg75": lambda upload: share(upload, 100, 75),
    "resize50": lambda upload: share(upload, 50, None),
    "photo_site": share_on_photo_site,
}
"""What becomes of an encrypted photo's file: sent as it is, recompressed with 4:2:0, halved, or all of it."""


def colour_photos() -> dict[str, bytes]:
    """Return the files of the colour photos: name -> JPEG."""
    return {
        name: Path(str(distribution(package).locate_file(path))).read_bytes()
        for name, (package, path) in SHIPPED.items()
    }


def orl_faces(every: int) -> list[bytes]:
    """Return every so many-th ORL face, 64 x 64 and grey, as PNG."""
    faces = [content for _, content in sorted(read_orl().items())][::every]
    return [
        write_pixels(decode(face, image_size=64, channels=1, square="crop")[0], Output()) for face in faces
    ]


def psnr_db(restored: bytes, photo: bytes) -> float:
    """Return the PSNR in decibels of a restored photo's file."""
    one, other = (read_pixels(content).astype(float) for content in (restored, photo))
    return float(10 * numpy.log10(255**2 / numpy.mean((one - other) ** 2)))


def new_ring() -> KeyRing:
    """Return a fresh key that is in no file."""
    return KeyRing((MasterKey(generate_key()),))
