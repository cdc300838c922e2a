"""One small project that every test of the sweep starts from."""

import pytest
from small_sweep import small_params, small_space, write_yaml

from ddm_core.params import parse_params
from ddm_core.stages import recognise


@pytest.fixture(scope="session")
def recogniser(prepared, tmp_path_factory):
    """The clean recogniser of the five people. Read only."""
    folder = tmp_path_factory.mktemp("results") / "recogniser"
    params = parse_params(small_params(), "small_params").recognise
    found = recognise.run(params, prepared=prepared, recogniser=folder)
    assert found.clean_top1 == 1.0
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, prepared, recogniser, empty_store):
    """A folder with params.yaml, space.yaml, prepared photos and a recogniser; the current one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/prepared").symlink_to(prepared)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/recogniser").symlink_to(recogniser)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    write_yaml(tmp_path / "params.yaml", small_params())
    write_yaml(tmp_path / "space.yaml", small_space())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
