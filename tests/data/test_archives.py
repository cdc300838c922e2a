"""Folders and archives give their files one by one; what leads out, or is damaged, never passes unnoticed."""

import gzip
import os
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile

import pytest
from lfw_files import write_folder, write_tar, write_zip
from unprivileged import as_nobody, open_folder

from ddm_core.data.archives import UnfitError, entries, photos
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.errors import DdmError

FILES = {f"anna/{number}.jpg": os.urandom(6000) for number in range(1, 8)}
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
COMPRESSED_TARS = {name: WRITERS[name] for name in ("tgz", "tar.bz2", "tar.xz")}
every_form = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
every_archive = pytest.mark.parametrize("write", ARCHIVES.values(), ids=ARCHIVES)


def split(path, **settings):
    """Files read: name -> content, and those that cannot be taken: name -> reason, each of one line."""
    good, bad = {}, {}
    for entry in entries(path, **settings):
        if isinstance(entry, Rejected):
            bad[entry.relative] = entry.reason
            continue
        assert entry.name not in good.keys() | bad.keys()
        try:
            good[entry.name] = entry.read()
        except UnfitError as reason:
            bad[entry.name] = str(reason)
    assert all("\n" not in reason for reason in bad.values())
    return good, bad


def refusal(path):
    with pytest.raises(DdmError) as caught:
        split(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def change(path, place, content):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def header_of(path, number):
    """Where the header of a member of a plain tar begins."""
    with tarfile.open(path) as archive:
        return archive.getmembers()[number].offset


@every_form
def test_every_form_gives_the_same_files_whole_hidden_ones_too(tmp_path, write):
    files = FILES | {"anna/.hidden": b"", "list.txt": b"a list"}
    assert split(write(tmp_path / "set", files)) == (files, {})


def test_a_folder_comes_in_the_order_of_its_numbers_and_archives_in_their_own(tmp_path):
    own = ["b10/x.jpg", "b9/x10.jpg", "10/2.jpg", "9/10.jpg", "9/9.jpg", "100/1.jpg", "0009/1.jpg"]
    by_number = ["0009/1.jpg", "9/9.jpg", "9/10.jpg", "10/2.jpg", "100/1.jpg", "b9/x10.jpg", "b10/x.jpg"]
    for name, write in WRITERS.items():
        found = [entry.name for entry in entries(write(tmp_path / name, dict.fromkeys(own, b"any")))]
        assert found == (by_number if name == "folder" else own)


@every_form
def test_a_file_that_nobody_reads_does_not_stand_in_the_way_of_the_next(tmp_path, write):
    found = entries(write(tmp_path / "set", FILES))
    assert [entry.read() for entry in found if entry.name > "anna/4.jpg"] == list(FILES.values())[4:]


def test_the_form_is_told_by_content_whatever_the_name(tmp_path):
    files = {"PK_Smith/1.jpg": b"begins like a zip"}
    assert split(write_tar(tmp_path / "set.dat", files, "w:")) == (files, {})
    assert split(write_zip(tmp_path / "set.tar", files)) == (files, {})


# What is rejected


@pytest.mark.parametrize("name", ["../1.jpg", "/anna/1.jpg", "anna/../../1.jpg", "C:\\anna\\1.jpg"])
@every_archive
def test_a_name_that_leads_out_is_rejected(tmp_path, write, name):
    good, bad = split(write(tmp_path / "set", FILES | {name: b"any"}))
    assert good == FILES
    assert bad == {name: "its name leads out of the set, here or on Windows; rename it"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_rejected_and_never_followed(tmp_path, kind):
    (tmp_path / "secret").write_bytes(b"secret")
    member = tarfile.TarInfo("anna/9.jpg")
    member.type, member.linkname = kind, str(tmp_path / "secret")
    good, bad = split(write_tar(tmp_path / "set.tgz", FILES, links=[member]))
    assert good == FILES
    assert "not followed" in bad["anna/9.jpg"]


def test_links_in_a_zip_are_rejected(tmp_path):
    path = write_zip(tmp_path / "set.zip", FILES)
    link = zipfile.ZipInfo("anna/9.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    good, bad = split(path)
    assert good == FILES
    assert "not followed" in bad["anna/9.jpg"]


def test_folders_in_an_archive_are_no_files(tmp_path):
    folder = tarfile.TarInfo("boris")
    folder.type = tarfile.DIRTYPE
    assert split(write_tar(tmp_path / "set.tgz", FILES, links=[folder])) == (FILES, {})
    assert split(write_zip(tmp_path / "set.zip", FILES | {"boris/": b""})) == (FILES, {})


def test_links_to_files_within_a_folder_are_read_and_those_out_of_it_are_rejected(tmp_path):
    outside = write_folder(tmp_path / "set-outside", {"1.jpg": b"secret"})
    root = write_folder(tmp_path / "set", {"anna/1.jpg": b"anna", ".store/2.jpg": b"hidden"})
    for name, target in {
        "anna/2.jpg": "1.jpg",
        "anna/3.jpg": root / ".store/2.jpg",
        "anna/4.jpg": outside / "1.jpg",
        "anna/5.jpg": "missing.jpg",
        "anna/6.jpg": "6.jpg",
        "anna/7.jpg": "/dev/zero",
        "anna/loop": "..",
        "again": "anna",
        "outside": outside,
        "hidden": ".store",
    }.items():
        (root / name).symlink_to(target)
    good, bad = split(root)
    assert good == {
        "anna/1.jpg": b"anna",
        "anna/2.jpg": b"anna",
        "anna/3.jpg": b"hidden",
        ".store/2.jpg": b"hidden",
    }
    assert {name: reason.partition(";")[0] for name, reason in bad.items()} == {
        "anna/4.jpg": "a link out of the folder",
        "anna/5.jpg": "a link that leads nowhere (No such file or directory)",
        "anna/6.jpg": "a link that leads nowhere (Too many levels of symbolic links)",
        "anna/7.jpg": "a link out of the folder",
        "outside": "a link out of the folder",
        "hidden": "a link to a hidden folder",
    }


def test_a_folder_given_by_a_link_is_read(tmp_path):
    write_folder(tmp_path / "set", FILES)
    (tmp_path / "link").symlink_to("set")
    assert split(tmp_path / "link") == (FILES, {})


def test_a_pipe_in_a_folder_is_rejected_and_not_waited_for(tmp_path):
    root = write_folder(tmp_path / "set", FILES)
    os.mkfifo(root / "anna/9.jpg")
    assert split(root) == (FILES, {"anna/9.jpg": "is not a regular file; replace it"})


def test_folders_may_nest_deeper_than_python_calls(tmp_path):
    for depth in range(1, 1201):
        (tmp_path / ("d/" * depth)).mkdir()
    name = "d/" * 1200 + "1.jpg"
    (tmp_path / name).write_bytes(b"any")
    try:
        assert split(tmp_path) == ({name: b"any"}, {})
    finally:  # pytest's own clean-up is recursive
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_what_may_not_be_read_is_rejected():
    def names_and_reasons():
        good, bad = split(root)
        return sorted(good), bad

    with open_folder() as folder:
        root = write_folder(folder / "set", FILES | {"boris/1.jpg": b"", "carla/1.jpg": b""})
        (root / "boris").chmod(0)
        (root / "carla/1.jpg").chmod(0)
        good, bad = as_nobody(names_and_reasons)
        (root / "boris").chmod(0o755)
    assert good == sorted(FILES)
    assert list(bad) == ["boris", "carla/1.jpg"]
    assert all("Permission denied" in reason for reason in bad.values())


def test_a_set_that_may_not_be_read_is_refused():
    with open_folder() as folder:
        root = write_folder(folder / "set", FILES)
        archive = write_tar(folder / "set.tgz", FILES)
        for path, reason in ((root, "cannot be listed"), (archive, "cannot be read")):
            path.chmod(0)
            assert f"{reason} (Permission denied)" in as_nobody(lambda path=path: refusal(path))
        root.chmod(0o755)


@every_form
def test_a_file_too_large_is_rejected_without_being_held(tmp_path, write):
    path = write(tmp_path / "set", {"a.jpg": bytes(2**23), "b.jpg": bytes(2**20)})
    tracemalloc.start()
    good, bad = split(path, max_bytes=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(good) == ["b.jpg"]
    assert bad == {"a.jpg": "larger than 1 MiB; make it smaller"}
    assert peak < 2**22 + (2**23 if write is WRITERS["tar.xz"] else 0)  # xz unpacks with a window of 8 MiB


def test_a_zip_whose_directory_understates_a_size_is_not_unpacked_further(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"a.jpg": bytes(2**25)})
    change(path, path.read_bytes().index(b"PK\x01\x02") + 24, struct.pack("<L", 1000))
    tracemalloc.start()
    good, bad = split(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (list(good), list(bad)) == ([], ["a.jpg"])
    assert peak < 2**20


def test_memory_does_not_grow_with_a_tar(tmp_path):
    def peak(count):
        path = write_tar(
            tmp_path / f"{count}.tar", {f"{n}.jpg": FILES["anna/1.jpg"] for n in range(count)}, "w:"
        )
        tracemalloc.start()
        assert sum(len(entry.read()) for entry in entries(path)) == 6000 * count
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(20)  # what is allocated but once
    assert peak(400) < peak(20) + 20_000


# Damage


@every_archive
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_an_archive_cut_off_anywhere_is_an_error_not_a_smaller_set(tmp_path, write, share):
    path = write(tmp_path / "set", FILES)
    os.truncate(path, int(share * path.stat().st_size))
    assert refusal(path).startswith("a damaged archive or none at all (")


@pytest.mark.parametrize("read", [True, False])
def test_a_tar_cut_off_within_or_between_two_files_is_an_error_read_or_not(tmp_path, read):
    path = write_tar(tmp_path / "set.tar", FILES, "w:")
    for end in (header_of(path, 5), header_of(path, 4) + 600):
        os.truncate(path, end)
        with pytest.raises(DdmError, match=r"anna/5\.jpg"):
            for entry in entries(path):
                if read:
                    entry.read()


@pytest.mark.parametrize("header", [b"\xff" * 512, bytes(512)], ids=["damaged", "zeros"])
def test_a_header_in_the_middle_is_not_taken_for_the_end_of_a_tar(tmp_path, header):
    path = write_tar(tmp_path / "set.tar", FILES, "w:")
    change(path, header_of(path, 3), header)
    assert "(from anna/3.jpg on: no proper end at byte " in refusal(path)


@pytest.mark.parametrize("write", COMPRESSED_TARS.values(), ids=COMPRESSED_TARS)
@pytest.mark.parametrize("where", [0.5, 0.999])
def test_wrong_bytes_in_a_compressed_tar_are_an_error(tmp_path, write, where):
    path = write(tmp_path / "set", FILES)
    place = int(path.stat().st_size * where)
    change(path, place, bytes([path.read_bytes()[place] ^ 255]))
    assert refusal(path).startswith("a damaged archive or none at all (")


def test_the_checksum_at_the_end_of_a_gzip_file_is_looked_at(tmp_path):
    path = write_tar(tmp_path / "set.tgz", FILES)
    change(path, path.stat().st_size - 8, bytes([path.read_bytes()[-8] ^ 1]))
    assert "CRC" in refusal(path)


def test_a_damaged_file_in_a_zip_is_rejected_and_the_others_are_read(tmp_path):
    path = write_zip(tmp_path / "set.zip", FILES, zipfile.ZIP_STORED)
    change(path, path.read_bytes().index(FILES["anna/2.jpg"]) + 30, b"wrong")
    good, bad = split(path)
    assert good == {name: content for name, content in FILES.items() if name != "anna/2.jpg"}
    assert "damaged in the archive (Bad CRC-32" in bad["anna/2.jpg"]


def test_an_encrypted_file_in_a_zip_is_rejected(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"1.jpg": b"1", "2.jpg": b"2"})
    change(path, path.read_bytes().index(b"PK\x01\x02") + 8, b"\x01")
    good, bad = split(path)
    assert good == {"2.jpg": b"2"}
    assert "encrypted" in bad["1.jpg"]


@pytest.mark.parametrize("offset", [46, 6], ids=["a name that is no text", "a version of the future"])
def test_a_damaged_directory_of_a_zip_is_an_error(tmp_path, offset):
    path = write_zip(tmp_path / "set.zip", {"José.jpg": b"any"})
    change(path, path.read_bytes().index(b"PK\x01\x02") + offset, b"\xff")
    assert refusal(path).startswith("a damaged archive or none at all (its directory: ")


@pytest.mark.parametrize("content", [b"", b"no archive " * 100, gzip.compress(b"no tar inside" * 100), b"PK"])
@pytest.mark.parametrize("name", ["set", "set.zip"])
def test_a_file_that_is_no_archive_is_an_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith("a damaged archive or none at all (")


def test_what_is_neither_file_nor_folder_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe"):
        assert refusal(tmp_path / name).startswith("no such file or folder; name a folder or an archive")


# Photos among the files


def relative_of(name):
    if name.endswith(".txt"):
        return None
    if name.startswith("stray"):
        raise UnfitError("a stray")
    return name.rpartition("/")[2]


@every_form
def test_photos_come_under_the_names_given_to_them(tmp_path, write):
    files = {"a/1.jpg": b"1", "list.txt": b"", "outer/a/2.jpg": b"2", "stray\n.jpg": b""}
    found = list(photos(write(tmp_path / "set", files), relative_of, expected="anybody"))
    assert sorted(found, key=lambda photo: photo.relative) == [
        RawPhoto("1.jpg", b"1"),
        RawPhoto("2.jpg", b"2"),
        Rejected("stray\\n.jpg", "a stray"),
    ]


@every_form
def test_the_second_photo_of_one_name_is_rejected(tmp_path, write):
    path = write(tmp_path / "set", {"a/1.jpg": b"first", "b/1.jpg": b"second"})
    assert list(photos(path, relative_of, expected="anybody")) == [
        RawPhoto("1.jpg", b"first"),
        Rejected("b/1.jpg", "a second 1.jpg; remove one of the two"),
    ]


def test_links_that_are_no_photos_are_passed_over(tmp_path):
    root = write_folder(tmp_path / "set", {"a/1.jpg": b"1"})
    (root / "readme.txt").symlink_to("/etc/passwd")
    assert list(photos(root, relative_of, expected="anybody")) == [RawPhoto("1.jpg", b"1")]


@every_form
def test_no_photo_at_all_is_an_error(tmp_path, write):
    with pytest.raises(DdmError, match=r"set: no photo of anybody$"):
        list(photos(write(tmp_path / "set", {"list.txt": b""}), relative_of, expected="anybody"))
