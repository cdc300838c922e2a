"""The same registration against a real MLflow server, which keeps the artifacts."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from ddm_core.checkpoints import weights_digest
from ddm_core.files import write_json
from ddm_core.obfuscators.store import Description, build_networks, save_obfuscator
from ddm_core.params import load
from ddm_core.stages.register import run, summarise
from ddm_core.tracking import track_run

PARAMS = load(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture
def server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = [f"--backend-store-uri=sqlite:///{folder}/server.db", f"--artifacts-destination={folder}/kept"]
    command = [sys.executable, "-m", "mlflow", "server", *place, *store]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


def wait_until_healthy(address, process, log):
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_runs_models_and_aliases_live_on_the_server_and_nothing_in_the_project(server, tmp_path, monkeypatch):
    project = tmp_path / "project"
    torch.manual_seed(0)
    params = dataclasses.replace(PARAMS.train["keyed_ddm"], width=8, blocks=1)
    description = Description(params, channels=1, image_size=16)
    (project / "models/keyed_ddm").mkdir(parents=True)
    save_obfuscator(project / "models/keyed_ddm", description, build_networks(description))
    cell = {"top1": 0.03, "ci95": [0.02, 0.05], "n": 1280}
    evidence = {
        "decrypts": True,
        "weights_sha256": weights_digest(project / "models/keyed_ddm"),
        "attacks": dict.fromkeys(PARAMS.register.gate.attackers, cell),
        "worst_case": {"attacker": "retrained", **cell},
        "utility": {
            channel: {"psnr_db": 33.0, "recognition_top1": 0.99} for channel in PARAMS.register.gate.channels
        },
    }
    provenance = {"commit": "c0ffee", "dataset_digest": "ab" * 32}
    metrics = {"chance_top1": 0.025, "obfuscators": {"keyed_ddm": evidence}, "provenance": provenance}
    write_json(project / "metrics.json", metrics)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.chdir(project)

    with track_run(name="train", params={"steps": 1}) as training:
        training.log_metrics({"loss": 1.0}, 0)
        training.log_bytes("grids/step_0.png", b"picture")
    result = run(
        dataclasses.replace(PARAMS.register, models={"keyed_ddm": "keyed_ddm"}),
        metrics=project / "metrics.json",
        models=project / "models",
        registration=project / "registration.json",
    )
    assert result.models[0].aliases == ("challenger", "champion")
    assert result.tracking_uri == server
    assert "keyed_ddm: version 1 is champion" in summarise(project / "registration.json")
    assert list((tmp_path / "server/kept").rglob("weights.safetensors"))
    assert list((tmp_path / "server/kept").rglob("step_0.png"))
    assert {path.name for path in project.iterdir()} == {"models", "metrics.json", "registration.json"}
