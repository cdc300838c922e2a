"""FaceScrub: which file is which face's image, what the box becomes, and what is said of the rest."""

import os
import tracemalloc

import pytest
from facescrub_files import (
    ACTORS,
    ACTRESSES,
    ANNA,
    BEN,
    FACES,
    HEADER,
    NAMINGS,
    SHARED,
    Listed,
    jpeg,
    lay,
    write_list,
    write_lists,
)

from ddm_core.data.facescrub import Summary, describe, listed_downloads, people_table, read
from ddm_core.data.raw import RawPhoto, Region, Rejected
from ddm_core.errors import DdmError

IMAGE_ID = NAMINGS["image id"]
CORRECTIONS = "name\timage_id\tface_id\taction\tvalue\n"


def read_all(folder, lists, **options):
    """What `read` yields, and its summary."""
    summaries = []
    found = list(read(folder, lists=lists, summarise=summaries.append, **options))
    return found, summaries[0]


def correct(tmp_path, *lines):
    path = tmp_path / "corrections.txt"
    path.write_text(CORRECTIONS + "".join(f"{line}\n" for line in lines))
    return path


# Photos


@pytest.mark.parametrize("naming", NAMINGS)
def test_images_are_found_by_every_usual_naming(tmp_path, naming):
    lay(tmp_path / "images", FACES, NAMINGS[naming])
    found, summary = read_all(tmp_path / "images", write_lists(tmp_path))
    assert [photo.content for photo in found] == [face.content for face in FACES]
    assert [photo.relative.rpartition(".")[0] for photo in found] == [
        "Ben O'Hara/11_101",
        "Ben O'Hara/12_102",
        "Anna Lee/21_201",
        "Anna Lee/21_202",
    ]
    assert {photo.relative.rpartition(".")[2] for photo in found} <= {"jpg", "jpeg", "png"}
    assert summary == Summary({BEN: 2, ANNA: 2}, 0, 0, 0, 0, 0, 0, listed={BEN: 2, ANNA: 2})


def test_the_order_is_that_of_the_lists(tmp_path):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    actors, actresses = write_lists(tmp_path)
    assert [
        photo.relative.partition("/")[0] for photo in read(tmp_path / "images", lists=[actresses, actors])
    ] == [
        ANNA,
        ANNA,
        BEN,
        BEN,
    ]


def test_two_faces_in_one_image_are_two_photos_each_with_its_own_box(tmp_path):
    lay(tmp_path / "images", ACTRESSES, IMAGE_ID)
    found, _ = read_all(tmp_path / "images", write_lists(tmp_path)[1:])
    assert found == [
        RawPhoto("Anna Lee/21_201.jpg", SHARED, Region((10.0, 20.0, 30.0, 60.0))),
        RawPhoto("Anna Lee/21_202.jpg", SHARED, Region((0.0, 0.0, 8.0, 8.0))),
    ]


def test_a_margin_widens_the_box_on_each_side_by_its_share_of_width_and_height(tmp_path):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    found, _ = read_all(tmp_path / "images", write_lists(tmp_path), margin=0.5)
    assert found[0].region == Region((0.0, 0.0, 40.0, 80.0))
    assert found[3].region == Region((-4.0, -4.0, 12.0, 12.0))


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(tmp_path, margin):
    with pytest.raises(DdmError, match=r"margin is .*; it must not be negative"):
        read_all(tmp_path, write_lists(tmp_path), margin=margin)


def test_names_of_any_script_and_either_normal_form_are_one_person(tmp_path):
    listed = Listed("Zoe\u0308 王芳", 1, 1, jpeg(9))
    lay(tmp_path / "images", [Listed("Zo\u00eb 王芳", 1, 1, jpeg(9))], IMAGE_ID)
    found, _ = read_all(tmp_path / "images", [write_list(tmp_path / "list.txt", [listed])])
    assert [photo.relative for photo in found] == ["Zo\u00eb 王芳/1_1.jpg"]


