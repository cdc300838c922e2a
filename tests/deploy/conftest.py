"""The example overlay, filled in as its reader would."""

import shutil
from pathlib import Path

import pytest
from kustomize import compose

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """A copy of deploy/example whose secrets.env files are the templates with values. Read only."""
    copy = tmp_path_factory.mktemp("deploy") / "deploy"
    shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns("secrets.env"))
    for template in copy.rglob("secrets.env.template"):
        lines = template.read_text().splitlines()
        filled = [f"{line}filled-in" if line.endswith("=") else line for line in lines]
        template.with_suffix("").write_text("\n".join(filled) + "\n")
    return copy / "example"


@pytest.fixture
def manifests(example):
    """Every manifest of the example overlay."""
    return compose(example)
