"""Training with checkpoints against the same training without any.

    OMP_NUM_THREADS=1 python -m benchmarks.checkpoints --threads 1

Networks, losses and photo size are those of the obfuscator in params.yaml; the photos are noise, for content
costs no time. Checkpoints are written far more often than by default (every minute), so that the figure is a
bound. Runs alternate; medians count. CPU time, the writing thread's included, tells the work itself where
other programs share the cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.figures import load, print_table
from ddm_core import params as parameters
from ddm_core.checkpoint_options import CheckpointOptions, Interval
from ddm_core.learned_params import OptimisationParams
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training import train
from ddm_core.training_checkpoints import open_checkpoints

NAME = "benchmark"


@dataclass(frozen=True)
class Cost:
    """Seconds that all steps take, by the clock and of CPU time."""

    clock: float
    cpu: float


def cost_of_training(params: OptimisationParams, size: int, options: CheckpointOptions | None) -> Cost:
    """Train anew, with checkpoints or without; building the networks is left out."""
    draws = torch_generator(0, NAME)
    photos = torch.randint(0, 256, (256, 1, size, size), generator=draws, dtype=torch.uint8)
    make_deterministic(params.seed, f"train/{NAME}", params.threads)
    networks = build_networks(Description(params, 1, size))
    with open_checkpoints(options, NAME) if options else nullcontext() as checkpoints:
        clock, cpu = time.perf_counter(), time.process_time()
        train(
            networks,
            photos,
            params,
            NAME,
            lambda _: None,
            checkpoints=checkpoints,
            goal=training_goal(networks),
        )
        cost = Cost(time.perf_counter() - clock, time.process_time() - cpu)
        if checkpoints:
            checkpoints.discard()
    return cost


def ratio(plain: Sequence[Cost], kept: Sequence[Cost], kind: str) -> float:
    """Return the median of the repeats' ratios."""
    return median(getattr(one, kind) / getattr(other, kind) for one, other in zip(plain, kept, strict=True))


def main() -> None:
    """Train with and without checkpoints in turn, and print the ratio."""
    parser = argparse.ArgumentParser(description="Measure what checkpoints cost.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--obfuscator", default="keyed_ddm")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=25, help="steps between two checkpoints (25)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--place", help="folder or s3://bucket/prefix (a temporary folder)")
    options = parser.parse_args()
    settings = parameters.load(options.params)
    chosen = settings.train[options.obfuscator]
    assert isinstance(chosen, OptimisationParams)
    params = dataclasses.replace(chosen, steps=options.steps, warmup_steps=0, threads=options.threads)
    print(f"load {load()} before")
    plain, kept = [], []
    with tempfile.TemporaryDirectory() as temporary:
        place = CheckpointOptions(options.place or temporary, Interval(steps=options.every))
        cost_of_training(dataclasses.replace(params, steps=10), settings.prepare.image_size, None)  # warm up
        for _ in range(options.repeats):
            plain.append(cost_of_training(params, settings.prepare.image_size, None))
            kept.append(cost_of_training(params, settings.prepare.image_size, place))
    print(f"load {load()} after")
    rows = [
        (
            f"{kind}: a checkpoint every {options.every} steps, against none",
            f"{median(getattr(cost, kind) for cost in kept) / options.steps * 1000:.1f} ms a step",
            f"{ratio(plain, kept, kind):.3f} x",
            "at least 0.95 x",
        )
        for kind in ("clock", "cpu")
    ]
    print_table(f"{options.obfuscator}, {options.threads} threads", rows)


if __name__ == "__main__":
    main()
