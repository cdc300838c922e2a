"""From a set as people hold it to a prepared one by `ddm fetch` and `ddm prepare`: nothing is lost unseen."""

import io
import json
import re
from pathlib import Path

import numpy
import pytest
from bad_files import COMPOSED, JPEG, PHOTOS, REJECTED, OddFile, bytes_of, encoded, lay, picture
from command_line import assert_all_accounted_for, fetch_and_prepare, run, write_params
from facescrub_files import Listed
from facescrub_files import write_list as write_face_list
from lfw_files import pairs_text, people_text, python_2_pickle, write_folder, write_tar
from lfw_files import photo as lfw_photo
from lfw_files import photos as lfw_photos
from PIL import Image
from recordio_files import image_set, write_image_set

from ddm_core.cli import main
from ddm_core.seeding import numpy_generator

pytestmark = pytest.mark.timeout(120)  # a pipe that is waited for would never end


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder, the current one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def face(person, number, side=40):
    """A JPEG of a person, another for every number."""
    draws = numpy_generator(0, f"tests/journeys/{person}/{number}")
    pixels = draws.integers(0, 256, (side, side, 3), dtype=numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


def one_line(errors):
    (line,) = [line for line in errors.splitlines() if line.startswith("ddm: error: ")]
    return line.removeprefix("ddm: error: ")


# Folders


OTHERS = (
    OddFile("zoe/moving.gif", bytes_of(encoded(picture("P"), "GIF")), "kind .gif are not read"),
    OddFile("zoe/scan.tiff", bytes_of(encoded(picture(), "TIFF")), "kind .tiff are not read"),
    OddFile("zoe/notes.txt", bytes_of(b"notes"), "not a photo by its suffix"),
    OddFile("readme", bytes_of(b"notes"), "a name without a suffix"),
)
JPEGS = (OddFile("zoe/1.jpe", bytes_of(JPEG)), OddFile("zoe/2.JFIF", bytes_of(JPEG)))
PEOPLE = tuple(
    OddFile(f"{person}/{number}.jpg", bytes_of(face(person, number)))
    for person in ("ida", "jan", "kai", "lou")
    for number in range(5)
)


def test_every_kind_of_file_is_read_or_quarantined_with_its_reason(project):
    """All that tests/data/bad_files.py knows."""
    good = (*PHOTOS, *JPEGS, *PEOPLE, OddFile(f"zoe/{COMPOSED}.jpg", bytes_of(JPEG)))
    bad = (*REJECTED, *OTHERS)
    for file in (*good, *bad):
        lay(project / "photos", file)
    lay(project / "photos", OddFile(".hidden/1.jpg", bytes_of(JPEG)))
    lay(project / "photos", OddFile("anna/.2.jpg", bytes_of(JPEG)))
    (project / "photos/again").symlink_to("anna")  # read at its own place
    write_params(project, fetch={"source": "folder", "uri": "photos"}, max_bad_fraction=0.9)
    manifest = fetch_and_prepare()

    assert_all_accounted_for(manifest)
    assert manifest["fetched"]["found"] == manifest["counts"]["found"] == len(good) + len(bad)
    assert manifest["counts"]["read"] == len(good)
    reasons = {file["source"]: file["reason"] for file in manifest["quarantined"]}
    shown = {file.relative.replace("\n", "\\n").replace("\udcff", "\\udcff"): file.reason for file in bad}
    assert reasons.keys() == shown.keys()
    for name, reason in shown.items():
        assert re.search(reason, reasons[name]), name
    table = Path("data/prepared/photos.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    assert {json.loads(line)[4] for line in table} == {file.relative for file in good}


def test_twenty_photos_and_six_files_of_other_suffixes_are_all_counted(project):
    six = (*JPEGS, *OTHERS)
    for file in (*PEOPLE, *six):
        lay(project / "photos", file)
    write_params(project, fetch={"source": "folder", "uri": "photos"})
    counts = fetch_and_prepare()["counts"]
    assert (counts["found"], counts["read"], counts["quarantined"]) == (26, 22, 4)


def test_a_raw_folder_that_fetch_did_not_lay_is_accounted_for_too(project):
    for file in (*PEOPLE, *OTHERS):
        lay(project / "photos", file)
    write_params(project, fetch={"source": "folder", "uri": "photos"})
    run("prepare", "--raw", "photos", "--workers", "1")
    manifest = json.loads(Path("data/prepared/manifest.json").read_text())
    assert (manifest["counts"]["found"], manifest["counts"]["quarantined"]) == (24, 4)
    assert "fetched" not in manifest


def test_a_manifest_whose_sum_does_not_hold_is_refused(project, capsys):
    for file in PEOPLE:
        lay(project / "photos", file)
    write_params(project, fetch={"source": "folder", "uri": "photos"})
    manifest = fetch_and_prepare()
    manifest["counts"]["found"] += 1
    Path("data/prepared/manifest.json").write_text(json.dumps(manifest))
    assert main(["recognise"]) == 1
    assert "the photos do not fit the manifest's counts" in one_line(capsys.readouterr().err)


# LFW

LFW_PEOPLE = {"Ann_Lee": 4, "Bo_Chen": 3, "Cy_Doe": 4, "José_Álvarez": 2, "Zoe": 1}
PAIRS = [
    ([("Ann_Lee", 1, 2)], [("Ann_Lee", 3, "Bo_Chen", 1)]),
    ([("Cy_Doe", 1, 4)], [("Cy_Doe", 2, "Zoe", 1)]),
]


@pytest.mark.parametrize("write", [write_folder, write_tar])
def test_lfw_comes_with_its_protocol(project, write):
    others = {
        "lfw/Ann_Lee/notes.txt": b"",
        "lfw/Ann_Lee/Ann_Lee_0009.gif": b"",
        "lfw/pairs.txt": b"",
        "a": b"",
    }
    files = {f"lfw/{name}": content for name, content in lfw_photos(LFW_PEOPLE).items()}
    write(project / "lfw.tgz", files | others)
    (project / "people.txt").write_text(people_text([LFW_PEOPLE]))
    (project / "pairs.txt").write_text(pairs_text(PAIRS))
    write_params(project, fetch={"source": "lfw", "uri": "lfw.tgz", "lists": ["people.txt", "pairs.txt"]})
    manifest = fetch_and_prepare()
    assert_all_accounted_for(manifest)
    assert (manifest["fetched"]["found"], manifest["counts"]["read"]) == (14 + 3, 14)
    assert manifest["identities"] == sorted(LFW_PEOPLE)
    assert manifest["protocol"].keys() == {"people.txt", "pairs.txt"}
    for name in manifest["protocol"]:
        assert Path("data/prepared/protocol", name).read_bytes() == (project / name).read_bytes()


def test_a_raw_folder_that_is_fetched_again_keeps_its_protocol_and_what_it_rejected(project):
    write_folder(project / "lfw", {**lfw_photos(LFW_PEOPLE), "Zoe/notes.txt": b""})
    (project / "pairs.txt").write_text(pairs_text(PAIRS))
    write_params(project, fetch={"source": "lfw", "uri": "lfw", "lists": ["pairs.txt"]})
    first = fetch_and_prepare()
    Path("data/raw").rename("earlier")
    write_params(project, fetch={"source": "folder", "uri": "earlier"})
    again = fetch_and_prepare()
    assert_all_accounted_for(again)
    for name in ("dataset_digest", "counts", "quarantined", "protocol", "fetched"):
        assert again[name] == first[name], name


def lfw_bin(path, pairs=10):
    """lfw.bin of so many pairs, every other one matched."""
    images = [lfw_photo(number // 2 if number // 2 % 2 else number, 112) for number in range(2 * pairs)]
    path.write_bytes(python_2_pickle(images, [bool(pair % 2) for pair in range(pairs)]))


def test_lfw_bin_is_refused_as_photos_to_train_on(project, capsys):
    lfw_bin(project / "lfw.bin")
    write_params(project, fetch={"source": "lfw", "uri": "lfw.bin"})
    assert main(["fetch"]) == 1
    assert one_line(capsys.readouterr().err) == (
        "lfw.bin: pairs of photos without people, nothing to train on; name it in fetch.verification of a set"
        " to train on"
    )
    assert not Path("data/raw").exists()
    (project / "photos").mkdir()
    lfw_bin(project / "photos/lfw.bin")
    assert main(["prepare", "--raw", "photos"]) == 1
    assert "photos: no photo in it" in one_line(capsys.readouterr().err)


# FaceScrub


def test_facescrub_counts_dead_links_and_says_what_is_left_of_each_person(project, capsys):
    names = {"Ann Lee": 6, "Bo Chen": 6, "Cy Doe": 5}
    rows = [
        Listed(name, 100 * place + number, 1000 * place + number, face(name, number), "2,2,38,38")
        for place, (name, count) in enumerate(names.items())
        for number in range(count)
    ]
    there = [row for row in rows if row.image_id % 100 != 5]  # one link of Ann's and one of Bo's is dead
    write_folder(project / "faces", {f"{row.name}/{row.image_id}.jpg": row.content for row in there})
    write_folder(project / "faces", {"Ann Lee/stray.jpg": JPEG, "readme.txt": b"", "dead_links.tsv": b""})
    (project / "faces/Cy Doe/200.jpg").write_bytes(b"a placeholder")
    write_face_list(project / "facescrub_actors.txt", [*rows, "a bad line"])
    (project / "corrections.tsv").write_text("name\timage_id\tface_id\taction\tvalue\n\t1\t\tdrop\t\n")
    (project / "people.txt").write_text(people_text([{"Bo_Chen": 1}]))
    write_params(
        project,
        fetch={
            "source": "facescrub",
            "uri": "faces",
            "lists": ["facescrub_actors.txt"],
            "corrections": "corrections.tsv",
            "exclude_people": "people.txt",
        },
    )
    manifest = fetch_and_prepare()
    assert_all_accounted_for(manifest)
    assert manifest["fetched"] == {
        "found": 17 + 1 + 2,  # faces, the bad line, strays
        "taken": 4 + 4,
        "rejected": 1 + 1 + 2,  # the placeholder, the bad line, the strays
        "excluded": 5,
        "excluded_people": 1,
        "missing": 2,
        "dropped": 1,
    }
    assert {file["source"] for file in manifest["quarantined"]} == {
        "Cy Doe/200_2000.jpg",
        "facescrub_actors.txt:19",
        "Ann Lee/stray.jpg",
        "readme.txt",
    }
    assert Path("data/raw/facescrub_people.tsv").read_text() == (
        "name\tlisted\tthere\nAnn Lee\t5\t4\nBo Chen\t6\t5\nCy Doe\t5\t4\n"
    )
    printed = capsys.readouterr().out
    assert "2 listed faces without an image, 1 dropped by corrections" in printed
    assert len(printed.splitlines()) == 5  # three of FaceScrub's, one a stage


# CASIA-WebFace

CASIA = {"0000045": "Ann Lee", "0000099": "Bo Chen", "0000123": "Cy Doe", "0000124": "José Álvarez"}


def casia_tree(folders):
    return {f"CASIA-WebFace/{name}/{n:03}.jpg": face(name, n) for name in folders for n in range(5)}


def exclude(project, fetch):
    """Leave out two people of LFW, one of whom is in the set; return the manifest."""
    (project / "people.txt").write_text(people_text([{"Jose_Alvarez": 2, "Zoe": 1}]))
    write_params(project, fetch={"source": "casia_webface", "exclude_people": "people.txt"} | fetch)
    manifest = fetch_and_prepare()
    assert_all_accounted_for(manifest)
    assert (manifest["fetched"]["excluded_people"], manifest["fetched"]["excluded"]) == (1, 5)
    return manifest


@pytest.mark.parametrize("write", [write_folder, write_tar])
def test_casia_webface_with_numbers_leaves_out_people_of_lfw_by_the_list_of_names(project, write):
    lines = "".join(f"{number} {name.replace(' ', '_')}\n" for number, name in CASIA.items())
    strays = {"CASIA-WebFace/names.txt": lines.encode(), "CASIA-WebFace/0000045/Thumbs.db": b""}
    write(project / "casia", casia_tree(CASIA) | strays)
    (project / "names.txt").write_text(lines)
    manifest = exclude(project, {"uri": "casia", "lists": ["names.txt"]})
    assert manifest["identities"] == ["0000045", "0000099", "0000123"]
    assert [file["source"] for file in manifest["quarantined"]] == ["CASIA-WebFace/0000045/Thumbs.db"]


def test_casia_webface_with_names_leaves_out_people_of_lfw(project):
    write_folder(project / "casia", casia_tree(CASIA.values()))
    assert exclude(project, {"uri": "casia"})["identities"] == ["Ann Lee", "Bo Chen", "Cy Doe"]


def test_casia_webface_in_records_leaves_out_people_of_lfw_by_a_list_of_its_own_numbers(project):
    people = [[face(name, number) for number in range(5)] for name in CASIA]
    people[0].append(b"GIF89a")
    write_image_set(project / "casia", image_set(people), identities=4, side=40)
    lines = (f"id_{number:06} {name}\n" for number, name in enumerate(CASIA.values()))
    (project / "people_of_records.txt").write_text("".join(lines))
    manifest = exclude(project, {"uri": "casia", "lists": ["people_of_records.txt"]})
    assert manifest["identities"] == ["id_000000", "id_000001", "id_000002"]
    assert manifest["fetched"]["found"] == 21
    assert [file["source"] for file in manifest["quarantined"]] == ["train.rec/00000006"]


def test_people_without_a_name_are_never_taken_for_strangers_to_lfw(project, capsys):
    write_folder(project / "casia", casia_tree(CASIA))
    (project / "people.txt").write_text(people_text([{"Zoe": 1}]))
    write_params(project, fetch={"source": "casia_webface", "uri": "casia", "exclude_people": "people.txt"})
    assert main(["fetch"]) == 1
    assert one_line(capsys.readouterr().err).startswith(
        "CASIA-WebFace: person 0000045 has no name to compare with fetch.exclude_people; name a list"
    )
    assert not Path("data/raw").exists()


def test_a_set_to_train_on_carries_lfw_bin_for_verification(project):
    write_folder(project / "casia", casia_tree(CASIA))
    lfw_bin(project / "lfw.bin")
    fetch = {"source": "casia_webface", "uri": "casia", "verification": "lfw.bin"}
    write_params(project, fetch=fetch)
    manifest = fetch_and_prepare()
    assert_all_accounted_for(manifest)
    assert manifest["counts"]["found"] == 20
    assert manifest["protocol"].keys() == {"lfw.bin"}