def test_symbolic_links_are_followed_and_loops_end(tmp_path):
    lay(tmp_path / "elsewhere", FACES, IMAGE_ID)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/actors").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "images")
    assert read_all(tmp_path / "images", write_lists(tmp_path))[1].photos == {BEN: 2, ANNA: 2}


def test_memory_does_not_grow_with_the_images(tmp_path):
    rows = [Listed(ANNA, number, number, os.urandom(10) + bytes(2_000_000)) for number in range(8)]
    lay(tmp_path / "images", rows, IMAGE_ID)
    path = write_list(tmp_path / "list.txt", rows)
    tracemalloc.start()
    try:
        assert sum(isinstance(photo, RawPhoto) for photo in read(tmp_path / "images", lists=[path])) == 8
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


# Files that are not the listed image


def test_another_file_of_the_right_name_is_rejected_and_counted(tmp_path):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    (tmp_path / "images" / IMAGE_ID(ACTORS[0])).write_bytes(b"a placeholder")
    found, summary = read_all(tmp_path / "images", write_lists(tmp_path))
    assert found[0] == Rejected(
        "Ben O'Hara/11_101.jpg",
        "11.jpg has another SHA-256 than listed; replace it by the listed, uncropped image",
    )
    assert len(found) == 4
    assert (summary.mismatched, summary.photos[BEN]) == (1, 1)


def test_an_image_beside_its_crop_is_the_one_that_counts(tmp_path):
    crops = [Listed(row.name, row.image_id, row.face_id, b"crop") for row in FACES]
    lay(tmp_path / "images", FACES, NAMINGS["image below its kind"])
    lay(tmp_path / "images/actors", crops, NAMINGS["faces"])
    _, summary = read_all(tmp_path / "images", write_lists(tmp_path))
    assert summary == Summary({BEN: 2, ANNA: 2}, 0, 0, 0, 0, 0, 0, listed={BEN: 2, ANNA: 2})


def test_where_neither_image_nor_crop_is_the_listed_one_the_image_is_named(tmp_path):
    wrong = [Listed(row.name, row.image_id, row.face_id, b"wrong") for row in FACES]
    lay(tmp_path / "images", wrong, NAMINGS["image below its kind"])
    lay(tmp_path / "images/actors", wrong, NAMINGS["faces"])
    found, _ = read_all(tmp_path / "images", write_lists(tmp_path))
    assert found[0].reason.startswith("Ben_O'Hara_11.jpeg has another SHA-256")


def test_of_several_files_under_one_name_the_one_with_the_listed_digest_is_taken(tmp_path):
    wrong = [Listed(row.name, row.image_id, row.face_id, b"wrong") for row in FACES]
    lay(tmp_path / "images", wrong, NAMINGS["name, image and face"])
    lay(tmp_path / "images", FACES, NAMINGS["digest of the address"])
    assert read_all(tmp_path / "images", write_lists(tmp_path))[1].photos == {BEN: 2, ANNA: 2}


def test_a_missing_image_is_counted_and_nothing_is_yielded_for_it(tmp_path):
    lay(tmp_path / "images", FACES[1:], IMAGE_ID)
    found, summary = read_all(tmp_path / "images", write_lists(tmp_path))
    assert len(found) == 3
    assert (summary.missing, summary.photos) == (1, {BEN: 1, ANNA: 2})


def test_image_7_of_a_person_is_not_taken_for_a_bad_file_of_the_missing_face_7(tmp_path):
    rows = [Listed(BEN, 7, 6, jpeg(1)), Listed(BEN, 8, 7, jpeg(2))]
    lay(tmp_path / "images", rows[:1], NAMINGS["flat"])
    found, summary = read_all(tmp_path / "images", [write_list(tmp_path / "list.txt", rows)])
    assert [photo.relative for photo in found] == ["Ben O'Hara/7_6.jpg"]
    assert (summary.missing, summary.mismatched) == (1, 0)


