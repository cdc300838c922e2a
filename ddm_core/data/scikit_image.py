"""The photos inside PyPI's scikit-image: what the `photo` model is trained on. Read, never imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ddm_core.data import photo_crops
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.errors import DdmError

DISTRIBUTION = "scikit-image"
CREDIT = "the photos of scikit-image's skimage.data, whose documentation names who took each"
LICENCE = (
    "CC0 or public domain, photo by photo as skimage.data's documentation says; it names no terms for"
    " moon.png, nor for motorcycle_left.png and motorcycle_right.png, of the Middlebury 2014 stereo benchmark"
)
PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Its photos; what else is there are drawings, masks and test patterns."""


def read() -> Iterator[RawPhoto | Rejected]:
    """Yield the crops of the photos, as `photo_crops.read` does those of a folder.

    Raises:
        DdmError: the distribution is not installed or lacks one of the photos.
    """
    try:
        shipped = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        raise DdmError(
            f"{DISTRIBUTION}: not installed, and it carries the photos; pip install 'ddm-pipeline[photo]'"
        ) from None
    for name in PHOTOS:
        path = Path(str(shipped.locate_file(f"skimage/data/{name}")))
        if not path.is_file():
            raise DdmError(f"{path}: not found; reinstall {DISTRIBUTION} as pyproject.toml pins it")
        yield from photo_crops.crops(path, name)
