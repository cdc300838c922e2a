"""One rendered page for all tests of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from benchmark_results import write_results

from ddm_core.benchmark.page import write_page


@pytest.fixture(scope="session")
def results_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index.html of made-up results; read only."""
    return write_page(write_results(tmp_path_factory.mktemp("benchmark_results")))


@pytest.fixture(scope="session")
def published_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index.html of the results that the documentation shows, docs/results.json; read only."""
    folder = tmp_path_factory.mktemp("published_results")
    shutil.copy(Path(__file__).parents[2] / "docs" / "results.json", folder / "results.json")
    return write_page(folder)
