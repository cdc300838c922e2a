"""`ddm pipeline run --local --runner docker`: the whole graph, every task in a container of the image."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from engine import CHECKOUT

pytestmark = pytest.mark.timeout(1800)  # a first build fetches every package


@pytest.fixture(scope="module")
def docker_host(image):
    """The address that Docker's own clients speak to; podman serves it when asked."""
    if image.engine == "docker":
        yield os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        return
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "podman.sock"
        service = subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{socket}"])
        try:
            deadline = time.monotonic() + 30
            while not socket.exists():
                assert service.poll() is None and time.monotonic() < deadline, "podman serves no socket"
                time.sleep(0.1)
            yield f"unix://{socket}"
        finally:
            service.terminate()
            service.wait()


def quick_params():
    """One obfuscator with nothing to train, and attackers that hardly try."""
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    params["train"] = {"none": {"method": "none"}}
    params["report"]["headline"] = "none"
    params["register"]["models"] = {}
    params["recognise"] |= {"epochs": 1, "threads": 1}
    params["attack"] |= {"epochs": 1, "inversion_steps": 2, "threads": 1}
    params["utility"]["threads"] = 1
    return params


def run(folder, image, docker_host):
    command = [sys.executable, "-m", "ddm_core.cli", "pipeline", "run", "--local", "--runner", "docker"]
    return subprocess.run(
        [*command, "--image", image.reference, "-o", "out", "--params-file", "params.yaml"],
        cwd=folder,
        env={**os.environ, "DOCKER_HOST": docker_host},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_task_runs_in_a_container_and_its_outcome_counts(image, docker_host, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(quick_params()))
    done = run(tmp_path, image, docker_host)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["obfuscators"]["none"]["utility"]["png"]["psnr_db"] >= 60
    assert "15 tasks, 0 of them from an earlier run" in done.stderr

    changed = quick_params()
    changed["fetch"] |= {"digest": "f" * 64}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed))
    failed = run(tmp_path, image, docker_host)
    assert failed.returncode == 1
    assert "task fetch failed" in failed.stderr
    assert "the photos have digest" in failed.stderr
