"""The face embedding of dlib, which others trained on three million faces: an optional extra, `pretrained`.

The package `dlib-bin` runs it, `face-recognition-models` carries the weights (King 2017: a ResNet with 29
convolutions, 99.38 % on LFW; people in LFW were left out of its training).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ddm_core.attacks.applicability import DoesNotApplyError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from torch import Tensor

NOT_INSTALLED = "extra pretrained is not installed; pip install '.[pretrained]'"
BORDER = 0.15  # of a side, added all round by repeating the edge: the detector wants to see whole heads
SEARCH_SIDE = 192  # pixels a side, border included, of what is searched for a face
ASSUMED_FACE = 0.8  # of a side of the photo, in its middle: the face, where none is found
CHIP_SIDE = 150  # pixels a side of the aligned face that the network takes
CHIP_PADDING = 0.25  # of the face, around it: as in the network's training
BATCH = 64


class _Networks(NamedTuple):
    """What dlib offers, with weights; it has no types."""

    dlib: Any
    find: Any
    landmarks: Any
    embed: Any


def is_installed() -> bool:
    """Say whether the extra is there, without loading it."""
    return all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models"))


def embed_faces(images: Tensor) -> Tensor:
    """Return vectors [n, 128] of photos [n, c, h, w] in [0, 1], c 1 or 3; one person's lie close (about 0.6).

    A face is searched for and aligned by five landmarks; where none is found it is taken to fill the photo.

    Raises:
        DoesNotApplyError: the extra is not installed.
    """
    import torch

    vectors = []
    for start in range(0, len(images), BATCH):
        faces = [_aligned(photo) for photo in _search_areas(images[start : start + BATCH])]
        vectors += _networks().embed.compute_face_descriptor(faces)
    return torch.tensor([list(vector) for vector in vectors])


def _search_areas(images: Tensor) -> NDArray[numpy.uint8]:
    """Return the photos with a border, as dlib takes them: uint8 [n, SEARCH_SIDE, SEARCH_SIDE, 3]."""
    from torch.nn import functional as F

    border = round(BORDER * images.shape[-1])
    framed = F.pad(images.cpu(), (border,) * 4, mode="replicate")
    scaled = F.interpolate(framed, (SEARCH_SIDE, SEARCH_SIDE), mode="bicubic", antialias=True)
    colour = scaled.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    pixels: NDArray[numpy.uint8] = (colour.clamp(0, 1) * 255).round().byte().contiguous().numpy()
    return pixels


def _aligned(photo: NDArray[numpy.uint8]) -> NDArray[numpy.uint8]:
    """Return the face of one search area, uint8 [CHIP_SIDE, CHIP_SIDE, 3]."""
    networks = _networks()
    margin = round(SEARCH_SIDE * (1 - ASSUMED_FACE / (1 + 2 * BORDER)) / 2)
    assumed = networks.dlib.rectangle(margin, margin, SEARCH_SIDE - margin, SEARCH_SIDE - margin)
    face = max(networks.find(photo), key=lambda found: found.area(), default=assumed)
    points = networks.landmarks(photo, face)
    chip: NDArray[numpy.uint8] = networks.dlib.get_face_chip(photo, points, CHIP_SIDE, CHIP_PADDING)
    return chip


@functools.cache
def _networks() -> _Networks:
    # The models' package is located, not imported: it asks for the removed pkg_resources.
    package = importlib.util.find_spec("face_recognition_models")
    if not is_installed() or package is None or not package.submodule_search_locations:
        raise DoesNotApplyError(NOT_INSTALLED)
    folder = Path(package.submodule_search_locations[0]) / "models"
    dlib: Any = importlib.import_module("dlib")
    return _Networks(
        dlib,
        find=dlib.get_frontal_face_detector(),
        landmarks=dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat")),
        embed=dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat")),
    )
