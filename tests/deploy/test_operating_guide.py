"""docs/operating.md names what exists: files, options, settings, manifests; and its steps work."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kustomize import compose, read_env

from ddm_core.cli import build_parser
from pipelines.credentials import SERVICE_ACCOUNT_TOKEN
from pipelines.server import IN_CLUSTER

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
    named = set(re.findall(r"(?<![\w/.])(?:deploy|tests|pipelines)/[\w./-]*\w", without_links))
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


def test_the_guides_job_is_valid_and_mounts_the_token_where_the_command_looks_for_it():
    text = re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[1].replace("sha256:…", f"sha256:{'0' * 64}")
    job = yaml.safe_load(text)
    for version in ("1.30", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(job, version, strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    (source,) = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert mount["name"] == volume["name"]
    assert f"{mount['mountPath']}/{token['path']}" == SERVICE_ACCOUNT_TOKEN
    assert token["audience"] == "pipelines.kubeflow.org"
    account = yaml.safe_load_all((CHECKOUT / "deploy/base/runs/submitter.yaml").read_text())
    assert pod["serviceAccountName"] in {part["metadata"]["name"] for part in account}
    options = build_parser().parse_args(container["args"])
    assert options.image == container["image"]
    assert options.wait
    assert f"`{IN_CLUSTER}`" in GUIDE