def test_images_of_no_face_hidden_files_and_other_files_are_told_apart(tmp_path):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    for name in ("stray.jpg", ".hidden.jpg", ".parts/21.jpg", "readme.txt"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"any")
    (tmp_path / "images/facescrub_actors.txt").write_text(HEADER)
    found, summary = read_all(tmp_path / "images", write_lists(tmp_path))
    assert (summary.unlisted, summary.others) == (1, 1)
    assert [file.relative for file in found if isinstance(file, Rejected)] == ["stray.jpg", "readme.txt"]


def test_a_file_that_cannot_be_read_is_rejected_and_counted(tmp_path):
    lay(tmp_path / "images", FACES[1:], IMAGE_ID)
    (tmp_path / "images" / IMAGE_ID(ACTORS[0])).symlink_to("/proc/self/mem")  # not even root reads its start
    found, summary = read_all(tmp_path / "images", write_lists(tmp_path))
    assert found[0] == Rejected(
        "Ben O'Hara/11_101.jpg", "11.jpg cannot be read (Input/output error); mend or remove it"
    )
    assert (len(found), summary.unreadable) == (4, 1)


def test_a_dangling_link_and_a_pipe_are_missing_images(tmp_path):
    lay(tmp_path / "images", FACES[2:], IMAGE_ID)
    (tmp_path / "images" / BEN).mkdir()
    (tmp_path / "images" / BEN / "11.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "images" / BEN / "12.jpg")
    assert read_all(tmp_path / "images", write_lists(tmp_path))[1].missing == 2


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_bytes(b"")])
def test_no_folder_is_an_error(tmp_path, make):
    make(tmp_path / "images")
    with pytest.raises(DdmError, match="images: no such folder"):
        read_all(tmp_path / "images", write_lists(tmp_path))


def test_a_folder_with_none_of_the_images_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DdmError, match="images: none of the 4 listed images is in it"):
        read_all(tmp_path / "images", write_lists(tmp_path))


# Lists


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Anna Lee\t1\t1\thttp://x/1.jpg\t1,2,3,4", "5 columns instead of 6"),
        (f"Anna Lee\t1\t1\thttp://x/1.jpg\t1,2,3,4\t{'0' * 64}\tmore", "7 columns instead of 6"),
        (f"Anna Lee\t1\t1\thttp://x/1.jpg\t-1,2,3,4\t{'0' * 64}", "bbox '-1,2,3,4' is empty, negative or"),
        (f"Anna Lee\t1\t1\thttp://x/1.jpg\t3,2,3,4\t{'0' * 64}", "bbox '3,2,3,4' is empty"),
        (f"Anna Lee\t1\t1\thttp://x/1.jpg\t1,2,3,inf\t{'0' * 64}", "bbox '1,2,3,inf' is empty"),
        (f"Anna Lee\t1\t1\thttp://x/1.jpg\t1,2,3,nan\t{'0' * 64}", "bbox '1,2,3,nan' is empty"),
        (f"Anna Lee\t1\t1\thttp://x/1.jpg\t1,2,3\t{'0' * 64}", "bbox '1,2,3' is not x1,y1,x2,y2"),
        (f"Anna Lee\tone\t1\thttp://x/1.jpg\t1,2,3,4\t{'0' * 64}", "the id 'one' is no whole number"),
        ("Anna Lee\t1\t1\thttp://x/1.jpg\t1,2,3,4\tabc", "sha256 is not 64 hexadecimal digits"),
        (f"../Anna\t1\t1\thttp://x/1.jpg\t1,2,3,4\t{'0' * 64}", "cannot be a folder's"),
        (f".Anna\t1\t1\thttp://x/1.jpg\t1,2,3,4\t{'0' * 64}", "cannot be a folder's"),
        (f"\t1\t1\thttp://x/1.jpg\t1,2,3,4\t{'0' * 64}", "cannot be a folder's"),
        (f"An\x1bna\t1\t1\thttp://x/1.jpg\t1,2,3,4\t{'0' * 64}", "holds control"),
        (f"{'A' * 300}\t1\t1\thttp://x/1.jpg\t1,2,3,4\t{'0' * 64}", "more than 200 bytes"),
        (ACTORS[0].line, "the face is listed twice"),
    ],
)
def test_a_bad_line_is_rejected_in_one_line_and_the_rest_is_read(tmp_path, line, reason):
    lay(tmp_path / "images", ACTORS, IMAGE_ID)
    path = write_list(tmp_path / "list.txt", [ACTORS[0], line, ACTORS[1]])
    found, summary = read_all(tmp_path / "images", [path])
    first, rejected, last = found
    assert isinstance(first, RawPhoto) and isinstance(last, RawPhoto)
    assert reason in rejected.reason
    assert "\n" not in rejected.reason
    assert rejected.relative in ("list.txt:3", "Ben O'Hara/11_101")
    assert (summary.malformed, summary.photos) == (1, {BEN: 2})


