"""CASIA-WebFace as people hold it: a tree of numbered folders, archives of it, InsightFace's records."""

import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lfw_files import write_folder, write_tar, write_zip
from PIL import Image
from recordio_files import image_payload, image_set, write_image_set, write_index

from ddm_core.data import casia_webface
from ddm_core.data.imaging import MAX_BYTES
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
    "CASIA-WebFace/.hidden/0000099/001.jpg": CARLA,
    "names.txt": b"0000045 Anna Lee",
}
AS_TREE = [
    RawPhoto("0000045/001.jpg", ANNA),
    RawPhoto("0000045/002.JPG", BORIS),
    RawPhoto("0000099/010.png", PNG),
]


def photos(path, **options):
    return list(casia_webface.read(path, **options))


def split(path, **options):
    """The photos, and the rejected files by name -> reason; each reason is one line."""
    found = photos(path, **options)
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


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_a_tree_gives_each_photo_under_its_person_from_a_folder_or_an_archive(tmp_path, write):
    assert photos(write(tmp_path / "set", TREE)) == AS_TREE


def test_folders_around_the_identity_folders_do_not_matter(tmp_path):
    assert photos(write_folder(tmp_path, TREE) / "CASIA-WebFace") == AS_TREE


STRAYS = {
    "0000045/001.jpg": (ANNA, None),
    "stray.jpg": (ANNA, "no identity folder"),
    "CASIA-WebFace/stray.jpg": (ANNA, "no identity folder"),
    "0000045/Thumbs.db": (b"cache", "not a photo by its suffix"),
    "0000045/photo": (ANNA, "a name without a suffix"),
    "list.txt": (b"a list", "not a photo by its suffix"),
    "0000045/0\n1.jpg": (ANNA, "control or undecodable"),
    "again/0000045/001.jpg": (ANNA, "a second 0000045/001.jpg"),
}


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_photos_out_of_place_are_rejected_with_their_reason(tmp_path, write):
    found, rejected = split(write(tmp_path / "set", {name: content for name, (content, _) in STRAYS.items()}))
    assert found == [RawPhoto("0000045/001.jpg", ANNA)]
    expected = {name.replace("\n", "\\n"): reason for name, (_, reason) in STRAYS.items() if reason}
    assert rejected.keys() == expected.keys()
    assert all(reason in rejected[name] for name, reason in expected.items())


def test_files_that_cannot_be_taken_are_rejected_and_the_rest_is_read(tmp_path):
    root = write_folder(tmp_path / "set", {"0000045/001.jpg": ANNA, "0000045/002.jpg": b"", "list.txt": b""})
    with (root / "0000045/002.jpg").open("r+b") as file:
        file.truncate(MAX_BYTES + 1)  # a hole, which takes no room
    (root / "0000045/003.jpg").symlink_to("/etc/passwd")
    found, rejected = split(root, lists={"list.txt"})
    assert found == [RawPhoto("0000045/001.jpg", ANNA)]
    assert rejected == {
        "0000045/002.jpg": "larger than 256 MiB; make it smaller",
        "0000045/003.jpg": "a link out of the folder; put what it leads to in its place",
    }


def test_what_is_no_set_is_refused_in_one_line(tmp_path):
    assert "missing: no such file or folder; name a folder or an archive" in refusal(tmp_path / "missing")
    assert "missing.rec: no such file or folder" in refusal(tmp_path / "missing.rec")
    (tmp_path / "empty").mkdir()
    assert "empty: no photo of CASIA-WebFace in it; expected" in refusal(tmp_path / "empty")
    write_folder(tmp_path, {"photo.jpg": ANNA, "photo.rec": ANNA})
    assert "photo.jpg: a damaged archive or none at all" in refusal(tmp_path / "photo.jpg")
    assert "not a RecordIO file" in refusal(tmp_path / "photo.rec")


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_folders_may_be_named_after_the_people(tmp_path, write):
    named = {"CASIA-WebFace/Anna_Lee/001.jpg": ANNA, "webface/Björn/1.png": PNG}
    assert photos(write(tmp_path / "set", named)) == [
        RawPhoto("Anna_Lee/001.jpg", ANNA),
        RawPhoto("Björn/1.png", PNG),
    ]


def test_names_are_found_by_number_however_many_zeros_and_records_count_their_own_people(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeff0000045 Anna Lee\r\n\n0000099\tBjörn\nid_000045, Cy Doe\n", encoding="utf-8")
    names = casia_webface.read_names([path])
    assert [casia_webface.name_of(names, one) for one in ("0000045", "45", "99", "id_000045", "Dora")] == [
        "Anna Lee",
        "Anna Lee",
        "Björn",
        "Cy Doe",
        "Dora",
    ]
    with pytest.raises(DdmError, match="person id_000099 has no name to compare with"):
        casia_webface.name_of(names, "id_000099")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0000045\n", "names.txt:1: expected a number and a name, as 0000045 Anna_Lee"),
        ("45 Anna\nAnna 45\n", "names.txt:2: expected a number and a name"),
        ("45 Anna\n0045 Zoe\n", "names.txt:2: 0045 has another name above"),
        (b"45 \xff\n", "names.txt: cannot be read"),
        (None, "names.txt: cannot be read"),
    ],
)
def test_a_list_of_names_in_another_form_is_refused_with_its_line(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "names.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DdmError, match=reason):
        casia_webface.read_names([tmp_path / "names.txt"])


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
def test_a_damaged_identity_record_is_told_with_each_image_of_its_person(records, labels):
    rewrite(records, {**image_set(PEOPLE), 8: image_payload(labels, 8, b"")})
    found, rejected = split(records)
    assert found == AS_RECORDS[:2] + AS_RECORDS[3:]
    assert rejected.keys() == {"train.rec/00000003"}
    assert "shows person 1, whose identity record cannot be used: " in rejected["train.rec/00000003"]


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
    few = write_tar(tmp_path / "few", {f"0000045/{photo:04}.jpg": ANNA for photo in range(20)})
    many = write_tar(tmp_path / "many", {f"0000045/{photo:04}.jpg": ANNA for photo in range(2000)})
    peak(many)  # Python's own table of the names in paths may grow once
    assert peak(many) < peak(few) + 2000 * 200
