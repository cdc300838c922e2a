"""LFW's photos come whole and in order from a folder or any archive; what does not belong is rejected."""

import gzip
import os
import re
import struct
import tarfile
import tracemalloc
import unicodedata
import zipfile

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


WRITERS = {
    "folder": write_folder,
    "tgz": write_tar,
    "tar": lambda path, files: write_tar(path, files, "w:"),
    "tar.bz2": lambda path, files: write_tar(path, files, "w:bz2"),
    "tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
    "zip": write_zip,
    "stored zip": lambda path, files: write_zip(path, files, zipfile.ZIP_STORED),
}
ARCHIVES = {name: write for name, write in WRITERS.items() if name != "folder"}


@pytest.mark.parametrize(
    "outer", ["", "lfw/", "lfw_funneled/", "lfw-deepfunneled/lfw-deepfunneled/", "./lfw/"]
)
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_form_of_the_set_gives_the_same_photos_in_the_same_order(tmp_path, write, outer):
    set_path = write(tmp_path / "set", below(outer, FILES))
    assert list(read(set_path)) == [RawPhoto(name, content) for name, content in FILES.items()]


def test_protocol_files_and_hidden_files_beside_the_people_are_passed_over(tmp_path):
    others = {
        "lfw_funneled/pairs_01.txt": b"",
        "pairs.txt": b"",
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
        ("Anna_Lee/notes.txt", "four digits from 0001"),
        ("Anna_Lee/more/Anna_Lee_0001.jpg", "expected Person_Name/Person_Name_0001.jpg"),
        ("Anna_Lee_0001.jpg", "expected Person_Name/Person_Name_0001.jpg"),
        (".Anna/.Anna_0001.jpg", None),
        (".Anna/Anna_0001.jpg", "must not begin with a dot"),
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


@pytest.mark.parametrize(
    "name",
    [
        "../Anna/Anna_0001.jpg",
        "/Anna/Anna_0001.jpg",
        "lfw/../../Anna/Anna_0001.jpg",
        "C:\\Anna\\Anna_0001.jpg",
    ],
)
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_member_that_leads_out_of_the_archive_is_rejected(tmp_path, write, name):
    good, bad = split(read(write(tmp_path / "set", FILES | {name: b"any"})))
    assert good == FILES
    assert [name in bad, len(bad)] == [True, 1]
    assert "leads out of the set" in bad[name]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_rejected_and_never_followed(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    member = tarfile.TarInfo("lfw/Anna_Lee/Anna_Lee_0001.jpg")
    member.type, member.linkname = kind, str(secret)
    good, bad = split(read(write_tar(tmp_path / "lfw.tgz", FILES, links=[member])))
    assert good == FILES
    assert "not followed" in bad[member.name]


def test_folders_in_a_tar_are_no_photos(tmp_path):
    folder = tarfile.TarInfo("lfw/Anna_Lee")
    folder.type = tarfile.DIRTYPE
    assert split(read(write_tar(tmp_path / "lfw.tgz", FILES, links=[folder]))) == (FILES, {})


def test_links_in_a_zip_are_rejected(tmp_path):
    link = zipfile.ZipInfo("lfw/Anna_Lee/Anna_Lee_0001.jpg")
    link.external_attr = 0o120777 << 16
    path = write_zip(tmp_path / "lfw.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    good, bad = split(read(path))
    assert good == FILES
    assert "not followed" in bad[link.filename]


def test_links_in_a_folder_are_followed_once_and_broken_ones_are_rejected(tmp_path):
    cache = write_folder(tmp_path / "cache", {"1": photo(7)})
    root = write_folder(tmp_path / "lfw", FILES)
    (root / "Anna_Lee").mkdir()
    (root / "Anna_Lee/Anna_Lee_0001.jpg").symlink_to(cache / "1")
    (root / "Anna_Lee/Anna_Lee_0002.jpg").symlink_to(cache / "gone")
    (root / "Anna_Lee/loop").symlink_to(root)
    (root / "lfw").symlink_to(root)
    good, bad = split(read(root))
    assert good == FILES | {"Anna_Lee/Anna_Lee_0001.jpg": photo(7)}
    assert list(bad) == ["Anna_Lee/Anna_Lee_0002.jpg"]


def test_a_pipe_in_a_folder_is_rejected_and_not_waited_for(tmp_path):
    root = write_folder(tmp_path / "lfw", FILES)
    os.mkfifo(root / "Aaron_Eckhart/Aaron_Eckhart_0002.jpg")
    good, bad = split(read(root))
    assert good == FILES
    assert bad == {"Aaron_Eckhart/Aaron_Eckhart_0002.jpg": "neither a file nor a folder; remove it"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_rejected(tmp_path):
    root = write_folder(tmp_path / "lfw", FILES)
    (root / "Aaron_Eckhart").chmod(0)
    (root / "José_Álvarez/José_Álvarez_0001.jpg").chmod(0)
    _, bad = split(read(root))
    (root / "Aaron_Eckhart").chmod(0o755)
    assert list(bad) == ["José_Álvarez/José_Álvarez_0001.jpg", "Aaron_Eckhart"]
    assert "permission" in bad["Aaron_Eckhart"].lower()


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


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_a_photo_that_stands_twice_is_read_once(tmp_path, mode):
    name = "Aaron_Eckhart/Aaron_Eckhart_0001.jpg"
    path = write_tar(tmp_path / "lfw.tar", below("lfw/", FILES) | {name: b"another"}, mode)
    good, bad = split(read(path))
    assert good == FILES
    assert bad == {name: "stands twice in the set; remove one"}


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_a_file_far_too_large_is_rejected_without_being_held_whole(tmp_path, write):
    path = write(tmp_path / "set", {"A/A_0001.jpg": bytes(8 * MAX_PHOTO_BYTES), "B/B_0001.jpg": photo(2)})
    tracemalloc.start()
    good, bad = split(read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (list(good), list(bad)) == (["B/B_0001.jpg"], ["A/A_0001.jpg"])
    assert peak < 4 * MAX_PHOTO_BYTES


def test_memory_does_not_grow_with_the_archive(tmp_path):
    def peak(count):
        path = write_tar(tmp_path / f"{count}.tar", photos({f"Person_{n}": 1 for n in range(count)}), "w:")
        tracemalloc.start()
        assert sum(1 for _ in read(path)) == count
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result, path.stat().st_size

    peak(20)  # what is allocated but once
    (small, small_size), (large, large_size) = peak(20), peak(120)
    assert large_size - small_size > 1_000_000
    assert large - small < 0.05 * (large_size - small_size)


@pytest.mark.parametrize("write", ARCHIVES.values(), ids=ARCHIVES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_an_archive_cut_off_anywhere_is_an_error_not_a_smaller_set(tmp_path, write, share):
    path = write(tmp_path / "lfw", FILES)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DdmError, match="a damaged archive or none at all") as caught:
        list(read(path))
    assert "\n" not in str(caught.value)


def test_a_tar_cut_off_between_two_photos_is_an_error(tmp_path):
    path = write_tar(tmp_path / "lfw.tar", FILES, "w:")
    with tarfile.open(path) as archive:
        boundary = archive.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[:boundary])
    with pytest.raises(DdmError, match="no proper end"):
        list(read(path))


def test_a_damaged_header_in_the_middle_is_an_error(tmp_path):
    path = write_tar(tmp_path / "lfw.tar", FILES, "w:")
    with tarfile.open(path) as archive:
        boundary = archive.getmembers()[3].offset
    content = bytearray(path.read_bytes())
    content[boundary + 148 : boundary + 156] = b"9999999\0"
    path.write_bytes(content)
    with pytest.raises(DdmError, match="no proper end"):
        list(read(path))


def test_a_wrong_checksum_at_the_end_of_a_compressed_archive_is_an_error(tmp_path):
    path = write_tar(tmp_path / "lfw.tgz", FILES)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(DdmError, match="CRC"):
        list(read(path))


def test_a_damaged_photo_in_a_zip_is_rejected_and_the_others_are_read(tmp_path):
    path = write_zip(tmp_path / "lfw.zip", FILES, zipfile.ZIP_STORED)
    name = "Aaron_Eckhart/Aaron_Eckhart_0001.jpg"
    content = path.read_bytes()
    place = content.index(FILES[name])
    path.write_bytes(content[: place + 30] + b"!" + content[place + 31 :])
    good, bad = split(read(path))
    assert good == {other: content for other, content in FILES.items() if other != name}
    assert "CRC-32" in bad[name]


def test_an_encrypted_photo_in_a_zip_is_rejected(tmp_path):
    path = write_zip(tmp_path / "lfw.zip", {"A/A_0001.jpg": photo(1), "B/B_0001.jpg": photo(2)})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    struct.pack_into("<H", content, directory + 8, 1)
    path.write_bytes(content)
    good, bad = split(read(path))
    assert (list(good), list(bad)) == (["B/B_0001.jpg"], ["A/A_0001.jpg"])
    assert "encrypted" in bad["A/A_0001.jpg"]


@pytest.mark.parametrize("offset", [46, 6], ids=["a name that is no text", "a version of the future"])
def test_a_damaged_directory_of_a_zip_is_an_error(tmp_path, offset):
    path = write_zip(tmp_path / "lfw.zip", photos({"José": 1}))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = 0xFF
    path.write_bytes(content)
    with pytest.raises(DdmError, match="a damaged archive or none at all") as caught:
        list(read(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"no archive at all" * 100, gzip.compress(b"no tar inside" * 100), b"PK"]
)
def test_a_file_that_is_no_archive_is_an_error(tmp_path, content):
    (tmp_path / "lfw").write_bytes(content)
    with pytest.raises(DdmError, match="lfw: a damaged archive or none at all"):
        list(read(tmp_path / "lfw"))


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
