"""dvc.yaml, params.yaml, the command line and the stages' modules say the same thing, in the same words."""

import ast
import dataclasses
import importlib
import itertools
import re
from pathlib import Path

import dvc.repo
import pytest
import yaml

from ddm_core.cli import build_parser
from ddm_core.params import Params, load
from ddm_core.results import ATTACKERS, CONTROLS

CHECKOUT = Path(__file__).parents[2]
PARAMS = load(CHECKOUT / "params.yaml")

# Modules that decide no figure and no weight, each with why. A change to one of them reruns nothing.
WITHOUT_INFLUENCE = {
    "ddm_core.errors": "words of messages",
    "ddm_core.files": "moves bytes to and from disk unchanged",
    "ddm_core.places": "tells addresses from paths",
    "ddm_core.strict": "refuses settings, changes none",
    "ddm_core.ranges": "refuses settings, changes none",
    "ddm_core.params": "carries settings, which are deps themselves",
    "ddm_core.fetch_params": "carries settings, which are deps themselves",
    "ddm_core.obfuscator_params": "carries settings, which are deps themselves",
    "ddm_core.serving.foreign": "calls models of others; params.yaml judges none",
    "ddm_core": "the version, which the downloader tells the servers it asks",
    "ddm_core.results": "names files and fields; the report fails on one it does not know",
    "ddm_core.tracking": "tells MLflow what happened",
    "ddm_core.tracking_address": "where MLflow is",
    "ddm_core.checkpoints": "moves weights to and from disk unchanged",
    "ddm_core.training_checkpoints": "moves a training's state to and from disk unchanged",
    "ddm_core.training_state": "moves a training's state to and from memory unchanged",
    "ddm_core.training_key": "names checkpoints",
    "ddm_core.loss_watch": "stops a training, changes none",
    "ddm_core.termination": "ends work, changes none",
    "ddm_core.step_clock": "measures a training, changes none",
    "ddm_core.profiling": "measures a training, changes none",
    "ddm_core.grids": "draws pictures for people out of what was measured",
}
# The same for one stage alone.
WITHOUT_INFLUENCE_ON = {
    ("recognise", "ddm_core.learned_params"): "sizes and starts of obfuscators; this stage trains none",
    **{
        (stage, f"ddm_core.data.{module}"): "made data/prepared, which is a dep itself"
        for stage in ("train", "recognise", "attack", "utility")
        for module in ("manifest", "photo_table", "splits", "tar_shards")
    },
    **{
        (stage, "ddm_core.discrepancy"): "training.py's loss; this stage takes other parts of training.py"
        for stage in ("recognise", "attack", "utility")
    },
    **{
        (stage, "ddm_core.data_parallel"): "shares out the work of `train` alone"
        for stage in ("recognise", "attack", "utility")
    },
    **{
        (stage, "ddm_core.training_photos"): "brings photos to `train` alone"
        for stage in ("recognise", "attack", "utility")
    },
    **{
        ("train", f"ddm_core.storage.{module}"): "moves bytes from S3 unchanged"
        for module in ("addresses", "reading")
    },
    ("recognise", "ddm_core.keys"): "the photos are clean, nothing is encrypted",
    ("recognise", "ddm_core.obfuscators.protocol"): "the photos are clean, nothing is encrypted",
    ("utility", "ddm_core.confusion"): "reads the recogniser, trains none",
}


@pytest.fixture(scope="module")
def stages():
    """Every stage as DVC itself resolves it, `foreach` and `matrix` expanded; DVC checks the graph too."""
    repository = dvc.repo.Repo(CHECKOUT)
    assert repository.index.graph is not None
    return [stage for stage in repository.index.stages if stage.path == str(CHECKOUT / "dvc.yaml")]


def verb(stage):
    return stage.name.partition("@")[0]


def by_verb(stages):
    """One stage of each kind: the members of a group differ in names alone."""
    return {verb(stage): stage for stage in stages}


def deps(stage):
    return {dep.def_path for dep in stage.deps if dep.def_path != "params.yaml"}


def code_deps(stage):
    return {dep for dep in deps(stage) if dep.startswith("ddm_core")}


def outs(stage):
    return {out.def_path for out in stage.outs}


def is_within(path, folders):
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def imported_modules(file):
    """Names of the ddm_core modules that a file imports anywhere, but for types alone."""
    pending, found = [ast.parse(file.read_text())], set()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ddm_core":
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if module_file(name) else node.module for name in names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("ddm_core")}
        pending += ast.iter_child_nodes(node)
    return found


