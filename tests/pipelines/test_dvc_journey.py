"""A dataset's versions travel: pushed from one clone to S3, pulled in another, taken back to, and kept."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from small_project import ATTACKERS, CHECKOUT, git, make_project, read_yaml, run, write_yaml

BUCKET = "versions"
IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")
NOT_MEASURED = ("seconds", "commit", "dirty")


@pytest.fixture(scope="module")
def settings(s3_server, tmp_path_factory):
    """A bucket, and credentials for it in the environment; returns what DVC must not write down."""
    import boto3

    secrets = {"AWS_ACCESS_KEY_ID": "JOURNEYKEY", "AWS_SECRET_ACCESS_KEY": "journey/secret"}
    nowhere = str(tmp_path_factory.mktemp("aws") / "none")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        files = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}
        for name, value in {**secrets, **files, "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}.items():
            patch.setenv(name, value)
        boto3.session.Session().client("s3", endpoint_url=s3_server).create_bucket(Bucket=BUCKET)
        yield secrets


@pytest.fixture(scope="module")
def author(settings, s3_server, photo_folder, tmp_path_factory):
    """The first clone: version v1 of the photos shows four people, v2 five. Both are pushed; the photos are
    then gone, so that whoever wants them needs DVC. Read only."""
    place = tmp_path_factory.mktemp("author")
    photos = place / "photos"
    shutil.copytree(photo_folder, photos)
    shutil.move(photos / "zoe", place / "zoe")
    project = make_project(place / "project", photos)
    use_one_classical_obfuscator(project)
    git(place, "init", "--quiet", "--bare", "origin.git")
    git(project, "remote", "add", "origin", str(place / "origin.git"))
    use_s3(project, s3_server)
    keep_version(project, "v1")
    shutil.move(place / "zoe", photos / "zoe")
    params = read_yaml(project / "params.yaml")
    params["fetch"]["uri"] = str(shutil.move(photos, place / "more photos"))  # so DVC fetches anew
    write_yaml(project / "params.yaml", params)
    keep_version(project, "v2")
    shutil.rmtree(place / "more photos")
    return project


def use_one_classical_obfuscator(project):
    params, graph = read_yaml(project / "params.yaml"), read_yaml(project / "dvc.yaml")
    params["train"] = {"mosaic8": {"method": "mosaic", "block": 8}}
    params["report"] = {"headline": "mosaic8"}
    params["register"]["models"] = {}
    graph["stages"]["attack"]["matrix"] = {"obfuscator": ["mosaic8"], "attacker": list(ATTACKERS)}
    del graph["stages"]["register"]
    write_yaml(project / "params.yaml", params)
    write_yaml(project / "dvc.yaml", graph)


def use_s3(project, endpoint):
    done = make_remote(project, f"BUCKET={BUCKET}/faces", f"ENDPOINT={endpoint}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_remote(project, *settings):
    """Run the project's own `make remote-s3`, with the commands of this Python in place of `.venv`'s."""
    shutil.copy(CHECKOUT / "Makefile", project.parent)
    commands = f"BIN={Path(sys.executable).parent}"
    return run(project, "make", "--file", "../Makefile", "remote-s3", "READY=", commands, *settings)


def dvc(project, *arguments):
    done = run(project, "dvc", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def keep_version(project, tag):
    """Run the pipeline, then keep its outcome as people do: commit, tag, push the code and the data."""
    dvc(project, "repro")
    git(project, "add", ".")
    git(project, *IDENTITY, "commit", "--quiet", "--message", tag)
    git(project, "tag", tag)
    git(project, "push", "--quiet", "origin", "HEAD", "--tags")
    dvc(project, "push")


def clone(author, folder):
    folder.parent.mkdir(exist_ok=True)
    git(folder.parent, "clone", "--quiet", str(author.parent / "origin.git"), folder.name)
    return folder


@pytest.fixture(scope="module")
def reader(author, s3_server, tmp_path_factory):
    """The second clone, with the newest version pulled. Tests take it to other versions, in their order."""
    project = clone(author, tmp_path_factory.mktemp("reader") / "project")
    use_s3(project, s3_server)
    dvc(project, "pull")
    return project


def people(project):
    return {path.name for path in (project / "data/raw").iterdir() if path.is_dir()}


def metrics(project):
    return measured(json.loads((project / "reports/metrics.json").read_text()))


def metrics_of(author, tag):
    """The metrics that the author's run of a version gave, out of the author's own cache."""
    outs = yaml.safe_load(git(author, "show", f"{tag}:dvc.lock"))["stages"]["report"]["outs"]
    (digest,) = [out["md5"] for out in outs if out["path"] == "reports/metrics.json"]
    return measured(json.loads((author / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_text()))


def measured(value):
    if isinstance(value, dict):
        return {key: measured(item) for key, item in value.items() if key not in NOT_MEASURED}
    return [measured(item) for item in value] if isinstance(value, list) else value


def stages_run(output):
    return re.findall(r"^Running stage '(.+)':$", output, re.MULTILINE)


def test_make_remote_s3_says_how_credentials_are_found_and_leaves_git_alone(author, reader, settings):
    said = use_s3(clone(author, reader.parent / "third"), "http://127.0.0.1:9")
    assert "dvc push and dvc pull now use s3://versions/faces at http://127.0.0.1:9" in said
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role" in said
    assert git(reader, "status", "--porcelain", "--untracked-files=all", ".dvc") == ""
    configuration = (reader / ".dvc/config.local").read_text()
    assert "endpointurl" in configuration
    assert [secret for secret in settings.values() if secret in configuration] == []


def test_a_pulled_version_is_whole_and_nothing_needs_to_run(author, reader):
    assert people(reader) == {"Anna Lee", "Björn", "José", "王芳", "zoe"}
    assert metrics(reader) == metrics_of(author, "v2")
    assert stages_run(dvc(reader, "repro")) == []
    assert git(reader, "status", "--porcelain", "--untracked-files=no") == ""


def test_an_older_version_comes_back_with_its_metrics(author, reader):
    git(reader, "checkout", "--quiet", "v1")
    dvc(reader, "fetch")
    dvc(reader, "checkout")
    assert people(reader) == {"Anna Lee", "Björn", "José", "王芳"}
    assert metrics(reader) == metrics_of(author, "v1") != metrics_of(author, "v2")
    assert stages_run(dvc(reader, "repro")) == []


def test_the_older_version_computed_again_gives_the_older_metrics(author, reader):
    """From the photos that came with DVC: their first home is gone."""
    git(reader, "checkout", "--quiet", "v1")
    dvc(reader, "pull")
    (reader / "reports/metrics.json").unlink()
    stages = ["prepare", "recognise", "attack@mosaic8-clean", "report"]
    assert stages_run(dvc(reader, "repro", "--force", "--single-item", *stages)) == stages
    assert metrics(reader) == metrics_of(author, "v1")
    git(reader, "checkout", "--quiet", "--force", "v1")
    dvc(reader, "checkout", "--force")


def is_cached(project, tag):
    """Tell whether the cache knows the photos of a version."""
    (out,) = yaml.safe_load(git(project, "show", f"{tag}:dvc.lock"))["stages"]["fetch"]["outs"]
    return (project / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).exists()


def test_collecting_garbage_keeps_what_the_workspace_needs_and_the_remote_has_the_rest(author, reader):
    git(reader, "checkout", "--quiet", "v2")
    dvc(reader, "pull")
    dvc(reader, "gc", "--workspace", "--force")
    assert is_cached(reader, "v2")
    assert not is_cached(reader, "v1")
    assert "up to date" in dvc(reader, "status")
    git(reader, "checkout", "--quiet", "v1")
    dvc(reader, "pull")
    assert metrics(reader) == metrics_of(author, "v1")


def test_collecting_garbage_in_the_remote_keeps_every_branch_and_tag_asked_for(author, reader, s3_server):
    git(reader, "checkout", "--quiet", "v2")
    dvc(reader, "pull")
    (reader / "data/raw/draft.png").write_bytes(b"of a version that nobody kept")
    dvc(reader, "commit", "--force", "fetch")
    dvc(reader, "push")
    git(reader, "checkout", "--quiet", "--force", "v2")
    dvc(reader, "checkout", "--force")
    before = objects(s3_server)
    dvc(reader, "gc", "--all-branches", "--all-tags", "--cloud", "--force")
    assert 0 < len(before - objects(s3_server)) < len(before)
    fourth = clone(author, reader.parent / "fourth")
    use_s3(fourth, s3_server)
    for tag in ("v2", "v1"):
        git(fourth, "checkout", "--quiet", tag)
        dvc(fourth, "pull")
        assert metrics(fourth) == metrics_of(author, tag)
        assert "up to date" in dvc(fourth, "status")


def objects(endpoint):
    import boto3

    client = boto3.session.Session().client("s3", endpoint_url=endpoint)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {item["Key"] for page in pages for item in page["Contents"]}


def empty_project(folder):
    """A project with this one's configuration of DVC and nothing else."""
    strangers = shutil.ignore_patterns("tmp", "cache", "*.local")
    shutil.copytree(CHECKOUT / ".dvc", folder / ".dvc", ignore=strangers)
    git(folder, "init", "--quiet")
    return folder


