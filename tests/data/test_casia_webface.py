"""CASIA-WebFace as people hold it: a tree of numbered folders, archives of it, InsightFace's records."""

import io
import os
import stat
import tarfile
import tracemalloc
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recordio_files import image_payload, image_set, write_image_set, write_index

from ddm_core.data import casia_webface
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.errors import DdmError


def jpeg(shade, form="JPEG"):
    buffer = io.BytesIO()
    Image.new("L", (112, 112), shade).save(buffer, form)
    return buffer.getvalue()


ANNA, BORIS, CARLA, PNG = jpeg(10), jpeg(20), jpeg(30), jpeg(40, "PNG")
PEOPLE = [[ANNA, BORIS], [CARLA], [PNG, ANNA, CARLA]]
AS_RECORDS = [
    RawPhoto("id_000000/00000001.jpg", ANNA),
    RawPhoto("id_000000/00000002.jpg", BORIS),
    RawPhoto("id_000001/00000003.jpg", CARLA),
    RawPhoto("id_000002/00000004.png", PNG),
    RawPhoto("id_000002/00000005.jpg", ANNA),
    RawPhoto("id_000002/00000006.jpg", CARLA),
]
TREE = {
    "CASIA-WebFace/0000045/001.jpg": ANNA,
    "CASIA-WebFace/0000045/002.JPG": BORIS,
    "CASIA-WebFace/0000099/010.png": PNG,
    "CASIA-WebFace/0000099/Thumbs.db": b"cache",
    "CASIA-WebFace/.hidden/0000099/001.jpg": CARLA,
    "casia_list.txt": b"a list",
}
AS_TREE = [
    RawPhoto("0000045/001.jpg", ANNA),
    RawPhoto("0000045/002.JPG", BORIS),
    RawPhoto("0000099/010.png", PNG),
]


