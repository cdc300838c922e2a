"""Our training loop against Lightning Fabric: the same networks, losses, draws and optimiser under both.

    pip install --no-deps lightning-fabric==2.6.6 lightning-utilities==0.15.3     # no part of the lock file
    OMP_NUM_THREADS=1 python -m benchmarks.fabric

- step: seconds of as many steps, in one process; runs alternate, medians count.
- import: what `import lightning_fabric` adds to `import torch`, in fresh processes.
- two processes: how far the losses of 20 fp32 steps lie from those of one process, for a batch of 8 (4 and 4
  photos) and of 5 (2 and 3). Ours sums gradients by the photos of each part; the strategy `ddp` takes the
  plain mean of the processes'.

A comparison, without a target: docs/training.md draws the conclusion.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.bare_loop import NAME, begun, noise
from benchmarks.figures import load, print_table
from ddm_core import params as parameters
from ddm_core import training
from ddm_core.data_parallel import BatchPart, Ranks, joined_ranks
from ddm_core.discrepancy import discrepancy_loss
from ddm_core.learned_params import LearnedParams, OptimisationParams
from ddm_core.networks import Discriminator, place
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.seeding import torch_generator

CURVE_STEPS = 20
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Step(nn.Module):
    """Networks and discriminator as one module, whose forward pass is the loss: what Fabric wraps.

    Generator and part are no arguments of it, for Fabric walks through these and refuses
    frozen dataclasses.
    """

    def __init__(
        self,
        networks: nn.Module,
        channels: int,
        params: OptimisationParams,
        draws: torch.Generator,
        part: BatchPart,
    ) -> None:
        super().__init__()
        self.draws, self.part = draws, part
        self.networks, self.discriminator = networks, Discriminator(channels)
        self.params, self.goal = params, training_goal(networks)

    def forward(self, batch: Tensor) -> Tensor:
        """Return [reconstruction, L_D]."""
        hidden, restored = self.networks.round_trip(batch, self.draws, self.part)
        judged = training.scale_gradient(torch.cat([restored, hidden]), self.params.discrepancy_weight)
        restored_logits, hidden_logits = self.discriminator(judged).chunk(2)
        reconstruction = self.goal.distance(restored, batch)
        return torch.stack([reconstruction, discrepancy_loss(restored_logits, hidden_logits)])


def train_with_fabric(params: LearnedParams, images: Tensor, ranks: Ranks) -> tuple[float, list[float]]:
    """Train under Fabric; return the seconds of all steps, and the whole batch's loss at each."""
    from lightning_fabric import Fabric

    strategy = "ddp" if ranks.world_size > 1 else "auto"
    fabric = Fabric(
        accelerator="cpu", devices=ranks.world_size, strategy=strategy, precision=PRECISIONS[params.precision]
    )
    fabric.launch()
    networks = begun(params, images)
    draws, part = torch_generator(params.seed, f"train/{NAME}"), ranks.part(params.batch_size)
    step_module = place(Step(networks, images.shape[1], params, draws, part), "cpu").train()
    every = {"params": list(networks.parameters()), "lr": params.learning_rate}
    groups = [
        *(step_module.goal.groups or [every]),
        {"params": list(step_module.discriminator.parameters()), "lr": params.learning_rate / 2},
    ]
    optimiser = torch.optim.Adam(groups, fused=True)
    wrapped, wrapped_optimiser = fabric.setup(step_module, optimiser)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: training.rate_factor(step, params.steps, params.warmup_steps)
    )
    losses = []
    started = time.perf_counter()
    for _ in range(params.steps):
        chosen = torch.randint(0, len(images), (params.batch_size,), generator=draws)
        batch = training.augment(images[part.of(chosen)].float() / 255.0, draws, part)
        batch = batch.contiguous(memory_format=torch.channels_last)
        found = wrapped(batch)
        wrapped_optimiser.zero_grad()
        fabric.backward(params.reconstruction_weight * found[0] + found[1])
        nn.utils.clip_grad_norm_(step_module.networks.parameters(), params.max_gradient_norm)
        wrapped_optimiser.step()
        schedule.step()
        shown = found.detach().float().clone() * part.share
        if ranks.world_size > 1:
            torch.distributed.all_reduce(shown)
        losses.append(
            params.reconstruction_weight * float(shown[0]) + params.discrepancy_weight * float(shown[1])
        )
    return time.perf_counter() - started, losses


