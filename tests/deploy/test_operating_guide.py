"""docs/operating.md names what exists: files, options, settings, manifests; and its steps work."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from kustomize import compose, read_env

from ddm_core.cli import build_parser

CHECKOUT = Path(__file__).parents[2]
GUIDE = (CHECKOUT / "docs" / "operating.md").read_text()
COMMANDS = re.sub(r" \\\n\s+", " ", GUIDE)


def options_of(capsys, *verbs):
    with pytest.raises(SystemExit):
        build_parser().parse_args([*verbs, "--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


def test_every_pipeline_command_takes_the_options_that_the_guide_gives_it(capsys):
    commands = re.findall(r"ddm pipeline ([a-z]+)([^\n`]*)", COMMANDS)
    assert {verb for verb, _ in commands} >= {"submit", "status", "logs", "terminate", "run"}
    for verb, rest in commands:
        assert set(re.findall(r"--[a-z-]+", rest)) <= options_of(capsys, "pipeline", verb)


def test_options_named_alone_are_those_of_submit_or_run(capsys):
    known = options_of(capsys, "pipeline", "submit") | options_of(capsys, "pipeline", "run")
    named = re.findall(r"`(--[a-z-]+)(?: [^`]*)?`", GUIDE)
    assert len(named) > 5
    assert set(named) <= known


def test_every_file_of_the_project_that_the_guide_names_exists():
    without_links = re.sub(r"<https?://[^>]*>", "", GUIDE)
    named = set(re.findall(r"(?:deploy|tests|pipelines)/[\w./-]*\w", without_links))
    assert "pipelines/resources.yaml" in named
    for path in named:
        assert path.startswith("deploy/cluster") or (CHECKOUT / path).exists(), path


def test_the_guides_copy_of_the_example_composes(tmp_path):
    shutil.copytree(CHECKOUT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets.env"))
    steps = re.findall(r"^ +(cp .*)$", GUIDE, re.MULTILINE)
    assert len(steps) == 3
    subprocess.run(["sh", "-ec", "\n".join(steps)], cwd=tmp_path, check=True)
    cluster = tmp_path / "deploy" / "cluster"
    names = {manifest["metadata"]["name"] for manifest in compose(cluster)}
    assert {"ddm-settings", "ddm-credentials", "mlflow", "ddm-submitter", "ddm-runner"} <= names
    for name in re.findall(r"(?:deployment|cronjob|service)/([a-z-]+)", GUIDE):
        assert name in names | {"ml-pipeline-ui"}
    to_fill_in = re.findall(r"`((?:mlflow|runs)/[a-z.-]+)`", GUIDE)
    assert len(to_fill_in) > 5
    assert [path for path in to_fill_in if not (cluster / path).exists()] == []


def test_settings_that_the_guide_names_can_be_set():
    offered = "".join(path.read_text() for path in (CHECKOUT / "deploy").rglob("*.env*"))
    named = set(re.findall(r"`((?:MLFLOW|AWS)_[A-Z_]+)`", GUIDE))
    assert "MLFLOW_TRACKING_URI" in named
    assert {name for name in named if f"{name}=" not in offered} == set()
    assert read_env(CHECKOUT / "deploy" / "example" / "runs" / "settings.env")["MLFLOW_TRACKING_URI"]
