"""Data of another DVC project come at the version that was asked for, and say which one it was."""

import hashlib
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from folders import names, tree
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.data.dvc_source import DvcAddress, is_dvc, parse_dvc, read_dvc
from ddm_core.errors import DdmError
from ddm_core.params import FetchParams
from ddm_core.stages import fetch

PHOTOS = {"anna/1.png": b"first", "anna/2.png": b"second", "王芳/1.png": b"third"}
MORE = PHOTOS | {"ben/1.png": b"fourth"}


# Addresses


@pytest.mark.parametrize(
    ("repository", "revision", "path"),
    [
        ("/srv/faces", "v1.0", "data/raw"),
        ("../faces", "main", "data/raw/anna b"),
        ("https://git.example.org/team/faces.git", "feature/more-faces", "data"),
        ("ssh://git@git.example.org:22/team/faces", "HEAD~1", "data:raw"),
        ("git@git.example.org:team/faces.git", "0123abcd", "数据/raw"),
        ("/srv/a@b:c", "v1", "data"),
    ],
)
def test_an_address_names_a_repository_a_revision_and_a_path(repository, revision, path):
    address = f"dvc://{repository}@{revision}:{path}"
    assert is_dvc(address)
    assert parse_dvc(address) == DvcAddress(repository, revision, path)
    assert str(parse_dvc(address)) == address


@pytest.mark.parametrize("uri", ["data/raw", "s3://faces/raw", "/dvc://x", "dvc:/x"])
def test_other_addresses_are_not_dvc(uri):
    assert not is_dvc(uri)


@pytest.mark.parametrize(
    "address",
    [
        "dvc://",
        "dvc://faces",
        "dvc://faces@v1",
        "dvc://faces:data",
        "dvc://@v1:data",
        "dvc://faces@:data",
        "dvc://faces@v1:",
        "dvc://faces@v1:da\nta",
        "dvc://--upload-pack=evil@v1:data",
        "dvc://faces@--help:data",
        "dvc://faces@-v1:data",
        "dvc://faces@v1..v2:data",
        "dvc://faces@v1:--out=evil",
        "dvc://faces@v1:/etc",
        "dvc://faces@v1:data/../../etc",
        "dvc://faces@v1:./data",
        "dvc://ext::sh -c evil@v1:data",
        "dvc://ssh://-oProxyCommand=evil/x@v1:data",
        "dvc://ssh://git@-oProxyCommand=evil/x@v1:data",
        "dvc://git@-oProxyCommand=evil:x@v1:data",
        "dvc://javascript://host/x@v1:data",
        "dvc://https://name:hidden@host/x@v1:data",
        "dvc://https://hidden@host/x@v1:data",
    ],
)
def test_what_could_be_taken_for_something_else_is_refused(address):
    with pytest.raises(DdmError) as caught:
        parse_dvc(address)
    assert str(caught.value).isprintable()
    assert "hidden" not in str(caught.value)


@given(st.text(max_size=10), st.text(max_size=10), st.text(max_size=10))
def test_an_address_is_parsed_without_loss_or_refused(repository, revision, path):
    text = f"dvc://{repository}@{revision}:{path}"
    try:
        address = parse_dvc(text)
    except DdmError as error:
        assert str(error).isprintable()
        return
    assert str(address) == text
    assert not any(part.startswith("-") for part in (address.repository, address.revision, address.path))
    assert "@" not in address.revision + address.path
    assert ".." not in address.path.split("/")


# Reading


