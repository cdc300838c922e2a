"""One small benchmark that the tests look at, of people whom only an attacker that adapts knows blurred."""

import shutil

import numpy
import pytest
from PIL import Image
from small_benchmark import run, small_params, write_yaml

from ddm_core.seeding import numpy_generator
from ddm_core.stages import prepare

SIDE = 32
BRIGHTER_QUARTERS = ((0,), (1,), (2,), (3,), (0, 3))


@pytest.fixture(scope="session")
def prepared(prepare_params, tmp_path_factory):
    """Five people of ten photos, prepared. Read only.

    Each has stripes, which everybody sees and which blur and mosaic take away, and faintly brighter quarters,
    which survive both: so attackers that learn well pass the sanity gate, and others do not.
    """
    root = tmp_path_factory.mktemp("striped people")
    rows, columns = numpy.mgrid[:SIDE, :SIDE]
    quarters = 2 * (rows >= SIDE // 2) + (columns >= SIDE // 2)
    stripes = (rows, columns, rows // 2, columns // 2, 2 * (rows // 2 + columns // 2))
    for person, (phase, brighter) in enumerate(zip(stripes, BRIGHTER_QUARTERS, strict=True)):
        (root / f"person {person}").mkdir()
        for photo in range(10):
            noise = numpy_generator(0, f"tests/benchmark/{person}/{photo}")
            stripe = numpy.where((phase + noise.integers(4)) % 4 < 2, 60, -60)
            pixels = 110 + stripe + 15 * numpy.isin(quarters, brighter) + noise.normal(0, 3, rows.shape)
            image = Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))
            image.save(root / f"person {person}" / f"photo {photo}.png")
    target = tmp_path_factory.mktemp("data") / "prepared"
    prepare.run(prepare_params, raw=root, prepared=target)
    return target


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
