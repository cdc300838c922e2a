"""Any photos become crops of one size, at several scales, named after the photo they come from."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy
import pytest
from PIL import Image

from ddm_core.data import scikit_image
from ddm_core.data.photo_crops import CROP, read
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.errors import DdmError
from ddm_core.params import FetchParams, load
from ddm_core.stages import fetch


@pytest.fixture
def folder(tmp_path):
    """One detailed photo of 300x200 pixels, one drawing of two colours, and one file that is no photo."""
    place = tmp_path / "photos"
    place.mkdir()
    draws = numpy.random.default_rng(0)
    Image.fromarray(draws.integers(0, 256, (200, 300, 3), dtype=numpy.uint8)).save(place / "sea.png")
    Image.fromarray(255 * numpy.eye(200, dtype=numpy.uint8)).save(place / "line.png")
    (place / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    return place


def test_a_photo_is_covered_from_edge_to_edge_at_every_scale_it_is_large_enough_for(folder):
    crops = {photo.relative for photo in read(folder) if isinstance(photo, RawPhoto)}
    whole = {f"sea/100_{row:02}_{column:02}.png" for row in range(2) for column in range(3)}
    assert crops == whole | {f"sea/070_{row:02}_{column:02}.png" for row in range(2) for column in range(2)}


def test_drawings_give_no_crop_and_broken_files_are_named(folder):
    found = list(read(folder))
    assert not any(isinstance(photo, RawPhoto) and photo.relative.startswith("line") for photo in found)
    rejected = {photo.relative: photo.reason for photo in found if isinstance(photo, Rejected)}
    assert rejected.keys() == {"line.png", "torn.jpg"}
    assert "gives no crop" in rejected["line.png"]


def test_of_two_photos_that_would_give_crops_of_one_name_the_second_is_rejected(folder):
    (folder / "more").mkdir()
    (folder / "more/sea.png").write_bytes((folder / "sea.png").read_bytes())
    rejected = {photo.relative: photo.reason for photo in read(folder) if isinstance(photo, Rejected)}
    assert "a second photo called sea" in rejected["sea.png"]


def test_fetch_lays_square_crops_that_are_the_same_every_time(folder, tmp_path):
    params = FetchParams("photo_crops", uri=str(folder))
    first, again = (fetch.run(params, raw=tmp_path / name) for name in ("first", "again"))
    assert (first.photos, first.identities, first.rejected, first.found) == (10, 1, 2, 3)
    assert first.digest == again.digest
    sizes = {Image.open(path).size for path in (tmp_path / "first/sea").iterdir()}
    assert sizes == {(CROP, CROP)}


def test_a_folder_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(DdmError, match="no such folder"):
        list(read(tmp_path / "nowhere"))


def test_the_photos_of_scikit_image_are_those_that_the_photo_model_names(tmp_path, monkeypatch):
    try:
        distribution(scikit_image.DISTRIBUTION)
    except PackageNotFoundError:
        pytest.skip("scikit-image is not installed (extra `photo`)")
    params = load(Path(__file__).parents[2] / "photo" / "params.yaml").fetch
    monkeypatch.chdir(tmp_path)
    assert fetch.run(params, raw=Path("data/raw")).identities == len(scikit_image.PHOTOS)


def test_without_scikit_image_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(scikit_image, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(DdmError, match=r"not installed.*ddm-pipeline\[photo\]"):
        fetch.run(FetchParams("scikit_image"), raw=tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
