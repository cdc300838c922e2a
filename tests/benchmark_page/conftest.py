"""One rendered page for all tests of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_results import write_results

from ddm_core.benchmark.page import write_page


@pytest.fixture(scope="session")
def results_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index.html of made-up results; read only."""
    return write_page(write_results(tmp_path_factory.mktemp("benchmark_results")))