def module_file(module):
    """Path of a module's file, `None` where there is none."""
    path = CHECKOUT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def reached(stage, excused):
    """Modules that a stage imports, directly or not; the search ends at an excused one, which is noted."""
    pending, found = {f"ddm_core.stages.{stage}"}, set()
    while pending:
        module = pending.pop()
        for excuse in (module, (stage, module)):
            if excuse in WITHOUT_INFLUENCE or excuse in WITHOUT_INFLUENCE_ON:
                excused.add(excuse)
                break
        else:
            found.add(module)
            pending |= imported_modules(module_file(module)) - found
    return {str(module_file(module).relative_to(CHECKOUT)) for module in found}


def test_a_stage_a_verb_a_module_and_a_section_share_a_name(stages):
    names = set(by_verb(stages))
    verbs = re.findall(r"^ +(\w+)\s+stage: ", build_parser().format_help(), re.MULTILINE)
    modules = {path.stem for path in (CHECKOUT / "ddm_core/stages").glob("[!_]*.py")}
    sections = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    assert set(verbs) == names
    assert modules == names
    assert set(sections) == names
    assert {field.name for field in dataclasses.fields(Params)} == names
    for name in names:
        assert callable(importlib.import_module(f"ddm_core.stages.{name}").run)


def test_every_command_parses_and_names_its_own_stage(stages):
    for stage in stages:
        program, name, *arguments = stage.cmd.split()
        build_parser().parse_args([name, *arguments])
        assert program == "ddm"
        assert name == verb(stage)
        assert stage.name.partition("@")[2] == "-".join(arguments)


def test_default_paths_of_a_verb_are_what_dvc_yaml_declares_for_it(stages):
    for stage in stages:
        options = vars(build_parser().parse_args(stage.cmd.split()[1:]))
        paths = {str(value) for value in options.values() if isinstance(value, Path)} - {"params.yaml"}
        declared = (deps(stage) - code_deps(stage)) | outs(stage)
        strangers = [path for path in paths if not any(is_within(place, [path]) for place in declared)]
        assert strangers == [], f"{stage.name}: paths that dvc.yaml does not declare"
        unreachable = [place for place in declared if not is_within(place, paths)]
        assert unreachable == [], f"{stage.name}: declared, but the command does not touch it"


def test_a_stage_depends_on_its_own_settings(stages):
    for stage in stages:
        settings = [dep.params for dep in stage.deps if dep.def_path == "params.yaml"]
        name, _, member = stage.name.partition("@")
        own = {"train": [f"train.{member}"], "report": []}  # an empty list is the whole file
        assert settings == [own.get(name, [name])], stage.name


def test_groups_cover_every_obfuscator_and_every_attacker(stages):
    commands = sorted(stage.cmd for stage in stages if verb(stage) in ("train", "utility", "attack"))
    wanted = [f"ddm {name} {obfuscator}" for name in ("train", "utility") for obfuscator in PARAMS.train]
    cells = itertools.product(PARAMS.train, ATTACKERS + CONTROLS)
    wanted += [f"ddm attack {obfuscator} {attacker}" for obfuscator, attacker in cells]
    assert commands == sorted(wanted)


def test_settings_name_obfuscators_and_attackers_that_exist():
    assert PARAMS.report.headline in PARAMS.train
    assert set(PARAMS.register.models) <= set(PARAMS.train)
    assert set(PARAMS.register.gate.attackers) <= set(ATTACKERS)


def test_the_report_declares_its_metrics_and_plots(stages):
    report = by_verb(stages)["report"]
    assert [out.def_path for out in report.outs if out.metric] == ["reports/metrics.json"]
    plots = {out.def_path for out in report.outs if out.plot}
    assert plots == {"reports/attacks.csv", "reports/channels.csv", "reports/training.csv"}


def test_every_file_that_decides_an_output_is_a_dep(stages):
    for name, stage in by_verb(stages).items():
        missing = [file for file in reached(name, set()) if not is_within(file, code_deps(stage))]
        assert missing == [], f"dvc.yaml: stage {name} imports these without listing them in deps"


def test_a_stage_lists_no_code_that_it_does_not_import(stages):
    for name, stage in by_verb(stages).items():
        files = reached(name, set())
        idle = [dep for dep in code_deps(stage) if not any(is_within(file, [dep]) for file in files)]
        assert idle == [], f"dvc.yaml: stage {name} lists these without importing them"


def test_every_excuse_excuses_something(stages):
    excused = set()
    for name in by_verb(stages):
        reached(name, excused)
    assert excused == set(WITHOUT_INFLUENCE) | set(WITHOUT_INFLUENCE_ON)


def test_imports_are_followed_into_functions_and_through_modules():
    files = reached("train", set())
    assert {"ddm_core/training.py", "ddm_core/networks.py", "ddm_core/quaternions.py"} <= files
