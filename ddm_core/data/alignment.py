"""Faces brought to one position, size and tilt: five landmarks moved onto the ArcFace template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from ddm_core.data.raw import Point
from ddm_core.errors import DdmError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL.Image import Image

Points: TypeAlias = "Sequence[Point] | NDArray[numpy.float64]"

# Left eye, right eye, nose, left and right corner of the mouth, as recognisers of the ArcFace family are fed.
TEMPLATE: tuple[Point, ...] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
TEMPLATE_SIZE = 112
# A mirrored fit this much better than the proper one is no profile: left and right are swapped.
MIRRORED = 2.0
SMALLEST_SPREAD = 1e-9  # of the coordinates' size: what rounding alone leaves of equal points


def similarity_transform(landmarks: Points, template: Points) -> NDArray[numpy.float64]:
    """Return the 2 x 3 matrix of the rotation, scale and shift that best moves `landmarks` onto `template`.

    Least squares (Umeyama 1991), never a reflection: the matrix is [[a, -b, x], [b, a, y]]. With points as
    complex numbers it is z -> (a + ib) z + (x + iy), where the optimum has a closed form.

    Raises:
        DdmError: unequal numbers of points, points that are not finite, that are all equal, or that no
            rotation and scale brings nearer to the template.
    """
    import numpy

    source, target = _complex(landmarks), _complex(template)
    if source.shape != target.shape:
        raise DdmError(f"{len(source)} landmarks, expected {len(target)}; mend the landmarks")
    centred = source - source.mean()
    spread = float(numpy.vdot(centred, centred).real)
    if spread <= len(source) * (SMALLEST_SPREAD * float(abs(source).max())) ** 2:
        raise DdmError("all landmarks are the same point; mend the landmarks")
    factor = complex(numpy.vdot(centred, target)) / spread
    if abs(factor) <= SMALLEST_SPREAD * abs(target).max() / spread**0.5:
        raise DdmError("the landmarks lie in no way like a face; mend the landmarks")
    shift = complex(target.mean()) - factor * complex(source.mean())
    return numpy.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]], numpy.float64
    )


def align(image: Image, landmarks: Sequence[Point], size: int) -> NDArray[numpy.uint8]:
    """Return the face as uint8 [channels, size, size], its landmarks on the template scaled to `size`.

    A landmark at (x, y) is the centre of the pixel in column x and row y. Bicubic; a face that shrinks to
    half or less is averaged down by a whole factor first, so that it does not alias. What lies outside of
    the photo is black. `image` is L or RGB.

    Raises:
        DdmError: landmarks that are not five, all equal, mirrored, or all outside of the photo.
    """
    import numpy
    from PIL import Image

    _refuse_outside(landmarks, image.size)
    # Pillow counts from a pixel's corner, landmarks from its centre.
    points = numpy.asarray(landmarks, numpy.float64) + 0.5
    template = numpy.asarray(TEMPLATE) * (size / TEMPLATE_SIZE) + 0.5
    matrix = similarity_transform(points, template)
    _refuse_mirrored(points, template)
    inverse = _inverse(matrix)
    factor = max(1, int(numpy.hypot(inverse[0, 0], inverse[1, 0])))
    box = _needed(inverse, size, factor, image.size)
    inverse[:, 2] -= box[:2]
    bands = [
        # In floating point, because Pillow cuts the fraction off 8-bit samples instead of rounding.
        band.convert("F").transform(
            (size, size),
            Image.Transform.AFFINE,
            tuple((inverse / factor).ravel()),
            Image.Resampling.BICUBIC,
        )
        for band in image.reduce(factor, box).split()
    ]
    return numpy.stack([numpy.asarray(band) for band in bands]).round().clip(0, 255).astype(numpy.uint8)


def _needed(
    inverse: NDArray[numpy.float64], size: int, factor: int, photo: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the part of a photo of that width and height that the aligned face is drawn from."""
    import numpy

    corners = inverse @ numpy.array([[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]])
    reach = 3 * factor  # of the bicubic kernel
    left, top = (numpy.floor(corners.min(axis=1)) - reach).clip(0, numpy.array(photo) - 1)
    right, bottom = (numpy.ceil(corners.max(axis=1)) + reach).clip(1, photo)
    return int(left), int(top), int(right), int(bottom)


def _complex(points: Points) -> NDArray[numpy.complex128]:
    import numpy

    coordinates = numpy.asarray(points, numpy.float64)
    if coordinates.ndim != 2 or coordinates.shape[1] != 2 or not numpy.isfinite(coordinates).all():
        raise DdmError("the landmarks are not pairs of finite numbers; mend the landmarks")
    return coordinates[:, 0] + 1j * coordinates[:, 1]


def _inverse(matrix: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    import numpy

    turn = complex(matrix[0, 0], matrix[1, 0])
    back = 1 / turn
    shift = -back * complex(matrix[0, 2], matrix[1, 2])
    return numpy.array([[back.real, -back.imag, shift.real], [back.imag, back.real, shift.imag]])


def _refuse_outside(landmarks: Sequence[Point], size: tuple[int, int]) -> None:
    width, height = size
    if not any(0 <= x < width and 0 <= y < height for x, y in landmarks):
        raise DdmError(f"no landmark lies within the photo of {width} x {height} pixels; mend the landmarks")


def _refuse_mirrored(landmarks: NDArray[numpy.float64], template: NDArray[numpy.float64]) -> None:
    """Landmarks named from the person's own left would turn the face upside down, or shrink it to a dot."""
    import numpy

    source, target = _complex(landmarks), _complex(template)
    centred = source - source.mean()
    proper, mirrored = abs(numpy.vdot(centred, target)), abs(numpy.vdot(centred.conj(), target))
    if mirrored > MIRRORED * proper:
        raise DdmError("the landmarks lie mirrored, left and right are swapped; mend the landmarks")
