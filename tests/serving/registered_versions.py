"""Versions in a registry as the register stage leaves them, without the seconds that packing takes."""

import dataclasses
import hashlib
import os
from pathlib import Path

import yaml

from ddm_core.gate import judge
from ddm_core.params import load
from ddm_core.serving.candidate import Candidate, identity_tags, version_tags
from ddm_core.tracking import EXPERIMENT, connect, experiment_id

CHECKOUT = Path(__file__).parents[2]
GATE = load(CHECKOUT / "params.yaml").register.gate
PHOTO_GATE = load(CHECKOUT / "photo/params.yaml").register.gate
MODEL = "keyed_ddm"


def evidence(weights, psnr=33.0, worst=0.03, gate=GATE):
    cell = {"top1": worst, "ci95": [worst - 0.01, worst + 0.01], "n": 1280}
    utility = {"psnr_db": psnr, "ssim": 0.95, "recognition_top1": 0.99, "ci95": [0.97, 1.0], "n": 320}
    return {
        "method": MODEL,
        "decrypts": True,
        "weights_sha256": weights,
        "attacks": dict.fromkeys(gate.attackers, cell),
        "worst_case": {"attacker": "retrained", "top1": worst, "ci95": cell["ci95"]},
        "utility": dict.fromkeys(gate.channels, utility),
    }


def add_version(folder, name=MODEL, *, photos="ab" * 32, gate=GATE, **figures):
    """Add a version with weights of its own and evidence on what `gate` asks for; returns its number."""
    from mlflow.entities import LoggedModelStatus

    client, content = connect(), os.urandom(64)
    weights = hashlib.sha256(content).hexdigest()
    measured = evidence(weights, gate=gate, **figures)
    candidate = Candidate(
        name=name,
        obfuscator=name,
        folder=folder,
        weights_digest=weights,
        evidence=measured,
        verdict=judge(measured, gate),
        chance=0.025,
        dataset_digest=photos,
        commit="c0ffee",
    )
    packed = folder / f"packed-{weights[:8]}"
    (packed / "artifacts").mkdir(parents=True)
    (packed / "artifacts/weights.safetensors").write_bytes(content)
    artifacts = {"weights": {"path": "artifacts/weights.safetensors"}}
    described = {
        "flavors": {"python_function": {"artifacts": artifacts}},
        "metadata": identity_tags(candidate),
    }
    (packed / "MLmodel").write_text(yaml.safe_dump(described))
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    logged = client.create_logged_model(experiment_id(client, EXPERIMENT), name)
    client.log_model_artifacts(logged.model_id, str(packed))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    version = client.create_model_version(
        name, f"models:/{logged.model_id}", tags=version_tags(candidate), model_id=logged.model_id
    )
    return int(version.version)


def with_psnr_limit(min_psnr_db):
    """The project's gate, with another limit on PSNR after every channel."""
    channels = {
        name: dataclasses.replace(limit, min_psnr_db=min_psnr_db) for name, limit in GATE.channels.items()
    }
    return dataclasses.replace(GATE, channels=channels)