def lay(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def pack_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def photos(path):
    return list(casia_webface.read(path))


def split(path):
    """The photos, and the rejected files by name -> reason; each reason is one line."""
    found = photos(path)
    rejected = {one.relative: one.reason for one in found if isinstance(one, Rejected)}
    assert all("\n" not in text for item in rejected.items() for text in item)
    assert len(rejected) == sum(isinstance(one, Rejected) for one in found)
    return [one for one in found if isinstance(one, RawPhoto)], rejected


def refusal(path):
    with pytest.raises(DdmError) as caught:
        photos(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def records(tmp_path):
    """The folder of InsightFace's files."""
    write_image_set(tmp_path / "set", image_set(PEOPLE), identities=3)
    return tmp_path / "set"


def rewrite(folder, payloads, identities=3):
    write_image_set(folder, payloads, identities=identities)
    return folder


def damage(path, place, content):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


# A tree of folders


def test_a_folder_tree_gives_each_photo_under_its_person(tmp_path):
    assert photos(lay(tmp_path, TREE)) == AS_TREE
    assert photos(tmp_path / "CASIA-WebFace") == AS_TREE


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz")]
)
def test_a_tar_archive_gives_the_same_as_its_folder(tmp_path, name, mode):
    assert photos(tar(tmp_path / name, TREE, mode)) == AS_TREE


def test_a_zip_archive_gives_the_same_as_its_folder(tmp_path):
    assert photos(pack_zip(tmp_path / "a.zip", TREE)) == AS_TREE


def test_a_folder_comes_in_the_order_of_its_numbers_and_archives_in_their_own(tmp_path):
    own = ["10/2.jpg", "9/10.jpg", "9/9.jpg", "100/1.jpg", "9/1.jpg"]
    files = dict.fromkeys(own, ANNA)
    for path, expected in [
        (lay(tmp_path / "tree", files), ["9/1.jpg", "9/9.jpg", "9/10.jpg", "10/2.jpg", "100/1.jpg"]),
        (tar(tmp_path / "a.tar", files), own),
        (pack_zip(tmp_path / "a.zip", files), own),
    ]:
        assert [photo.relative for photo in photos(path)] == expected


STRAYS = {
    "0000045/001.jpg": (ANNA, None),
    "stray.jpg": (ANNA, "no identity folder"),
    "Anna/001.jpg": (ANNA, "no identity folder"),
    "\u0660\u0660\u0661/001.jpg": (ANNA, "no identity folder"),
    "0000045/0\n1.jpg": (ANNA, "control or undecodable"),
    "again/0000045/001.jpg": (ANNA, "a second 0000045/001.jpg"),
}


@pytest.mark.parametrize("form", [lay, tar, pack_zip])
def test_photos_out_of_place_are_rejected_with_their_reason(tmp_path, form):
    path = tmp_path / {lay: "tree", tar: "a.tar", pack_zip: "a.zip"}[form]
    found, rejected = split(form(path, {name: content for name, (content, _) in STRAYS.items()}))
    assert found == [RawPhoto("0000045/001.jpg", ANNA)]
    expected = {name.replace("\n", "\\n"): reason for name, (_, reason) in STRAYS.items() if reason}
    assert rejected.keys() == expected.keys()
    assert all(reason in rejected[name] for name, reason in expected.items())


@pytest.mark.parametrize("form", [tar, pack_zip])
def test_members_that_lead_out_of_an_archive_are_rejected(tmp_path, form):
    files = {"../0000045/001.jpg": ANNA, "/0000045/002.jpg": ANNA, "0000045/003.jpg": ANNA}
    found, rejected = split(form(tmp_path / f"a.{form.__name__[-3:]}", files))
    assert found == [RawPhoto("0000045/003.jpg", ANNA)]
    assert rejected.keys() == {"../0000045/001.jpg", "/0000045/002.jpg"}


def test_links_out_of_the_folder_loops_pipes_and_broken_links_are_rejected(tmp_path):
    person = lay(tmp_path / "tree", {"0000045/001.jpg": ANNA}) / "0000045"
    lay(tmp_path, {"outside.jpg": b"secret"})
    (person / "002.jpg").symlink_to(tmp_path / "outside.jpg")
    (person / "003.jpg").symlink_to("001.jpg")
    (person / "004.jpg").symlink_to("missing.jpg")
    os.mkfifo(person / "005.jpg")
    (person / "0000046").symlink_to("..")
    found, rejected = split(tmp_path / "tree")
    assert found == [RawPhoto("0000045/001.jpg", ANNA), RawPhoto("0000045/003.jpg", ANNA)]
    assert rejected.keys() == {f"0000045/{name}" for name in ("002.jpg", "004.jpg", "005.jpg", "0000046")}
    assert "link out of the folder" in rejected["0000045/002.jpg"]


def test_links_and_encrypted_members_of_a_zip_are_rejected(tmp_path):
    path = pack_zip(tmp_path / "a.zip", {"0000045/001.jpg": ANNA, "0000045/002.jpg": ANNA})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("0000045/003.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02", 0, content.index(b"0000045/002.jpg", content.index(b"PK\x01\x02")))
    damage(path, place + 8, b"\x01")  # the flag of encryption, in the directory
    found, rejected = split(path)
    assert found == [RawPhoto("0000045/001.jpg", ANNA)]
    assert "encrypted" in rejected["0000045/002.jpg"]
    assert "link" in rejected["0000045/003.jpg"]


def test_a_link_in_a_tar_is_rejected(tmp_path):
    path = tar(tmp_path / "a.tar", {"0000045/001.jpg": ANNA})
    with tarfile.open(path, "a") as archive:
        for name, kind in (("2", tarfile.SYMTYPE), ("3", tarfile.LNKTYPE), ("4", tarfile.FIFOTYPE)):
            header = tarfile.TarInfo(f"0000045/00{name}.jpg")
            header.type, header.linkname = kind, "0000045/001.jpg"
            archive.addfile(header)
    found, rejected = split(path)
    assert found == [RawPhoto("0000045/001.jpg", ANNA)]
    assert rejected.keys() == {f"0000045/00{name}.jpg" for name in "234"}


def test_a_file_too_large_for_a_photo_is_rejected_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(casia_webface, "MAX_BYTES", len(ANNA) - 1)
    for path in (tar(tmp_path / "a.tar", TREE), pack_zip(tmp_path / "a.zip", TREE)):
        found, rejected = split(path)
        assert [photo.relative for photo in found] == ["0000099/010.png"]
        assert all("larger than" in reason for reason in rejected.values())
        assert len(rejected) == 2


def test_a_damaged_member_of_a_zip_is_rejected_and_the_rest_is_read(tmp_path):
    path = pack_zip(tmp_path / "a.zip", {"0000045/001.jpg": ANNA, "0000045/002.jpg": BORIS})
    damage(path, 30 + len("0000045/001.jpg") + 5, b"\xff\xff\xff")
    found, rejected = split(path)
    assert found == [RawPhoto("0000045/002.jpg", BORIS)]
    assert "damaged in the archive" in rejected["0000045/001.jpg"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_an_archive_that_is_cut_off_is_refused(tmp_path, mode, kept):
    whole = tar(tmp_path / "a.tar", {f"0000045/{photo:03}.jpg": os.urandom(6000) for photo in range(9)}, mode)
    content = whole.read_bytes()
    whole.write_bytes(content[: round(kept * 9 * 6656)])
    assert "a.tar: no tar archive, or damaged after 0000045/00" in refusal(whole)


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")]
)
@pytest.mark.parametrize("where", [0.5, 0.999])
def test_a_compressed_archive_with_wrong_bytes_is_refused(tmp_path, name, mode, where):
    path = tar(tmp_path / name, {f"0000045/{photo:03}.jpg": os.urandom(6000) for photo in range(9)}, mode)
    place = int(path.stat().st_size * where)
    damage(path, place, bytes([path.read_bytes()[place] ^ 255]))
    assert f"{name}: no tar archive, or damaged after" in refusal(path)


def test_a_damaged_header_is_not_taken_for_the_end_of_a_tar(tmp_path):
    path = tar(tmp_path / "a.tar", {"0000045/001.jpg": b"x" * 512, "0000045/002.jpg": b"x" * 512})
    damage(path, 1024, b"\xff" * 100)
    assert "damaged after 0000045/001.jpg" in refusal(path)


def test_what_is_no_set_is_refused_in_one_line(tmp_path):
    assert "missing: not found" in refusal(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "empty: no photo of CASIA-WebFace in it; expected" in refusal(tmp_path / "empty")
    lay(tmp_path, {"photo.jpg": ANNA, "photo.zip": ANNA, "photo.rec": ANNA})
    assert "no tar archive" in refusal(tmp_path / "photo.jpg")
    assert "not a whole zip file" in refusal(tmp_path / "photo.zip")
    assert "not a RecordIO file" in refusal(tmp_path / "photo.rec")
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe")


# InsightFace's records


def test_records_give_each_image_under_its_person(records):
    assert photos(records) == AS_RECORDS
    assert photos(records / "train.rec") == AS_RECORDS


def test_an_image_may_have_more_labels_than_its_person(records):
    rewrite(records, image_set(PEOPLE, label=lambda person: [float(person), 1.0]))
    assert photos(records) == AS_RECORDS


def test_record_0_may_lie_before_the_images(records):
    rewrite(records, dict(sorted(image_set(PEOPLE).items())))
    assert photos(records) == AS_RECORDS


def test_a_missing_index_is_rebuilt(records):
    (records / "train.idx").unlink()
    assert photos(records) == AS_RECORDS
    (records / "train.rec").write_bytes((records / "train.rec").read_bytes()[:-8])
    assert "train.rec: the record part at byte" in refusal(records)


def test_a_damaged_image_record_is_rejected_with_its_key_and_the_rest_is_read(records):
    offsets = write_image_set(records, image_set(PEOPLE), identities=3)
    damage(records / "train.rec", offsets[3], b"\0")
    found, rejected = split(records)
    assert found == AS_RECORDS[:2] + AS_RECORDS[3:]
    assert rejected.keys() == {"train.rec/00000003"}
    assert "no magic at byte" in rejected["train.rec/00000003"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (image_payload(2.0, 3, CARLA), "shows person 2, whose identity record does not name it"),
        (image_payload(3.0, 3, CARLA), "shows person 3 of 0 to 2"),
        (image_payload(1e30, 3, CARLA), "of 0 to 2"),
        (image_payload(-1.0, 3, CARLA), "not a whole number"),
        (image_payload(0.5, 3, CARLA), "not a whole number"),
        (image_payload(float("nan"), 3, CARLA), "not a whole number"),
        (image_payload(float("inf"), 3, CARLA), "not a whole number"),
        (image_payload(1.0, 3, b""), "neither JPEG nor PNG"),
        (image_payload(1.0, 3, b"GIF89a"), "neither JPEG nor PNG"),
        (b"short", "too few for an image header"),
        (image_payload([1.0, 1.0], 3, b"")[:-1], "2 labels do not fit"),
        (b"\xff" * 24, "4294967295 labels do not fit"),
    ],
)
def test_an_image_that_does_not_fit_the_set_is_rejected(records, payload, reason):
    rewrite(records, {**image_set(PEOPLE), 3: payload})
    found, rejected = split(records)
    assert found == AS_RECORDS[:2] + AS_RECORDS[3:]
    assert rejected.keys() == {"train.rec/00000003"}
    assert reason in rejected["train.rec/00000003"]


@pytest.mark.parametrize(
    "labels", [[3.0, 8.0], [0.0, 4.0], [4.0, 3.0], [float("nan"), 4.0], [3.0, 2.0**40], [3.0], 3.0]
)
def test_a_damaged_identity_record_is_rejected_with_its_images(records, labels):
    rewrite(records, {**image_set(PEOPLE), 8: image_payload(labels, 8, b"")})
    found, rejected = split(records)
    assert found == AS_RECORDS[:2] + AS_RECORDS[3:]
    assert rejected.keys() == {"train.rec/00000008", "train.rec/00000003"}
    assert rejected["train.rec/00000008"].startswith("identity record: ")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "record 0 is no header of an image set"),
        (image_payload(0.0, 0, ANNA), "1 labels, not two"),
        (image_payload([7.5, 10.0], 0, b""), "not a whole number"),
        (image_payload([10.0, 7.0], 0, b""), "people at 10 to 7"),
        (image_payload([1.0, 10.0], 0, b""), "people at 1 to 10"),
        (image_payload([7.0, 1e12], 0, b""), "by record 0, 10 by the index"),
        (image_payload([7.0, 9.0], 0, b""), "9 records by record 0, 10 by the index"),
    ],
)
def test_a_header_that_does_not_fit_the_records_is_refused(records, payload, reason):
    rewrite(records, {**image_set(PEOPLE), 0: payload})
    assert reason in refusal(records)


