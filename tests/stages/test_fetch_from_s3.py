"""fetch brings every kind of source, and what belongs to it, from S3."""

import hashlib
import json
import pickle
import shutil

import pytest
from folders import names, tree
from source_folders import lfw_folder, raw_folder

from ddm_core.data.regions import read_regions, read_rejected
from ddm_core.errors import DdmError
from ddm_core.params import FetchParams
from ddm_core.stages import fetch


def put(client, objects, prefix=""):
    """Put contents by name below a prefix of the bucket `faces`."""
    for name, content in objects.items():
        client.put_object(Bucket="faces", Key=f"{prefix}{name}", Body=content)


def test_photos_from_s3_give_the_same_raw_folder_as_from_a_local_one(s3, photo_folder, tmp_path):
    put(s3, tree(photo_folder), "photos/")
    local = fetch.run(FetchParams("folder", str(photo_folder)), raw=tmp_path / "local")
    remote = fetch.run(FetchParams("folder", "s3://faces/photos"), raw=tmp_path / "remote")
    assert remote == local
    assert tree(tmp_path / "remote") == tree(tmp_path / "local")


def test_a_download_that_fails_leaves_the_earlier_raw_folder(s3, photo_folder, tmp_path):
    put(s3, tree(photo_folder), "photos/")
    params = FetchParams("folder", "s3://faces/photos")
    fetch.run(params, raw=tmp_path / "raw")
    before = tree(tmp_path / "raw")
    s3.put_object(Bucket="faces", Key="photos/../1.png", Body=b"any")
    with pytest.raises(DdmError, match="is no plain relative path"):
        fetch.run(params, raw=tmp_path / "raw")
    assert tree(tmp_path / "raw") == before
    assert names(tmp_path) == ["raw"]


@pytest.mark.parametrize("lies", ["here", "on S3"])
def test_a_raw_folder_comes_with_all_that_lies_beside_its_photos(s3, tmp_path, lies):
    raw = raw_folder(tmp_path / "made")
    put(s3, tree(raw), "photos/")
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
    put(s3, objects)
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


def test_lfw_comes_from_s3_as_an_archive_with_its_lists_and_the_people_to_leave_out(s3, tmp_path):
    lfw_folder(tmp_path / "lfw")
    shutil.make_archive(str(tmp_path / "lfw"), "gztar", tmp_path, "lfw")
    s3.upload_file(str(tmp_path / "lfw.tar.gz"), "faces", "sets/lfw.tgz")
    put(s3, {"sets/people.txt": b"1\n3\nAnna_Lee\t2\nBo_Chen\t1\nZoe\t2\n"})
    put(s3, {"out/people.txt": b"1\n1\nBo_Chen\t1\n"})
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
    put(s3, objects)
    params = FetchParams(
        "facescrub",
        "s3://faces/images",
        lists=("s3://faces/actors.txt",),
        corrections="s3://faces/mend.txt",
    )
    assert fetch.run(params, raw=tmp_path / "raw").photos == 1
    (region,) = read_regions(tmp_path / "raw").values()
    assert region.box == (1.0, 2.0, 3.0, 4.0)
