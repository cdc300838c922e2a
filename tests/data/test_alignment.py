"""Five landmarks are moved onto the ArcFace template by rotation, scale and shift alone."""

import math

import numpy
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from ddm_core.data.alignment import TEMPLATE, align, similarity_transform
from ddm_core.errors import DdmError

COORDINATES = st.floats(-1000, 1000)
FIVE_POINTS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=5, max_size=5).map(numpy.array)
ANGLES = st.floats(-math.pi, math.pi)
SCALES = st.floats(0.01, 100)


def moved(points, angle, scale, shift):
    turn = scale * numpy.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return numpy.asarray(points) @ turn.T + shift


def applied(matrix, points):
    return numpy.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def umeyama(source, target):
    """The general solution by singular values, with the sign that keeps reflections out."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - target_mean).T @ (source - source_mean) / len(source)
    left, singular, right = numpy.linalg.svd(covariance)
    sign = numpy.array([1, numpy.sign(numpy.linalg.det(left) * numpy.linalg.det(right))])
    rotation = left @ numpy.diag(sign) @ right
    scale = (singular * sign).sum() / ((source - source_mean) ** 2).sum() * len(source)
    return numpy.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def smooth_photo(width, height, seed=0):
    noise = numpy.random.default_rng(seed).normal(size=(height, width))
    waves = ndimage.gaussian_filter(noise, 4)
    return Image.fromarray((128 + 100 * waves / abs(waves).max()).astype(numpy.uint8))


@given(points=FIVE_POINTS, angle=ANGLES, scale=SCALES, shift=st.tuples(COORDINATES, COORDINATES))
def test_a_rotation_scale_and_shift_is_recovered(points, angle, scale, shift):
    assume(numpy.ptp(points, axis=0).max() > 0.1)
    target = moved(points, angle, scale, shift)
    matrix = similarity_transform(points, target)
    expected = [scale * math.cos(angle), scale * math.sin(angle)]
    numpy.testing.assert_allclose(matrix[:, 0], expected, rtol=1e-7, atol=1e-7 * scale)
    numpy.testing.assert_allclose(
        applied(matrix, points), target, rtol=0, atol=1e-9 * (1 + abs(target).max())
    )


@given(points=FIVE_POINTS)
def test_any_landmarks_get_the_least_squares_solution_that_does_not_reflect(points):
    assume(numpy.ptp(points, axis=0).max() > 0.1)
    template = numpy.array(TEMPLATE)
    try:
        matrix = similarity_transform(points, template)
    except DdmError as error:
        assert "in no way like a face" in str(error)
        assert numpy.hypot(*umeyama(points, template)[:, 0]) < 1e-6
        return
    assert numpy.linalg.det(matrix[:, :2]) > 0
    best = ((applied(umeyama(points, template), points) - template) ** 2).sum()
    assert ((applied(matrix, points) - template) ** 2).sum() == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        ([(30.0, 40.0)] * 5, "all landmarks are the same point"),
        ([(0.1, 0.1)] * 5, "all landmarks are the same point"),
        (TEMPLATE[:4], "4 landmarks, expected 5"),
        ([*TEMPLATE[:4], (math.nan, 0)], "not pairs of finite numbers"),
        ([(1, 2, 3)] * 5, "not pairs of finite numbers"),
        ([], "not pairs of finite numbers"),
    ],
)
def test_landmarks_without_a_transform_are_refused_with_the_reason(landmarks, reason):
    with pytest.raises(DdmError, match=reason):
        similarity_transform(landmarks, TEMPLATE)


def test_points_whose_only_good_fit_is_a_reflection_are_refused():
    square = [(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)]
    mirrored = [(y, x) for x, y in square]
    with pytest.raises(DdmError, match="in no way like a face"):
        similarity_transform(mirrored, square)


def test_a_face_on_the_template_keeps_every_pixel():
    photo = smooth_photo(112, 112)
    assert numpy.array_equal(align(photo, TEMPLATE, 112)[0], photo)


@pytest.mark.parametrize("size", [64, 112, 224])
@pytest.mark.parametrize(("angle", "scale"), [(0, 1), (0.5, 1.3), (-2.8, 2.5), (1.6, 7)])
def test_landmarks_land_on_the_scaled_template(size, angle, scale):
    landmarks = moved(numpy.array(TEMPLATE) - 56, angle, scale, (500, 450))
    rows, columns = numpy.mgrid[:900, :1000]
    for place, (x, y) in zip(TEMPLATE, landmarks, strict=True):
        spot = 255 * numpy.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (3 * scale) ** 2))
        aligned = align(Image.fromarray(spot.astype(numpy.uint8)), landmarks, size)[0]
        down, across = ndimage.center_of_mass(aligned)
        ratio = size / 112
        assert (across, down) == pytest.approx((place[0] * ratio, place[1] * ratio), abs=0.25)


def test_pixels_are_those_of_an_independent_resampler():
    photo = smooth_photo(200, 180)
    landmarks = moved(numpy.array(TEMPLATE) - 56, 0.3, 1.0, (100, 90))
    matrix = similarity_transform(landmarks, numpy.array(TEMPLATE))
    back = numpy.linalg.inv(numpy.vstack([matrix, [0, 0, 1]]))
    rows_first = back[[1, 0]][:, [1, 0, 2]]
    expected = ndimage.affine_transform(
        numpy.asarray(photo, float), rows_first[:, :2], rows_first[:, 2], output_shape=(112, 112), order=3
    )
    assert abs(align(photo, landmarks, 112)[0] - expected).max() < 2


def test_a_face_that_shrinks_does_not_alias():
    stripes = Image.fromarray(numpy.tile(numpy.array([0, 255], numpy.uint8), (1120, 560)))
    aligned = align(stripes, numpy.array(TEMPLATE) * 10, 112)[0].astype(int)
    assert abs(aligned[5:-5, 5:-5] - 128).max() <= 4


def test_what_lies_outside_of_the_photo_is_black():
    aligned = align(Image.new("L", (60, 112), 200), TEMPLATE, 112)[0]
    assert (aligned[:, :58] == 200).all()
    assert (aligned[:, 62:] == 0).all()


def test_colour_stays_colour():
    aligned = align(Image.new("RGB", (112, 112), (10, 20, 30)), TEMPLATE, 64)
    assert aligned[:, 30, 30].tolist() == [10, 20, 30]


def test_landmarks_named_from_the_persons_own_left_are_refused():
    eyes, nose, mouth = TEMPLATE[:2], TEMPLATE[2:3], TEMPLATE[3:]
    with pytest.raises(DdmError, match="left and right are swapped"):
        align(smooth_photo(112, 112), [*eyes[::-1], *nose, *mouth[::-1]], 112)


def test_a_profile_whose_landmarks_lie_on_one_line_is_aligned():
    profile = [(40, 50), (41, 50), (40, 70), (40, 90), (41, 90)]
    assert align(smooth_photo(112, 112), profile, 112).shape == (1, 112, 112)


def test_landmarks_of_another_photo_are_refused():
    with pytest.raises(DdmError, match="no landmark lies within the photo of 30 x 20 pixels"):
        align(Image.new("L", (30, 20)), TEMPLATE, 112)
