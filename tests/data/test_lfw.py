"""LFW's photos come whole and in order from a folder or any archive; what does not belong is rejected."""

import os
import re
import unicodedata

import pytest
from lfw_files import people_text, photo, photos, write_folder, write_tar, write_zip

from ddm_core.data.lfw import MAX_PHOTO_BYTES, read
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.errors import DdmError

PEOPLE = {"Aaron_Eckhart": 1, "Catherine_Zeta-Jones": 3, "José_Álvarez": 2}
FILES = photos(PEOPLE)


def split(found):
    """Read photos: relative -> content, and rejected files: relative -> reason."""
    found = list(found)
    good = {photo.relative: photo.content for photo in found if isinstance(photo, RawPhoto)}
    bad = {file.relative: file.reason for file in found if isinstance(file, Rejected)}
    assert len(good) + len(bad) == len(found)
    assert all("\n" not in reason for reason in bad.values())
    return good, bad


def below(folder, files):
    return {f"{folder}{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    "outer", ["", "lfw/", "lfw_funneled/", "lfw-deepfunneled/lfw-deepfunneled/", "./lfw/"]
)
@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_every_form_of_the_set_gives_the_same_photos_in_the_same_order(tmp_path, write, outer):
    set_path = write(tmp_path / "set", below(outer, FILES))
    assert list(read(set_path)) == [RawPhoto(name, content) for name, content in FILES.items()]


def test_protocol_files_and_hidden_files_beside_the_people_are_passed_over(tmp_path):
    others = {
        "lfw_funneled/pairs_01.txt": b"",
        "pairs.txt": b"",
        "lfw-deepfunneled/peopleDevTest.txt": b"",
        "lfw-names.txt": b"",
        "lfw/Aaron_Eckhart/._Aaron_Eckhart_0001.jpg": b"",
    }
    good, bad = split(
        read(write_tar(tmp_path / "lfw.tgz", others | below("lfw/", FILES) | {".DS_Store": b""}))
    )
    assert (good, bad) == (FILES, {})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Anna_Lee/Aaron_Eckhart_0002.jpg", "named after Aaron_Eckhart, in the folder of Anna_Lee"),
        ("Anna_Lee/Anna_Lee_001.jpg", "four digits from 0001"),
        ("Anna_Lee/Anna_Lee_00001.jpg", "four digits from 0001|named after"),
        ("Anna_Lee/Anna_Lee_0000.jpg", "four digits from 0001"),
        ("Anna_Lee/Anna_Lee_١٢٣٤.jpg", "four digits from 0001"),
        ("Anna_Lee/Anna_Lee_0001.png", r"four digits from 0001, and \.jpg"),
        ("Anna_Lee/Anna_Lee_0001.jpg.jpg", "four digits from 0001"),
        ("Anna_Lee/notes.txt", "not a photo by its suffix"),
        ("notes.txt", "not a photo by its suffix"),
        ("Anna_Lee/people.txt", "not a photo by its suffix"),
        ("Anna_Lee/more/Anna_Lee_0001.jpg", "expected Person_Name/Person_Name_0001.jpg"),
        ("Anna_Lee_0001.jpg", "expected Person_Name/Person_Name_0001.jpg"),
        (".Anna/.Anna_0001.jpg", None),
        (".Anna/Anna_0001.jpg", None),
        ("An\nna/An\nna_0001.jpg", "control or undecodable"),
    ],
)
@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_a_file_out_of_its_place_is_rejected_and_the_others_are_read(tmp_path, write, name, reason):
    good, bad = split(read(write(tmp_path / "set", FILES | {name: b"any"})))
    assert good == FILES
    if reason is None:
        assert bad == {}
    else:
        assert list(bad) == [name.replace("\n", "\\n")]
        assert re.search(reason, *bad.values())


def test_names_are_brought_to_one_unicode_form(tmp_path):
    name = unicodedata.normalize("NFD", "José_Álvarez/José_Álvarez_0001.jpg")
    (found,) = read(write_tar(tmp_path / "lfw.tgz", {name: photo(1)}))
    assert found == RawPhoto("José_Álvarez/José_Álvarez_0001.jpg", photo(1))


def test_undecodable_names_are_rejected_in_text_that_can_be_written(tmp_path):
    root = write_folder(tmp_path / "lfw", FILES)
    person = os.fsencode(root) + b"/Ren\xe9"
    os.mkdir(person)  # noqa: PTH102 - a name that is no text
    os.close(os.open(person + b"/Ren\xe9_0001.jpg", os.O_CREAT))
    good, bad = split(read(root))
    assert good == FILES
    (shown,) = bad
    assert shown.encode() == rb"Ren\udce9/Ren\udce9_0001.jpg"


def test_a_photo_that_stands_twice_is_read_once(tmp_path):
    name = "Aaron_Eckhart/Aaron_Eckhart_0001.jpg"
    path = write_tar(tmp_path / "lfw.tgz", below("lfw/", FILES) | {name: b"another"})
    good, bad = split(read(path))
    assert good == FILES
    assert bad == {name: f"a second {name}; remove one of the two"}


def test_a_file_far_too_large_is_rejected_and_the_others_are_read(tmp_path):
    path = write_tar(
        tmp_path / "set.tgz", {"A/A_0001.jpg": bytes(MAX_PHOTO_BYTES + 1), "B/B_0001.jpg": photo(2)}
    )
    assert split(read(path)) == (
        {"B/B_0001.jpg": photo(2)},
        {"A/A_0001.jpg": "larger than 16 MiB; make it smaller"},
    )


def test_no_such_path_and_no_photo_in_it_are_errors(tmp_path):
    with pytest.raises(DdmError, match="gone: no such file or folder"):
        list(read(tmp_path / "gone"))
    with pytest.raises(DdmError, match="no photo of LFW in it"):
        list(read(write_folder(tmp_path / "other", {"Anna Lee/1.jpg": b""})))


def test_the_photos_agree_with_people_txt(tmp_path):
    root = write_folder(tmp_path / "lfw", FILES)
    (tmp_path / "people.txt").write_text(
        people_text([{"José_Álvarez": 2}, {"Aaron_Eckhart": 1, "Catherine_Zeta-Jones": 3}])
    )
    assert len(list(read(root, people=tmp_path / "people.txt"))) == len(FILES)


def test_photos_missing_or_too_many_against_people_txt_are_one_error_that_names_the_first_people(tmp_path):
    root = write_folder(tmp_path / "lfw", FILES)
    listed = {"Aaron_Eckhart": 2, "Catherine_Zeta-Jones": 2, "Zoe": 1, "Zora": 4}
    (tmp_path / "people.txt").write_text(people_text([listed]))
    with pytest.raises(
        DdmError,
        match="Aaron_Eckhart has 1 of 2 photos, Catherine_Zeta-Jones has 3 of 2 photos, José_Álvarez has 2"
        " of 0 photos and 2 more people; ",
    ):
        list(read(root, people=tmp_path / "people.txt"))