def test_property_must_name_the_number_of_people(records):
    (records / "property").write_text("2,112,112\n")
    assert refusal(records) == f"{records}/property: 2 people, 3 in train.rec; take both from one set"
    (records / "property").write_text("three people")
    assert "'three people' is not `people,height,width`" in refusal(records)
    (records / "property").unlink()
    assert "property: cannot be read (No such file" in refusal(records)


def test_an_index_that_does_not_fit_the_records_is_refused(records):
    offsets = write_image_set(records, image_set(PEOPLE), identities=3)
    size = (records / "train.rec").stat().st_size
    for entries, reason in [
        (list(offsets.items())[:-1], "10 records by record 0, 9 by the index"),
        ([*list(offsets.items())[:-1], (99, offsets[9])], "10 records by record 0, 10 by the index"),
        ([*offsets.items(), (10, size)], f"cut off at {size} bytes"),
        ([(key, offset) for key, offset in offsets.items() if key], "record 0 is no header"),
    ]:
        write_index(records / "train.idx", entries)
        assert reason in refusal(records)


def test_records_that_are_cut_off_are_refused(records):
    content = (records / "train.rec").read_bytes()
    (records / "train.rec").write_bytes(content[: len(content) // 2])
    assert "train.rec: cut off at" in refusal(records)


@given(st.data())
@settings(deadline=None)
def test_whatever_bytes_are_damaged_every_record_is_accounted_for(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    write_image_set(folder, image_set(PEOPLE), identities=3)
    content = bytearray((folder / "train.rec").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(4, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    (folder / "train.rec").write_bytes(content)
    try:
        found, rejected = split(folder)
    except DdmError as error:
        assert "record 0" in str(error)
        return
    assert [photo.relative[:9] for photo in found] == sorted(photo.relative[:9] for photo in found)
    images = {int(photo.relative[10:18]) for photo in found}
    images |= {int(name.rpartition("/")[2]) for name in rejected} & set(range(1, 7))
    assert images == set(range(1, 7))
    known = {photo.relative: photo for photo in AS_RECORDS}
    assert all(photo.relative in known for photo in found)


def peak(path):
    """The most bytes that reading takes at any time."""
    tracemalloc.start()
    for _ in casia_webface.read(path):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_reading_records_keeps_none_but_their_places(tmp_path):
    """The index takes 24 bytes a record, and about 100 while it is sorted."""
    photo = ANNA * 20
    few = rewrite(tmp_path / "few", image_set([[photo] * 20]), 1)
    many = rewrite(tmp_path / "many", image_set([[photo] * 2000]), 1)
    assert peak(many) < peak(few) + 2000 * 150
    assert (many / "train.rec").stat().st_size > 20 * peak(many)


def test_reading_a_tar_keeps_nothing_but_the_photos_names(tmp_path):
    few = tar(tmp_path / "few.tar", {f"0000045/{photo:04}.jpg": ANNA for photo in range(20)})
    many = tar(tmp_path / "many.tar", {f"0000045/{photo:04}.jpg": ANNA for photo in range(2000)})
    assert peak(many) < peak(few) + 2000 * 200