def command(folder, *arguments):
    names = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")]
    identity = dict.fromkeys(names, "a@example.org")
    environment = dict(os.environ) | identity | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def dvc(folder, *arguments):
    return command(folder, sys.executable, "-m", "dvc", *arguments)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A DVC project with two versions of data/raw, tagged v1 and v2, pushed to a local remote. Read only."""
    folder = tmp_path_factory.mktemp("other") / "faces"
    folder.mkdir()
    command(folder, "git", "init", "--quiet")
    dvc(folder, "init", "--quiet")
    dvc(folder, "remote", "add", "--default", "local", str(folder.parent / "store"))
    for tag, photos in (("v1", PHOTOS), ("v2", MORE)):
        for name, content in photos.items():
            (folder / "data/raw" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "data/raw" / name).write_bytes(content)
        (folder / "plain/casia/0000045").mkdir(parents=True, exist_ok=True)
        (folder / "plain/casia/0000045/001.jpg").write_text("a photo")
        (folder / "plain/people.txt").write_text("1\n1\nBen\t1\n")
        dvc(folder, "add", "--quiet", "data/raw")
        dvc(folder, "push", "--quiet")
        command(folder, "git", "add", ".")
        command(folder, "git", "commit", "--quiet", "-m", tag)
        command(folder, "git", "tag", tag)
    return folder


@pytest.mark.parametrize(("tag", "photos"), [("v1", PHOTOS), ("v2", MORE)])
def test_the_folder_comes_at_the_revision_asked_for_and_says_which_it_was(repository, tmp_path, tag, photos):
    version = read_dvc(f"dvc://{repository}@{tag}:data/raw", tmp_path)
    assert tree(tmp_path) == photos
    assert version.commit == command(repository, "git", "rev-parse", tag)
    record = yaml.safe_load(command(repository, "git", "show", f"{tag}:data/raw.dvc"))
    assert version.digest == record["outs"][0]["md5"]
    assert str(version.address) == f"dvc://{repository}@{tag}:data/raw"


def test_files_come_as_ordinary_files_beside_what_is_there(repository, tmp_path):
    (tmp_path / "mark").write_text("kept")
    read_dvc(f"dvc://{repository}@v1:data/raw", tmp_path)
    assert names(tmp_path) == ["anna", "mark", "王芳"]
    status = (tmp_path / "anna/1.png").stat()
    assert (status.st_mode & 0o777, status.st_nlink) == (0o644, 1)


def test_a_repository_is_found_by_a_path_relative_to_here(repository, tmp_path, monkeypatch):
    """A folder here that is named like DVC itself is not taken for it."""
    (repository.parent / "dvc").mkdir()
    (repository.parent / "dvc/__main__.py").write_text("raise SystemExit('the wrong dvc')")
    monkeypatch.chdir(repository.parent)
    read_dvc("dvc://faces@v1:data/raw/anna", tmp_path)
    assert set(tree(tmp_path)) == {"1.png", "2.png"}


def test_a_branch_stands_for_the_commit_it_had(repository, tmp_path):
    branch = command(repository, "git", "branch", "--show-current")
    assert read_dvc(f"dvc://{repository}@{branch}:data/raw", tmp_path).commit == command(
        repository, "git", "rev-parse", "v2"
    )


WRONG = {
    "{repository}@v9:data/raw": "the repository has no revision v9; name a branch, a tag or a commit",
    "{repository}@v1:data/nothing": "the repository has no data/nothing at v1; `dvc list` shows what",
    "{repository}-nowhere@v1:data/raw": "no git repository there, or no access to it",
    "http://127.0.0.1:1/faces@v1:data/raw": "no git repository there, or no access to it",
}


@pytest.mark.parametrize("address", WRONG)
def test_what_is_not_there_is_one_line_and_leaves_nothing(repository, tmp_path, address):
    whole = "dvc://" + address.format(repository=repository)
    with pytest.raises(DdmError) as caught:
        read_dvc(whole, tmp_path)
    assert str(caught.value).startswith(f"{whole}: {WRONG[address]}")
    assert str(caught.value).isprintable()
    assert names(tmp_path) == []


@pytest.fixture
def copy(repository, tmp_path):
    """A clone of the project with a remote of its own, and no cache."""
    command(tmp_path, "git", "clone", "--quiet", str(repository), "clone")
    command(tmp_path, "cp", "-r", str(repository.parent / "store"), "store")
    dvc(tmp_path / "clone", "remote", "modify", "--local", "local", "url", str(tmp_path / "store"))
    return tmp_path / "clone"


def stored(folder, content):
    digest = hashlib.md5(content).hexdigest()
    return folder / "store/files/md5" / digest[:2] / digest[2:]


def test_data_that_were_never_pushed_are_named(copy, tmp_path):
    stored(tmp_path, PHOTOS["anna/1.png"]).unlink()
    (tmp_path / "raw").mkdir()
    with pytest.raises(DdmError, match="its data are not in the project's DVC remote; run `dvc push`"):
        read_dvc(f"dvc://{copy}@v1:data/raw", tmp_path / "raw")
    assert names(tmp_path / "raw") == []


def test_data_that_are_damaged_in_the_remote_are_refused(copy, tmp_path):
    """DVC itself takes what its remote has under a hash's name."""
    damaged = stored(tmp_path, PHOTOS["anna/1.png"])
    damaged.chmod(0o644)
    damaged.write_bytes(b"fir5t")
    (tmp_path / "raw").mkdir()
    with pytest.raises(DdmError, match="damaged in the project's DVC remote"):
        read_dvc(f"dvc://{copy}@v1:data/raw", tmp_path / "raw")
    assert names(tmp_path / "raw") == []


