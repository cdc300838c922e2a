"""A small training in a process of its own, to be killed.

    python checkpointed_training.py METHOD FOLDER STEPS EVERY

It keeps checkpoints in FOLDER, writes each step that it observes to stdout, and at its end the weights to
FOLDER.safetensors and the history to FOLDER.json.
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch

from ddm_core.checkpoint_options import CheckpointOptions, parse_interval
from ddm_core.checkpoints import save_weights
from ddm_core.learned_params import DdmParams, KeyedDdmParams
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.step_clock import StepCost
from ddm_core.training import train
from ddm_core.training_checkpoints import open_checkpoints

NAME = "tests"
SETTINGS = {
    "batch_size": 4,
    "learning_rate": 2e-3,
    "warmup_steps": 1,
    "discrepancy_weight": 0.1,
    "reconstruction_weight": 10.0,
    "precision": "bf16",
    "threads": 1,
    "split": "image",
    # With this seed no pixel of x_e lies so near the edge of two grey levels that sums in another order,
    # which differ by 1e-7, move it over: a flipped level is 1e-4 of the loss.
    "seed": 1,
}
CHANNEL = {
    "jpeg_probability": 0.4,
    "jpeg_quality_min": 70,
    "jpeg_quality_max": 97,
    "resize_probability": 0.5,
    "resize_scale_min": 0.5,
    "resize_min_share": 0.5,
    "noise_deviation": 0.004,
}


def settings(method, steps):
    """Return the smallest training of a method."""
    if method == "ddm":
        return DdmParams(method="ddm", width=4, steps=steps, **SETTINGS)
    sizes = {"quaternions": 8, "width": 8, "blocks": 1, "linear_learning_rate": 5e-5}
    return KeyedDdmParams(method="keyed_ddm", steps=steps, **sizes, **CHANNEL, **SETTINGS)


def photos():
    """Return twelve smooth uint8 photos [12, 1, 16, 16]."""
    coarse = torch.rand(12, 1, 4, 4, generator=torch_generator(0, "tests/training"))
    return (torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear") * 255).byte()


def trained(params, options=None, observe=lambda _: None):
    """Return (weights, history) of a training, whose checkpoints stay."""
    make_deterministic(params.seed, f"train/{NAME}", params.threads)
    networks = build_networks(Description(params, 1, 16))
    history = []

    def note(observation):
        history.append(without_speed(observation))
        observe(observation)

    if options is None:
        train(networks, photos(), params, NAME, note)
    else:
        with open_checkpoints(options, NAME) as checkpoints:
            train(networks, photos(), params, NAME, note, checkpoints=checkpoints)
    return networks, history


def without_speed(observation):
    """Return an observation's plain values but those that no two trainings share."""
    values = dataclasses.asdict(observation)
    costs = {"images_per_second", *(field.name for field in dataclasses.fields(StepCost))}
    return {name: value for name, value in values.items() if name not in costs}


def main():
    method, folder, steps, every = sys.argv[1:]
    options = CheckpointOptions(folder, parse_interval(every))
    networks, history = trained(
        settings(method, int(steps)), options, lambda observation: print(observation.step, flush=True)
    )
    save_weights(networks, Path(f"{folder}.safetensors"))
    Path(f"{folder}.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main()
