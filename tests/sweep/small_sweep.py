"""A project in which a sweep takes seconds, and `ddm sweep` as a user would type it."""

import subprocess
import sys
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]
CHANNELS = {"png": {"min_psnr_db": 1.0, "min_recognition_top1": 0.01}}


def small_params():
    """The project's own settings, cut down to two obfuscators of a few steps, two attackers and one channel.

    With five test photos no attacker can be told from a guess; the limits let everybody pass.
    """
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8"))
    quick = {"steps": 4, "batch_size": 8, "width": 4, "warmup_steps": 1, "threads": 1, "precision": "fp32"}
    params["train"] = {name: params["train"][name] | quick for name in ("ddm", "keyed_ddm")}
    params["train"]["keyed_ddm"] |= {"blocks": 1, "quaternions": 6, "width": 8}
    params["train"]["mosaic8"] = {"method": "mosaic", "block": 8}
    params["recognise"] |= {"epochs": 30, "batch_size": 8, "threads": 1}
    params["attack"] |= {"epochs": 1, "batch_size": 8, "threads": 1}
    params["utility"] |= {"threads": 1}
    params["register"]["gate"] |= {
        "attackers": {name: {"max_top1_upper95": 1.0} for name in ("clean", "wrong_key")},
        "max_worst_case_top1_upper95": 1.0,
        "channels": CHANNELS,
    }
    return params


def small_space(**changes):
    """Two trials of the learning rate, drawn at random."""
    settings = {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}}
    return {"trials": 2, "seed": 0, "encryptions_per_photo": 1, "settings": settings} | changes


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def command(*arguments):
    """The command line of `ddm sweep`, by the Python that runs the tests."""
    return [sys.executable, "-m", "ddm_core.cli", "sweep", *map(str, arguments)]


def run(folder, *arguments):
    """Run `ddm sweep` in `folder` as a user would, to its end."""
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
