"""One small benchmark that the tests look at."""

import shutil

import pytest
from small_benchmark import run, small_params, write_yaml


@pytest.fixture
def project(tmp_path, prepared, monkeypatch):
    """A folder with a small benchmark/params.yaml and prepared photos; the current one."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_project(tmp_path, prepared, monkeypatch)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, prepared, empty_store):
    """A project whose benchmark has run, and what the run said. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = make_project(tmp_path_factory.mktemp("benchmark"), prepared, patch)
        shutil.copy(empty_store, folder / "mlflow.db")
        return folder, run(folder, "--jobs", 2)


def make_project(folder, prepared, patch):
    (folder / "benchmark").mkdir()
    write_yaml(folder / "benchmark/params.yaml", small_params())
    shutil.copytree(prepared, folder / "data/prepared")
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.chdir(folder)
    return folder
