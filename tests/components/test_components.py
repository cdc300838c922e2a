"""A component is a signature and one call into `ddm_core.stages`; all it needs is in the image."""

import ast
import sys
from pathlib import Path

import pytest
from kfp.components import load_component_from_file

from ddm_core.cli import main

CHECKOUT = Path(__file__).parents[2]
FILES = sorted(path for path in (CHECKOUT / "components").glob("[!_]*.py") if path.name != "image.py")
STAGES = {path.stem for path in (CHECKOUT / "ddm_core/stages").glob("[!_]*.py")}
# What a graph of containers needs besides the stages.
NO_STAGE = {"join", "notify", "prepare_share", "train_job"}
IMAGE = "registry.example/ddm@sha256:" + "0" * 64


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder that `ddm pipeline components` writes."""
    folder = tmp_path_factory.mktemp("components")
    assert main(["pipeline", "components", "-o", str(folder), "--image", IMAGE]) == 0
    return folder


def body(path):
    """The component function of a file."""
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [path.stem]
    return functions[0]


def imported(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module


def test_every_stage_has_a_component_of_its_name():
    assert {path.stem for path in FILES} == STAGES | NO_STAGE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_component_file_imports_nothing_but_kfp_at_the_top(path):
    names = set(imported(ast.parse(path.read_text()).body))
    assert names <= {"kfp.dsl", "components.image"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_body_sees_the_standard_library_and_the_core_alone(path):
    packages = {name.partition(".")[0] for name in imported(ast.walk(body(path)))}
    assert packages - set(sys.stdlib_module_names) == {"ddm_core"}


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in STAGES], ids=lambda path: path.stem)
def test_a_body_calls_its_stage_once_and_decides_nothing(path):
    nodes = list(ast.walk(body(path)))
    calls = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
    others = {"prepare": "prepare.merge", "report": "run", "train": "processes.run"}
    expected = others.get(path.stem, f"{path.stem}.run")
    assert [call for call in calls if call.rpartition(".")[2] in ("run", "merge")] == [expected]
    taken = {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if node.module == "ddm_core.stages" or alias.name in ("run", "processes")
    }
    # One process a GPU: `processes.run` calls the stage in each.
    sources = {"report": "ddm_core.stages.report.run", "train": "ddm_core.processes"}
    assert taken == {sources.get(path.stem, f"ddm_core.stages.{path.stem}")}
    assert not any(isinstance(node, ast.If | ast.For | ast.While | ast.Try) for node in nodes)


@pytest.mark.parametrize("name", sorted(STAGES | NO_STAGE))
def test_a_component_compiles_to_a_file_that_others_load(built, name):
    component = load_component_from_file(str(built / f"{name}.yaml"))
    assert component.component_spec.implementation.container.image == IMAGE
    assert component.name.replace("-", "_") == name


@pytest.mark.parametrize("name", sorted(STAGES | NO_STAGE))
def test_a_component_installs_nothing_when_it_runs(built, name):
    assert "pip install" not in (built / f"{name}.yaml").read_text()


def test_results_are_typed_artifacts(built):
    outputs = {
        path.stem: {
            output: specification.type
            for output, specification in (
                load_component_from_file(str(path)).component_spec.outputs or {}
            ).items()
        }
        for path in built.glob("*.yaml")
    }
    kinds = {stage: {kind.partition("@")[0] for kind in kinds.values()} for stage, kinds in outputs.items()}
    assert kinds["prepare"] == {"system.Dataset", "system.Metrics"}
    assert kinds["train"] == {"system.Model", "system.Artifact"}
    assert kinds["attack"] == {"system.Artifact", "system.Metrics", "system.ClassificationMetrics"}
    assert kinds["report"] == {"system.Artifact", "system.HTML", "system.Markdown", "system.Metrics"}