def test_windows_line_ends_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    path = tmp_path / "list.txt"
    path.write_bytes(("\ufeff" + "\r\n".join([HEADER, ACTORS[0].line, "", ACTORS[1].line])).encode())
    summary = read_all(tmp_path / "images", [path])[1]
    assert summary == Summary({BEN: 2}, 0, 0, 0, 0, 0, 1, listed={BEN: 2})


@pytest.mark.parametrize(
    "content", [b"", b"name,image_id\n", b"\xff\xfe\x00" * 50_000, ACTORS[0].line.encode()]
)
def test_a_file_that_is_no_list_is_an_error_with_its_first_line(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DdmError, match=r"list\.txt:1: the header is not name, image_id, face_id"):
        read_all(tmp_path, [tmp_path / "list.txt"])


def test_a_missing_list_and_no_list_are_errors(tmp_path):
    with pytest.raises(DdmError, match=r"none\.txt: cannot be read \(No such file"):
        read_all(tmp_path, [tmp_path / "none.txt"])
    with pytest.raises(DdmError, match="no list; name facescrub_actors"):
        read_all(tmp_path, [])


# Corrections


def test_corrections_drop_faces_move_boxes_and_rename_people(tmp_path):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    corrections = correct(
        tmp_path,
        "\t\t101\tdrop",
        "\t\t102\tbbox\t1,2,3,4",
        f"{ANNA}\t21\t\tname\tAnne Li",
        "\t\t202\tbbox\t0,0,9,9",
    )
    found, summary = read_all(tmp_path / "images", write_lists(tmp_path), corrections=corrections)
    assert [(photo.relative, photo.region.box) for photo in found] == [
        ("Ben O'Hara/12_102.jpg", (1.0, 2.0, 3.0, 4.0)),
        ("Anne Li/21_201.jpg", (10.0, 20.0, 30.0, 60.0)),
        ("Anne Li/21_202.jpg", (0.0, 0.0, 9.0, 9.0)),
    ]
    people = {BEN: 1, "Anne Li": 2}
    assert summary == Summary(people, 0, 0, 0, 1, 0, 0, listed=people)


