"""Which files are photos, whom they show, and the ORL photos that came damaged."""

import os

import numpy
import pytest

from ddm_core.data.sources import (
    ORL_HEADER,
    SourceFile,
    identity_of,
    list_files,
    list_photos,
    read_orl,
    restore_line_feeds,
    tree_digest,
)
from ddm_core.errors import DdmError


def lay(root, *relatives):
    for relative in relatives:
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(b"any")


def test_the_first_folder_is_the_person_however_deep_the_photo_lies(tmp_path):
    lay(
        tmp_path,
        "José María/2024/05/party photo.JPG",
        "王芳/1.webp",
        "anna/b.jpeg",
        "anna/a.bmp",
        "anna/c.pgm",
    )
    assert list_photos(tmp_path) == (
        SourceFile("José María/2024/05/party photo.JPG", "José María"),
        SourceFile("anna/a.bmp", "anna"),
        SourceFile("anna/b.jpeg", "anna"),
        SourceFile("anna/c.pgm", "anna"),
        SourceFile("王芳/1.webp", "王芳"),
    )


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("Anna_Lee_0001.jpg", "Anna_Lee"),
        ("Anna Lee (2).png", "Anna Lee"),
        ("Zoë-12.jpg", "Zoë"),
        ("王芳3.png", "王芳"),
        ("anna.jpg", "anna"),
        ("agent007_1.v2.jpg", "agent007_1.v"),
    ],
)
def test_without_a_folder_the_name_without_its_number_is_the_person(name, person):
    assert identity_of(name) == person


def test_a_number_alone_names_no_person(tmp_path):
    lay(tmp_path, "0001.jpg")
    with pytest.raises(DdmError, match=r"0001\.jpg: names no person; put it into a folder"):
        list_photos(tmp_path)


def test_hidden_files_hidden_folders_and_other_files_are_not_photos(tmp_path):
    lay(tmp_path, "a/1.png", "a/._1.png", ".thumbnails/1.png", "a/notes.txt", "a/.cache/2.png", "Thumbs.db")
    assert [photo.relative for photo in list_photos(tmp_path)] == ["a/1.png"]


def test_symbolic_links_within_the_folder_are_read_once_and_loops_end(tmp_path):
    lay(tmp_path, "photos/anna/1.png", "photos/zoe/2.png")
    (tmp_path / "photos/anna/loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/ben").symlink_to("zoe")
    (tmp_path / "photos/ben 3.png").symlink_to("zoe/2.png")
    (tmp_path / "link").symlink_to("photos")
    for root in (tmp_path / "photos", tmp_path / "link"):
        listing = list_files(root)
        assert [photo.relative for photo in listing.photos] == ["anna/1.png", "ben 3.png", "zoe/2.png"]
        assert listing.rejected == ()


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"")]
)
def test_no_folder_or_no_photo_in_it_is_an_error_that_names_the_folder(tmp_path, make):
    make(tmp_path / "photos")
    with pytest.raises(DdmError, match=r"photos: no (such folder|photo in it)"):
        list_photos(tmp_path / "photos")


@pytest.mark.parametrize("name", [b"broken \xff.png", b"two\nlines.png"])
def test_names_that_cannot_be_written_in_one_line_of_text_are_refused(tmp_path, name):
    (tmp_path / "a").mkdir()
    os.close(os.open(os.fsencode(tmp_path / "a") + b"/" + name, os.O_CREAT))
    with pytest.raises(DdmError, match="rename the file") as caught:
        list_photos(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tree_digest_depends_on_names_and_contents_but_not_on_order():
    assert tree_digest({"a": b"1", "b": b"2"}) == tree_digest({"b": b"2", "a": b"1"})
    assert len({tree_digest(t) for t in ({"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b"1"})}) == 4


def text_mode_copy(content):
    """Every line feed gains a carriage return unless it has one."""
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def striped_photo():
    """Upright stripes that brighten slowly from top to bottom, with three line feed bytes in them."""
    stripes = 100 + 60 * numpy.sin(numpy.arange(92) / 2)
    raster = numpy.add.outer(numpy.linspace(0, 60, 112), stripes).astype(numpy.uint8)
    raster[5, 7] = raster[60, 30] = raster[100, 80] = ord("\n")
    return raster


def test_line_feeds_that_a_text_mode_copy_expanded_are_restored():
    photo = ORL_HEADER + striped_photo().tobytes()
    assert text_mode_copy(photo) != photo
    assert restore_line_feeds(text_mode_copy(photo)) == photo
    assert restore_line_feeds(photo) == photo


def test_a_pair_that_the_copy_left_alone_is_found_by_the_smoothness_of_columns():
    raster = striped_photo()
    raster[60, 29] = ord("\r")
    photo = ORL_HEADER + raster.tobytes()
    assert restore_line_feeds(text_mode_copy(photo)) == photo


def test_the_orl_photos_are_400_of_40_people_and_none_is_damaged():
    photos = read_orl()
    assert sorted(photos) == [
        f"s{person:02}/{photo:02}.pgm" for person in range(1, 41) for photo in range(1, 11)
    ]
    assert {len(content) for content in photos.values()} == {len(ORL_HEADER) + 92 * 112}
    assert {content[: len(ORL_HEADER)] for content in photos.values()} == {ORL_HEADER}
