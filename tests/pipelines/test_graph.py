"""dvc.yaml and the Kubeflow graph: the same stages, the same edges."""

from pathlib import Path

import dvc.repo
import pytest
import yaml

from ddm_core.params import load
from ddm_core.results import ATTACKERS, CONTROLS
from pipelines.compile import compile_pipeline
from pipelines.resources import TASKS

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    """The compiled graph."""
    path = tmp_path_factory.mktemp("graph") / "pipeline.yaml"
    compile_pipeline(load(CHECKOUT / "params.yaml"), path)
    return next(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def on_two_nodes(tmp_path_factory):
    """The compiled graph of a training on two nodes."""
    path = tmp_path_factory.mktemp("graph") / "pipeline.yaml"
    compile_pipeline(load(CHECKOUT / "params.yaml"), path, nodes=2)
    return next(yaml.safe_load_all(path.read_text()))


def dvc_edges():
    """(producer, consumer) over stage names; members of a group count as one."""
    main = str(CHECKOUT / "dvc.yaml")
    stages = [stage for stage in dvc.repo.Repo(CHECKOUT).index.stages if stage.path == main]
    producer = {out.def_path: stage.name.partition("@")[0] for stage in stages for out in stage.outs}
    return {
        (name, stage.name.partition("@")[0])
        for stage in stages
        for dep in stage.deps
        for place, name in producer.items()
        if place == dep.def_path or place.startswith(f"{dep.def_path}/")
    }


class Graph:
    """A compiled pipeline, its loops and its exit handler opened."""

    def __init__(self, specification):
        self.components = specification["components"]
        self.edges = set()
        self.walk(specification["root"]["dag"], {})

    def walk(self, dag, given):
        """Collect the edges of one level; `given` says which stage made each artifact handed in."""
        for name, task in dag["tasks"].items():
            artifacts = (task.get("inputs") or {}).get("artifacts") or {}
            made_by = {key: self.source(dag, given, value) for key, value in artifacts.items()}
            component = self.components[task["componentRef"]["name"]]
            if "dag" in component:
                self.walk(component["dag"], made_by)
            else:
                self.edges |= {(stage, name) for stage in made_by.values()}

    def source(self, dag, given, value):
        if "componentInputArtifact" in value:
            return given[value["componentInputArtifact"]]
        origin = value["taskOutputArtifact"]
        return self.producer(dag, origin["producerTask"], origin["outputArtifactKey"])

    def producer(self, dag, task, output):
        component = self.components[dag["tasks"][task]["componentRef"]["name"]]
        if "dag" not in component:
            return task
        (selector,) = component["dag"]["outputs"]["artifacts"][output]["artifactSelectors"]
        return self.producer(component["dag"], selector["producerSubtask"], selector["outputArtifactKey"])


def without(edges, name):
    """The edges with one node taken out and its neighbours joined."""
    before = {start for start, end in edges if end == name}
    after = {end for start, end in edges if start == name}
    rest = {edge for edge in edges if name not in edge}
    return rest | {(start, end) for start in before for end in after}


def test_both_graphs_have_the_same_stages_and_edges(specification):
    edges = without(without(Graph(specification).edges, "join"), "prepare-share")
    assert edges == dvc_edges()


def test_resources_name_every_task_of_the_graph(specification, on_two_nodes):
    names = {name for graph in (specification, on_two_nodes) for name in graph["deploymentSpec"]["executors"]}
    assert {name.removeprefix("exec-").replace("-", "_") for name in names} == set(TASKS)


def test_on_several_nodes_a_train_job_stands_where_train_does(on_two_nodes):
    edges = without(without(Graph(on_two_nodes).edges, "join"), "prepare-share")
    named = {tuple("train" if name == "train-job" else name for name in edge) for edge in edges}
    assert named == dvc_edges()


def test_attacks_fan_out_over_every_obfuscator_and_every_attacker(specification):
    loops = [
        task["parameterIterator"]["items"]
        for component in specification["components"].values()
        for task in component.get("dag", {"tasks": {}})["tasks"].values()
        if "parameterIterator" in task
    ]
    assert {"inputParameter": "pipelinechannel--train"} in loops
    raw = sorted((yaml.safe_load(items["raw"]) for items in loops if "raw" in items), reverse=True)
    assert raw == [[*ATTACKERS, *CONTROLS], ["0/4", "1/4", "2/4", "3/4"]]


def test_a_parameter_has_the_same_type_wherever_it_is_handed_on(specification):
    """KFP's server turns what goes through a STRING into text, and refuses text for a STRUCT."""
    components = specification["components"]
    checked = []
    for outer in (specification["root"], *components.values()):
        declared = outer.get("inputDefinitions", {}).get("parameters", {})
        for name, task in outer.get("dag", {"tasks": {}})["tasks"].items():
            inner = components[task["componentRef"]["name"]].get("inputDefinitions", {})
            for key, value in task.get("inputs", {}).get("parameters", {}).items():
                if origin := value.get("componentInputParameter"):
                    given, taken = declared[origin], inner["parameters"][key]
                    assert given["parameterType"] == taken["parameterType"], (name, key)
                    checked.append((name, key))
    assert ("train", "obfuscator") in checked


def test_the_exit_handler_runs_whatever_happens(specification):
    notify = specification["root"]["dag"]["tasks"]["notify"]
    assert notify["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert notify["inputs"]["parameters"]["status"]["taskFinalStatus"]["producerTask"] == "exit-handler-1"