def test_what_takes_too_long_is_given_up(repository, tmp_path):
    with pytest.raises(DdmError, match=r"no end within 0\.01 seconds; check the network"):
        read_dvc(f"dvc://{repository}@v1:data/raw", tmp_path, timeout_seconds=0.01)
    assert names(tmp_path) == []


def test_a_single_file_comes_under_its_own_name(repository, tmp_path):
    version = read_dvc(f"dvc://{repository}@v1:data/raw/anna/1.png", tmp_path)
    assert tree(tmp_path) == {"1.png": PHOTOS["anna/1.png"]}
    assert version.place == tmp_path / "1.png"
    assert version.digest == hashlib.md5(PHOTOS["anna/1.png"]).hexdigest()


# Through ddm fetch


def test_fetch_takes_the_folder_and_tells_its_version(repository, tmp_path):
    commit = command(repository, "git", "rev-parse", "v2")
    params = FetchParams("folder", f"dvc://{repository}@v2:data/raw")
    result = fetch.run(params, raw=tmp_path / "raw")
    assert {name: content for name, content in tree(tmp_path / "raw").items() if "/" in name} == MORE
    assert result.origin.startswith(f"commit {commit}, DVC ")
    assert result.origin.endswith(".dir")
    assert json.loads((tmp_path / "raw/source.json").read_text())["origin"] == result.origin
    assert names(tmp_path) == ["raw"]


def test_other_sources_and_lists_come_the_same_way(repository, tmp_path):
    """Here they are files that git itself keeps."""
    at = f"dvc://{repository}@v2"
    casia = fetch.run(FetchParams("casia_webface", f"{at}:plain/casia"), raw=tmp_path / "raw")
    assert (casia.photos, casia.identities) == (1, 1)
    assert casia.origin.startswith("commit ")
    params = FetchParams("folder", f"{at}:data/raw", exclude_people=f"{at}:plain/people.txt")
    assert fetch.run(params, raw=tmp_path / "raw").excluded_photos == 1
    assert names(tmp_path) == ["raw"]


def test_what_is_wrong_with_what_came_names_its_address(repository, tmp_path):
    address = f"dvc://{repository}@v2:data/raw"
    with pytest.raises(DdmError, match=f"^{re.escape(address)}: no photo of LFW in it"):
        fetch.run(FetchParams("lfw", address), raw=tmp_path / "raw")
    assert names(tmp_path) == []


def test_a_malformed_address_is_refused_with_the_params():
    with pytest.raises(ValueError, match="uri is not dvc://<git repository>@"):
        FetchParams("folder", "dvc://faces:data/raw")
