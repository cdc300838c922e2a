"""The container image: small, without rights or tools it does not need, and able to do the real work."""

import csv
import json
import os
import re
import shutil
import subprocess
import time

import pytest
import yaml
from engine import CHECKOUT, Image, call, head, make_image

from ddm_core import __version__
from ddm_core.cli import main

pytestmark = pytest.mark.timeout(1800)  # a first build fetches every package
SITE_PACKAGES = "/opt/venv/lib/python3.11/site-packages"
MAX_BYTES_BESIDE_TORCH = 1_500_000_000
CUDA = ("nvidia-", "cuda-", "triton")  # what a CUDA build of torch brings along


def pins(name):
    return dict(line.split("==") for line in (CHECKOUT / name).read_text().splitlines())


def mounted(folder):
    return f"--volume={folder}:/shared", "--workdir=/shared"


def write_small_params(folder):
    """The project's settings, with a training that takes seconds on one thread."""
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    params["prepare"]["image_size"] = 32
    params["train"]["keyed_ddm"] |= {"width": 8, "blocks": 1, "steps": 60, "warmup_steps": 20, "threads": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return params


def test_its_command_is_ddm(image):
    shown = image.output("--help")
    assert shown.startswith("usage: ddm ")
    assert image.output() == shown
    assert image.output("--version") == f"ddm {__version__}\n"


def test_it_is_not_root_unless_told(image):
    assert image.inspect()["Config"]["User"] == "1000:0"


def test_it_names_its_version_and_commit(image):
    config = image.inspect()["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): text for key, text in config["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["title"]
    assert labels["description"]
    assert re.fullmatch(rf"{image.commit}(-dirty)?", labels["revision"])
    assert f"DDM_COMMIT={labels['revision']}" in config["Env"]


def test_it_holds_what_is_locked_for_running_and_nothing_else(image):
    program = (
        "import json, re; from importlib.metadata import distributions;"
        "print(json.dumps({re.sub(r'[-_.]+', '-', d.name).lower(): d.version"
        f" for d in distributions(path=['{SITE_PACKAGES}'])}}))"
    )
    installed = json.loads(image.output("-c", program, entrypoint="python3"))
    assert installed.pop("ddm-pipeline") == __version__
    installed["torch"] = installed["torch"].partition("+")[0]
    locked = pins("requirements-runtime.lock")
    strangers = {name for name in installed.keys() - locked if not name.startswith(CUDA)}
    assert strangers == set()
    assert locked.items() <= installed.items()
    development = pins("requirements.lock").keys() - locked
    assert {"pytest", "mypy", "ruff", "moto"} <= development
    assert development & installed.keys() == set()


def test_it_holds_no_build_tools_and_no_cache(image):
    program = (
        "for tool in gcc g++ cc c++ clang make cmake git; do command -v $tool; done;"
        "find / -xdev -type f \\( -path '*/.cache/*' -o -path '/build/*' -o -path '/tmp/*' \\)"
    )
    found = call(
        image.engine, "run", "--rm", "--user=0", "--entrypoint=sh", image.reference, "-c", f"{program}; true"
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_it_is_small_beside_torch(image):
    program = (
        "import pathlib, sys; print(sum(file.lstat().st_size for pattern in sys.argv[2:]"
        " for folder in pathlib.Path(sys.argv[1]).glob(pattern) for file in folder.rglob('*')))"
    )
    folders = ("torch", "nvidia", "cuda*", "triton")
    torch = int(image.output("-c", program, SITE_PACKAGES, *folders, entrypoint="python3"))
    assert torch > 300_000_000
    assert image.inspect()["Size"] - torch < MAX_BYTES_BESIDE_TORCH


def test_its_modules_are_compiled_already(image):
    done = image.run("-v", "-c", "import ddm_core.cli, torch", entrypoint="python3")
    assert re.search(r"ddm_core/__pycache__/cli\.\S+\.pyc matches", done.stderr)
    assert re.search(r"torch/__pycache__/__init__\.\S+\.pyc matches", done.stderr)
    assert re.search(r"ddm_core.*(could not create|can't create|wrote)", done.stderr) is None


def test_pipelines_and_components_can_be_imported(image):
    image.output("-c", "import kfp, kfp.kubernetes, components, pipelines", entrypoint="python3")


def test_it_trains_locked_down(image, shared_folder):
    params = write_small_params(shared_folder)
    for command in (["fetch"], ["prepare"], ["train", "keyed_ddm"]):
        image.output(*command, options=mounted(shared_folder))
    with (shared_folder / "results" / "history" / "keyed_ddm" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["step"]) == params["train"]["keyed_ddm"]["steps"]
    assert list((shared_folder / "models" / "keyed_ddm").glob("*.safetensors"))


def test_the_settings_of_the_image_serve_where_none_are_mounted(image, shared_folder):
    image.output("fetch", options=(f"--volume={shared_folder}:/app/data",))
    assert len(list((shared_folder / "raw").rglob("*.p*"))) == 400


def test_it_runs_a_component_as_kubeflow_does(image, shared_folder):
    compiled = shared_folder / "pipeline.yaml"
    assert main(["pipeline", "compile", "--params", str(CHECKOUT / "params.yaml"), "-o", str(compiled)]) == 0
    definition = next(yaml.safe_load_all(compiled.read_text()))
    container = definition["deploymentSpec"]["executors"]["exec-fetch"]["container"]
    raw = {"type": {"schemaTitle": "system.Dataset"}, "uri": "/shared/raw", "name": "raw", "metadata": {}}
    executor_input = {
        "inputs": {"parameterValues": {"params": {"source": "orl"}}},
        "outputs": {"artifacts": {"raw": {"artifacts": [raw]}}, "outputFile": "/shared/outputs.json"},
    }
    command = [*container["command"], *container["args"]]
    command[command.index("{{$}}")] = json.dumps(executor_input)
    image.output(*command[1:], entrypoint=command[0], options=mounted(shared_folder))
    outputs = json.loads((shared_folder / "outputs.json").read_text())
    assert outputs["artifacts"]["raw"]["artifacts"][0]["metadata"]["photos"] == 400


def test_a_code_change_is_a_small_layer_above_the_old_dependencies(image, tmp_path):
    changed = copy_context(tmp_path / "checkout")
    errors = changed / "ddm_core" / "errors.py"
    mark = f"built {time.time_ns()}"  # another than that of any earlier test
    errors.write_text(f"{errors.read_text()}\nMARK = '{mark}'\n")
    reference = "localhost/ddm-pipeline:test-changed"
    started = time.monotonic()
    built = make_image(reference, changed)
    seconds = time.monotonic() - started
    assert built.returncode == 0, built.stderr
    try:
        after = Image(image.engine, reference)
        layers, new_layers = image.inspect()["RootFS"]["Layers"], after.inspect()["RootFS"]["Layers"]
        *dependencies, _project, _params, _version = layers
        assert new_layers[: len(dependencies)] == dependencies
        assert len(new_layers) == len(layers)
        assert new_layers != layers
        program = "import ddm_core.errors; print(ddm_core.errors.MARK)"
        assert after.output("-c", program, entrypoint="python3").strip() == mark
        assert seconds < 120
    finally:
        call(image.engine, "rmi", reference)


def test_a_new_commit_is_named_by_an_image_of_the_same_code(image, tmp_path):
    same = copy_context(tmp_path / "checkout")
    reference = "localhost/ddm-pipeline:test-committed"
    environment = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org"}
    environment |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org"}
    try:
        for message in ("first", "second"):
            for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", message]):
                subprocess.run(["git", *command], cwd=same, env={**os.environ, **environment}, check=True)
            assert make_image(reference, same).returncode == 0
            labels = Image(image.engine, reference).inspect()["Config"]["Labels"]
            assert labels["org.opencontainers.image.revision"] == head(same)
    finally:
        call(image.engine, "rmi", reference)


def copy_context(target):
    """Copy what a build is given, and what `make image` reads, to `target`."""
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    given = [line.removeprefix("!") for line in lines if line.startswith("!")]
    target.mkdir()
    for name in [*given, "Dockerfile", ".dockerignore", "Makefile"]:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)
    return target


def test_make_image_says_what_is_missing_where_no_engine_answers(tmp_path):
    for engine in ("docker", "podman"):
        silent = tmp_path / engine
        silent.write_text("#!/bin/sh\nexit 1\n")
        silent.chmod(0o755)
    done = subprocess.run(
        ["make", "image"],
        cwd=CHECKOUT,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "neither docker nor podman answers" in done.stderr
