"""Photos from S3 and from a DVC project, through the components: which ones they were is told to the end."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys

import pytest
from folders import tree
from kfp.dsl import Artifact, Dataset, Model

from components.fetch import fetch
from components.prepare import prepare
from components.prepare_share import prepare_share
from components.train import train
from ddm_core.data.sources import tree_digest
from ddm_core.errors import DdmError
from ddm_core.tracking import DATASET_TAG, EXPERIMENT, ORIGIN_TAG, connect, experiment_id


def artifact(kind, folder, name):
    """An output artifact as KFP hands it to a component."""
    return kind(name=name, uri=str(folder / name), metadata={})


def fetched(folder, uri, **settings):
    """The artifact `raw` of the component fetch."""
    raw = artifact(Dataset, folder, "raw")
    fetch.python_func({"source": "folder", "uri": uri}, raw, **settings)
    return raw


def prepared_from(raw, params, folder):
    """The artifact `prepared` of the components prepare_share and prepare."""
    parts, prepared = artifact(Artifact, folder, "parts"), artifact(Dataset, folder, "prepared")
    settings = dataclasses.asdict(params)
    prepare_share.python_func(settings, "0/1", raw, parts)
    prepare.python_func(settings, raw, [parts], prepared, artifact(Artifact, folder, "counts"))
    return prepared


def tags_of_training(prepared, params, folder):
    """The tags of the one run in MLflow that the component train makes."""
    model, history = artifact(Model, folder, "model"), artifact(Artifact, folder, "history")
    train.python_func({"name": "ddm", **dataclasses.asdict(params)}, prepared, model, history)
    client = connect()
    (run,) = client.search_runs([experiment_id(client, EXPERIMENT)])
    return run.data.tags


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    """The current folder, with an MLflow store of its own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(folder, *arguments):
    names = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")]
    environment = os.environ | dict.fromkeys(names, "a@example.org") | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory, photo_folder):
    """A DVC project that keeps the photos as data/raw, on its branch main. Read only."""
    folder = tmp_path_factory.mktemp("other") / "faces"
    folder.mkdir()
    command(folder, "git", "init", "--quiet", "--initial-branch", "main")
    shutil.copytree(photo_folder, folder / "data/raw")
    for arguments in (
        ("init", "--quiet"),
        ("remote", "add", "--default", "local", str(folder.parent / "store")),
        ("add", "--quiet", "data/raw"),
        ("push", "--quiet"),
    ):
        command(folder, sys.executable, "-m", "dvc", *arguments)
    command(folder, "git", "add", ".")
    command(folder, "git", "commit", "--quiet", "-m", "Photos")
    return folder


def test_a_dvc_projects_commit_and_hash_are_in_the_artifacts_metadata_and_in_mlflow(
    project, repository, photo_folder, prepare_params, ddm_params
):
    raw = fetched(project, f"dvc://{repository}@main:data/raw")
    commit = command(repository, "git", "rev-parse", "main")
    origin = re.fullmatch(rf"commit {commit}, DVC ([0-9a-f]{{32}}\.dir)", raw.metadata["origin"])
    assert origin[1] in (repository / "data/raw.dvc").read_text()
    assert raw.metadata["digest"] == tree_digest(tree(photo_folder))

    prepared = prepared_from(raw, prepare_params, project)
    tags = tags_of_training(prepared, ddm_params, project)
    assert tags[ORIGIN_TAG] == raw.metadata["origin"]
    assert tags[DATASET_TAG] == prepared.metadata["dataset_digest"]


def test_the_digest_of_photos_from_s3_is_in_the_artifacts_metadata_and_the_datasets_in_mlflow(
    s3, project, photo_folder, prepare_params, ddm_params
):
    for name, content in tree(photo_folder).items():
        s3.put_object(Bucket="faces", Key=f"photos/{name}", Body=content)
    raw = fetched(project, "s3://faces/photos")
    assert raw.metadata["digest"] == tree_digest(tree(photo_folder))
    assert raw.metadata["photos"] == 30
    assert "origin" not in raw.metadata

    prepared = prepared_from(raw, prepare_params, project)
    tags = tags_of_training(prepared, ddm_params, project)
    assert ORIGIN_TAG not in tags
    assert tags[DATASET_TAG] == prepared.metadata["dataset_digest"]


def test_a_fetch_that_is_kept_refuses_an_address_that_a_run_names_without_a_digest(s3, project):
    """As when somebody changes the parameters of a run in KFP's pages."""
    with pytest.raises(
        DdmError, match=r"s3://faces/photos may hold other photos tomorrow, .* set fetch.digest"
    ):
        fetched(project, "s3://faces/photos", pinned=True)
    assert not (project / "raw").exists()
