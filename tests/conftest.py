"""Small real datasets that tests of every part share."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from PIL import Image

from ddm_core.params import PrepareParams
from ddm_core.seeding import numpy_generator
from ddm_core.stages import prepare

PEOPLE = ("Anna Lee", "Björn", "José", "王芳", "zoe")


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people with six 40 x 48 photos each, `identity/photo N.png`: a face-like disc a person, moved,
    lit and made noisy from photo to photo, so that people can be told apart and no two photos are equal.
    Read only: copy it before changing it."""
    root = tmp_path_factory.mktemp("photos")
    rows, columns = numpy.mgrid[:48, :40]
    for person, name in enumerate(PEOPLE):
        (root / name).mkdir()
        for photo in range(6):
            noise = numpy_generator(0, f"tests/photo_folder/{person}/{photo}")
            shift = noise.integers(-2, 3, size=2)
            distance = numpy.hypot(rows - 24 - shift[0], (columns - 20 - shift[1]) * (1 + 0.2 * person))
            face = 40 * person + 60 + 90 * numpy.cos(distance / (2 + person))
            pixels = face * (0.9 + 0.04 * photo) + noise.normal(0, 3, face.shape)
            Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(root / name / f"photo {photo}.png")
    return root


@pytest.fixture(scope="session")
def prepare_params() -> PrepareParams:
    """32-pixel grey crops; one test photo of each person's six, one test person of five."""
    return PrepareParams(
        image_size=32,
        channels=1,
        square="crop",
        test_fraction=0.2,
        identity_test_fraction=0.2,
        max_bad_fraction=0.01,
        shard_megabytes=1,
        seed=0,
    )


@pytest.fixture(scope="session")
def prepared(
    photo_folder: Path, prepare_params: PrepareParams, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`photo_folder` as a prepared dataset. Read only."""
    target = tmp_path_factory.mktemp("data") / "prepared"
    prepare.run(prepare_params, raw=photo_folder, prepared=target)
    return target