def test_without_any_set_up_clones_side_by_side_share_a_folder(tmp_path):
    """As the project's own .dvc/config says; nothing of it lies inside a clone."""
    first = tmp_path / "first"
    shutil.copytree(
        CHECKOUT / ".dvc", first / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "*.local")
    )
    git(first, "init", "--quiet")
    (first / "photos").mkdir()
    (first / "photos/1.png").write_bytes(b"one")
    dvc(first, "add", "photos")
    git(first, "add", ".")
    git(first, *IDENTITY, "commit", "--quiet", "--message", "photos")
    dvc(first, "push")
    git(tmp_path, "clone", "--quiet", str(first), "second")
    dvc(tmp_path / "second", "pull")
    assert (tmp_path / "second/photos/1.png").read_bytes() == b"one"
    assert (tmp_path / "dvc-store").is_dir()


def test_a_version_that_was_never_pushed_is_named(tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(
        CHECKOUT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "*.local")
    )
    git(folder, "init", "--quiet")
    entry = {"md5": "0" * 32, "size": 3, "hash": "md5", "path": "photos.tar"}
    write_yaml(folder / "photos.tar.dvc", {"outs": [entry]})
    done = run(folder, "dvc", "pull")
    assert done.returncode != 0
    assert "photos.tar" in done.stdout + done.stderr


MISTAKES = {
    "BUCKET is no bucket; write BUCKET=name or BUCKET=name/prefix": ["BUCKET=s3://faces"],
    "BUCKET is no bucket": ["BUCKET=$(touch stolen)"],
    "ENDPOINT is no address; write https://host:port": ["BUCKET=faces", "ENDPOINT=minio:$(id)"],
    "credentials have no place in it": ["BUCKET=faces", "ENDPOINT=http://name:hidden@minio"],
}


@pytest.mark.parametrize("reason", MISTAKES)
def test_a_mistake_in_make_remote_s3_is_one_line_and_writes_nothing(tmp_path, reason):
    (tmp_path / "project").mkdir()
    done = make_remote(tmp_path / "project", *MISTAKES[reason])
    assert done.returncode != 0
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("make remote-s3: ")]
    assert reason in line
    assert "hidden" not in done.stdout + done.stderr
    assert not (tmp_path / "project/stolen").exists()
    assert not (tmp_path / "project/.dvc/config.local").exists()
