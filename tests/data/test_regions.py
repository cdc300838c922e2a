"""Regions and rejected files lie beside the photos as JSON lines, and are read back strictly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.data.raw import Region, Rejected
from ddm_core.data.regions import (
    printable,
    read_regions,
    read_rejected,
    write_regions,
    write_rejected,
)
from ddm_core.errors import DdmError

NUMBERS = st.floats(-1e6, 1e6)
SIZES = st.floats(0.5, 1e6)
BOXES = st.builds(lambda x, y, width, height: (x, y, x + width, y + height), NUMBERS, NUMBERS, SIZES, SIZES)
LANDMARKS = st.tuples(*[st.tuples(NUMBERS, NUMBERS)] * 5)
NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/."), min_size=1
)
PATHS = st.builds("{}/{}.jpg".format, NAMES, NAMES)
REGIONS = st.dictionaries(PATHS, st.builds(Region, st.none() | BOXES, st.none() | LANDMARKS))
WHOLE = {"path": "anna/1.jpg", "box": [1, 2, 3.5, 4], "landmarks": None}
FIRST = {**WHOLE, "path": "zoe/1.jpg"}
POINTS = [[1, 2]] * 5


@given(REGIONS)
def test_regions_are_read_as_they_were_written(tmp_path_factory, regions):
    folder = tmp_path_factory.mktemp("raw")
    write_regions(folder, regions)
    assert read_regions(folder) == regions


@given(st.lists(st.builds(Rejected, PATHS, NAMES)))
def test_rejected_files_are_read_as_they_were_written_sorted(tmp_path_factory, rejected):
    folder = tmp_path_factory.mktemp("raw")
    write_rejected(folder, rejected)
    assert list(read_rejected(folder)) == sorted(rejected, key=lambda file: (file.relative, file.reason))


def test_lines_are_plain_json_sorted_by_path(tmp_path):
    write_regions(
        tmp_path, {"王芳/1.jpg": Region((1, 2, 3, 4)), "anna/2.jpg": Region(landmarks=((1, 2),) * 5)}
    )
    assert (tmp_path / "regions.jsonl").read_text(encoding="utf-8").splitlines() == [
        '{"path": "anna/2.jpg", "box": null, "landmarks": [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2]]}',
        '{"path": "王芳/1.jpg", "box": [1, 2, 3, 4], "landmarks": null}',
    ]


def test_a_folder_without_the_files_has_no_regions_and_nothing_rejected(tmp_path):
    assert read_regions(tmp_path) == {}
    assert read_rejected(tmp_path) == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no json", "not JSON lines"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not JSON lines"),
        ("[" * 100_000, "not JSON lines"),
        ("[1, 2]", "expected an object of box, landmarks, path"),
        ({"path": "a/1.jpg"}, "expected an object of box, landmarks, path"),
        ({**WHOLE, "score": 1}, "expected an object of box, landmarks, path"),
        ({**WHOLE, "path": "../../etc/1.jpg"}, "no path below the folder"),
        ({**WHOLE, "path": "/etc/1.jpg"}, "no path below the folder"),
        ({**WHOLE, "path": "a/./1.jpg"}, "no path below the folder"),
        ({**WHOLE, "path": "a\nb/1.jpg"}, "not one line of text"),
        ({**WHOLE, "path": "\udcff/1.jpg"}, "not one line of text"),
        ({**WHOLE, "path": 7}, "not one line of text"),
        ({**WHOLE, "box": [1, 2, 3]}, "not a list of 4 finite numbers"),
        ({**WHOLE, "box": [1, 2, 3, True]}, "not a list of 4 finite numbers"),
        ({**WHOLE, "box": [1, 2, 3, float("inf")]}, "not a list of 4 finite numbers"),
        ({**WHOLE, "box": [1, 2, float("nan"), 4]}, "not a list of 4 finite numbers"),
        ({**WHOLE, "box": {"left": 1}}, "not a list of 4 finite numbers"),
        ({**WHOLE, "box": [3, 2, 1, 4]}, "has no area"),
        ({**WHOLE, "landmarks": POINTS[:4]}, "expected five landmarks"),
        ({**WHOLE, "landmarks": [*POINTS[:4], [1]]}, "not a list of 2 finite numbers"),
        (FIRST, "zoe/1.jpg occurs twice"),
    ],
)
def test_a_line_that_is_not_as_written_is_refused_in_one_line_that_names_the_file(tmp_path, line, reason):
    broken = json.dumps(line) if isinstance(line, dict) else line
    content = json.dumps(FIRST).encode() + b"\n" + (broken if isinstance(broken, bytes) else broken.encode())
    (tmp_path / "regions.jsonl").write_bytes(content)
    with pytest.raises(DdmError, match=reason) as caught:
        read_regions(tmp_path)
    assert "regions.jsonl" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_region_that_is_not_finite_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_regions(tmp_path, {"a/1.jpg": Region((0, 0, float("nan"), 1))})
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.characters()))
def test_printable_text_is_one_line_that_can_be_written(text):
    assert len(printable(text).splitlines()) <= 1
    printable(text).encode()


def test_printable_text_keeps_every_script():
    assert printable("José 王芳 \udcff\n") == "José 王芳 \\udcff\\n"
