"""benchmark/dvc.yaml: the same cells as `ddm benchmark`, in the same folder, cached cell by cell."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import dvc.repo
import pandas
import pytest
from small_benchmark import (
    ATTACKERS,
    CELLS,
    CHECKOUT,
    CONTROL_ATTACKERS,
    CONTROLS,
    OBFUSCATORS,
    measured,
    read_yaml,
    run,
    small_params,
    write_yaml,
)

from ddm_core.benchmark.code import PACKAGE, code_files
from ddm_core.benchmark.plan import Cell, grid
from ddm_core.benchmark.settings import Choice, load

GRID = load(CHECKOUT / "benchmark/params.yaml", Choice())
CONTROL_STAGES = {
    f"train_control@{cell.obfuscator}"
    if cell.stage == "train"
    else f"attack_control@{cell.obfuscator}-{cell.attacker}"
    for cell in set(grid(GRID, controls=True)) - set(grid(GRID))
}
STAGES = {"recognise", "table"} | {
    f"{stage}@{name}" for stage in ("train", "utility") for name in OBFUSCATORS
}
STAGES |= {f"attack@{name}-{attacker}" for name in OBFUSCATORS for attacker in ATTACKERS}
STAGES |= {f"train_control@{name}" for name in CONTROLS}
STAGES |= {f"attack_control@{name}-{attacker}" for name in CONTROLS for attacker in CONTROL_ATTACKERS}


@pytest.fixture(scope="module")
def stages():
    """Every stage as DVC itself resolves it; DVC checks the graph too."""
    repository = dvc.repo.Repo(CHECKOUT)
    file = str(CHECKOUT / "benchmark/dvc.yaml")
    return {stage.name: stage for stage in repository.index.stages if stage.path == file}


@pytest.fixture(scope="module")
def project(tmp_path_factory, prepared):
    """A git and DVC project with a small benchmark and the photos as they are."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    (folder / "benchmark").mkdir(parents=True)
    shutil.copy(CHECKOUT / ".gitignore", folder)
    shutil.copytree(prepared, folder / "data/prepared")
    # DVC hashes the code that dvc.yaml names; what runs is the package that the tests import.
    shutil.copytree(PACKAGE, folder / "ddm_core", ignore=shutil.ignore_patterns("__pycache__"))
    write_yaml(folder / "benchmark/params.yaml", small_params())
    graph = read_yaml(CHECKOUT / "benchmark/dvc.yaml")
    graph["stages"]["attack"]["matrix"] = {"obfuscator": list(OBFUSCATORS), "attacker": list(ATTACKERS)}
    graph["stages"]["train_control"]["foreach"] = list(CONTROLS)
    graph["stages"]["attack_control"]["matrix"] = {
        "obfuscator": list(CONTROLS),
        "attacker": list(CONTROL_ATTACKERS),
    }
    write_yaml(folder / "benchmark/dvc.yaml", graph)
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        assert in_benchmark(folder.parent / "project", *command, where="").returncode == 0
    return folder


def in_benchmark(project, *command, where="benchmark"):
    """Run a command in the project's benchmark folder, `ddm` and `dvc` being those of the tests' Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return subprocess.run(
            command, cwd=project / where, capture_output=True, text=True, check=False, timeout=600
        )


def stages_run(output):
    return set(re.findall(r"^Running stage '(?:.+:)?(.+)':$", output, re.MULTILINE))


def test_every_cell_of_the_grid_is_a_stage(stages):
    attacks = {f"attack@{name}-{attacker}" for name in GRID.obfuscators for attacker in GRID.attackers}
    others = {f"{stage}@{name}" for stage in ("train", "utility") for name in GRID.obfuscators}
    assert set(stages) == attacks | others | CONTROL_STAGES | {"recognise", "table"}


@pytest.mark.parametrize("attacker", GRID.attackers)
def test_a_stage_lists_the_code_that_decides_its_cell(stages, attacker):
    for cell, name in (
        (Cell("recognise", 0), "recognise"),
        (Cell("train", 0, "none"), "train@none"),
        (Cell("utility", 0, "none"), "utility@none"),
        (Cell("attack", 0, "none", attacker), f"attack@none-{attacker}"),
        (Cell("train", 0, "many_time_pad"), "train_control@many_time_pad"),
        (
            Cell("attack", 0, "many_time_pad", "known_plaintext"),
            "attack_control@many_time_pad-known_plaintext",
        ),
    ):
        listed = [PACKAGE.parent / dep.def_path.removeprefix("../") for dep in stages[name].deps]
        missing = [
            str(file.relative_to(PACKAGE))
            for file in code_files(cell)
            if not any(file == path or path in file.parents for path in listed)
        ]
        assert missing == [], name


@pytest.mark.timeout(900)  # a process a stage, and slow where others work too
def test_dvc_runs_every_cell_once_and_gets_the_table_of_ddm_benchmark(project, finished):
    first = in_benchmark(project, "dvc", "repro")
    assert first.returncode == 0, first.stderr
    assert stages_run(first.stdout) == STAGES
    ours, theirs = (
        pandas.read_parquet(folder / "benchmark/results/table.parquet") for folder in (project, finished[0])
    )
    origin = ["commit", "dirty"]
    pandas.testing.assert_frame_equal(
        measured(ours).drop(columns=origin), measured(theirs).drop(columns=origin)
    )

    again = in_benchmark(project, "dvc", "repro")
    assert again.returncode == 0, again.stderr
    assert stages_run(again.stdout) == set()

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        kept = run(project, "--no-mlflow")
    assert re.search(rf"0 cells ran, {CELLS} were there", kept.stdout), kept.stderr