def train_with_ours(params: LearnedParams, images: Tensor, ranks: Ranks) -> tuple[float, list[float]]:
    """Train as `ddm train` does; return the same."""
    networks = begun(params, images)
    losses: list[float] = []
    started = time.perf_counter()
    goal = training_goal(networks)
    training.train(
        networks, images, params, NAME, lambda line: losses.append(line.loss), ranks=ranks, goal=goal
    )
    return time.perf_counter() - started, losses


LOOPS = {"ours": train_with_ours, "fabric": train_with_fabric}


def losses_of(loop: str, batch_size: int, processes: int, options: argparse.Namespace) -> list[float]:
    """Return the curve of one loop in so many processes."""
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    command = [
        sys.executable,
        *(launcher if processes > 1 else []),
        "-m",
        "benchmarks.fabric",
        "--curve",
        loop,
    ]
    command += ["--batch-size", str(batch_size), "--params", str(options.params)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[")]
    curve: list[float] = json.loads(line)
    return curve


def show_curve(params: OptimisationParams, images: Tensor, loop: str) -> None:
    """Print the losses of this process's training, if it leads."""
    training.OBSERVE_EVERY = 1
    with joined_ranks() as ranks:
        _, losses = LOOPS[loop](params, images, ranks)
    if ranks.leads:
        print(json.dumps(losses), flush=True)


def import_seconds(module: str) -> float:
    """Return what importing a module takes after torch, in a process of its own."""
    code = f"import time, torch; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> None:
    """Compare steps, imports and the curves of two processes."""
    parser = argparse.ArgumentParser(description="Compare our training loop with Lightning Fabric.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--obfuscator", default="keyed_ddm")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--curve", choices=tuple(LOOPS), help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = parameters.load(options.params)
    chosen, shape = settings.train[options.obfuscator], settings.prepare
    assert isinstance(chosen, OptimisationParams)
    images = noise(500, shape.channels, shape.image_size)
    if options.curve:
        curve = dataclasses.replace(
            chosen,
            steps=CURVE_STEPS,
            warmup_steps=0,
            threads=1,
            precision="fp32",
            batch_size=options.batch_size,
        )
        show_curve(curve, images, options.curve)
        return
    params = dataclasses.replace(chosen, steps=options.steps, warmup_steps=0, threads=options.threads)
    print(f"load {load()} before")
    warm = dataclasses.replace(params, steps=5)
    for loop in LOOPS.values():
        loop(warm, images, Ranks())
    seconds: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(options.repeats):
        for name, loop in LOOPS.items():
            seconds[name].append(loop(params, images, Ranks())[0])
    added = median(import_seconds("lightning_fabric") for _ in range(options.repeats))
    rows = []
    for name in LOOPS:
        share = median(a / b for a, b in zip(seconds["ours"], seconds[name], strict=True))
        rows.append(
            (f"{name}: a step", f"{median(seconds[name]) / params.steps * 1000:.1f} ms", f"{share:.3f} x", "")
        )
    rows.append(("fabric: import after torch", f"{added:.2f} s", "", ""))
    for batch_size in (8, 5):
        for name in LOOPS:
            one, two = (losses_of(name, batch_size, processes, options) for processes in (1, 2))
            apart = max(abs(a - b) for a, b in zip(one, two, strict=True))
            rows.append((f"{name}: two processes, batch {batch_size}", f"{apart:.1e} apart", "", ""))
    print(f"load {load()} after")
    print_table(f"{options.obfuscator}, {params.precision}, {params.steps} steps", rows)


if __name__ == "__main__":
    main()
