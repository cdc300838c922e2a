"""A benchmark of the least work that still goes through every stage."""

import subprocess
import sys
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]
OBFUSCATORS = ("xor_cipher", "keyed_ddm")
ATTACKERS = ("clean", "wrong_key")
CONTROLS = ("none", "mosaic16", "blur31")
CONTROL_ATTACKERS = ("clean", "retrained")
CELLS = 18  # a recogniser; for each obfuscator a training, a utility, two attacks; a control has no utility
NOT_MEASURED = ("seconds", "finished_at")


def small_params():
    """The project's own settings, cut down: two obfuscators, two attackers, a few steps.

    The attackers learn just enough to pass their sanity gate on the people of the tests.
    """
    params = read_yaml(CHECKOUT / "benchmark/params.yaml")
    del params["quick"]
    params["train"] = {name: params["train"][name] for name in OBFUSCATORS}
    params["train"]["keyed_ddm"] |= {"steps": 4, "batch_size": 8, "width": 8, "blocks": 1, "warmup_steps": 1}
    params["recognise"] |= {"epochs": 40, "batch_size": 8}
    params["attack"] |= {"epochs": 20, "batch_size": 8, "inversion_steps": 2, "encryptions_per_photo": 1}
    params["attack"] |= {"architectures": ["cnn"], "validation_fraction": 0.0, "patience_epochs": 0}
    params["utility"] |= {"encryptions_per_photo": 1, "channels": ["png", "jpeg75"]}
    params["attackers"] = list(ATTACKERS)
    return params


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def measured(table):
    """A pandas table without what a clock decides."""
    return table.drop(columns=list(NOT_MEASURED))


def command(*arguments):
    """The command line of `ddm benchmark`, by the Python that runs the tests."""
    return [sys.executable, "-m", "ddm_core.cli", "benchmark", *map(str, arguments)]


def run(folder, *arguments):
    """Run `ddm benchmark` in `folder` as a user would, to its end."""
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