def test_an_image_is_dropped_with_all_its_faces(tmp_path):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    found, summary = read_all(
        tmp_path / "images", write_lists(tmp_path), corrections=correct(tmp_path, "\t21\t\tdrop\t")
    )
    assert [photo.relative.partition("/")[0] for photo in found] == [BEN, BEN]
    assert summary.dropped == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("\t\t999\tdrop", "no face of the lists has these ids"),
        (f"{ANNA}\t\t101\tdrop", "no face of the lists has these ids"),
        ("\t12\t101\tdrop", "no face of the lists has these ids"),
        ("\t\t\tdrop", "neither image_id nor face_id is given"),
        (f"{BEN}\t\t101\tdorp", "unknown action 'dorp'; did you mean 'drop'?"),
        ("\t\t101\tdrop\t1,2,3,4", "drop takes no value"),
        ("\t11\t\tbbox\t1,2,3,4", "a new bbox needs the face_id"),
        ("\t\t101\tbbox\t4,3,2,1", "bbox '4,3,2,1' is empty"),
        ("\t\t101\tname\t../x", "the name '../x' cannot be a folder's"),
        ("\t\tx\tdrop", "the id 'x' is no whole number"),
        ("\t\t101\tdrop\t\tmore", "6 columns instead of 5"),
    ],
)
def test_a_bad_correction_is_an_error_with_its_line_before_anything_is_read(tmp_path, line, problem):
    lay(tmp_path / "images", FACES, IMAGE_ID)
    corrections = correct(tmp_path, "\t\t102\tdrop", line)
    with pytest.raises(DdmError) as caught:
        next(read(tmp_path / "images", lists=write_lists(tmp_path), corrections=corrections))
    assert str(caught.value).startswith(f"{corrections}:3: {problem}")


def test_an_id_that_two_people_have_needs_the_name(tmp_path):
    rows = [Listed(ANNA, 1, 1, jpeg(1)), Listed(BEN, 1, 1, jpeg(2))]
    lay(tmp_path / "images", rows, IMAGE_ID)
    lists = [write_list(tmp_path / "list.txt", rows)]
    with pytest.raises(DdmError, match=r":2: fits faces of Anna Lee, Ben O'Hara; give the name"):
        read_all(tmp_path / "images", lists, corrections=correct(tmp_path, "\t\t1\tdrop"))
    found, _ = read_all(tmp_path / "images", lists, corrections=correct(tmp_path, f"{ANNA}\t\t1\tdrop"))
    assert [photo.relative for photo in found] == ["Ben O'Hara/1_1.jpg"]


# What is told, and what is to be downloaded


def test_the_summary_tells_what_survived_a_person_and_what_did_not():
    text = describe(Summary({ANNA: 3, BEN: 0, "Cy": 8}, 5, 4, 3, 2, 1, 7))
    assert "11 photos of 2 people are there; a person has 0 to 8, the median is 3" in text
    assert (
        "missing 5, another file than listed 4, unreadable 3, dropped by corrections 2, bad lines 1" in text
    )
    assert "images in no list 7" in text
    assert text.index("Ben O'Hara (0)") < text.index("Anna Lee (3)") < text.index("Cy (8)")


def test_the_table_has_a_line_a_person():
    summary = Summary({BEN: 0, ANNA: 3}, 5, 0, 0, 0, 0, 0, listed={BEN: 1, ANNA: 7})
    assert people_table(summary) == "name\tlisted\tthere\nAnna Lee\t7\t3\nBen O'Hara\t1\t0\n"


def test_every_image_is_downloaded_once_under_its_digest_from_any_of_its_addresses(tmp_path):
    rows = [
        Listed(ANNA, 1, 1, b"one", url="http://a.example/x/One.JPEG?size=large"),
        Listed(ANNA, 1, 2, b"one", url="http://a.example/x/One.JPEG?size=large"),
        Listed(BEN, 1, 3, b"one", url="http://b.example/image.php"),
        Listed(BEN, 2, 4, b"two", url="http://b.example/image.php"),
        "a bad line",
    ]
    (first, second), malformed = listed_downloads([write_list(tmp_path / "list.txt", rows)])
    assert first.urls == ("http://a.example/x/One.JPEG?size=large", "http://b.example/image.php")
    assert first.relative == f"{rows[0].sha256[:2]}/{rows[0].sha256}.jpeg"
    assert second.relative == f"{rows[3].sha256[:2]}/{rows[3].sha256}.jpg"
    assert malformed == 1
