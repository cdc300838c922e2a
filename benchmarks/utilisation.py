"""Model FLOP utilisation of training: its FLOP/s over the machine's matrix-product peak, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.utilisation --threads 1

FLOPs are counted by torch in the very step (`ddm_core.planning.step_work`). The peak is the best rate of a
plain matrix product at the same precision and with as many threads, over a few sizes. Both alternate; medians
count. The photos are noise, for content costs no time. CPU time tells the work itself where other programs
share the cores; on a GPU only the clock means something.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.figures import load, print_table
from ddm_core import params as parameters
from ddm_core.learned_params import OptimisationParams
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.planning.step_work import count_step
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training import Observation, device, train

NAME = "benchmark"
SIDES = (512, 1024, 2048)  # of the square matrices
PEAK_FLOPS = 100 * 10**9  # that each side's rate is measured over


@dataclass(frozen=True)
class Rate:
    """So much a second by the clock, and of CPU time, all threads' added."""

    clock: float
    cpu: float


def best(rates: Sequence[Rate]) -> Rate:
    """Return the best by either time."""
    return Rate(max(rate.clock for rate in rates), max(rate.cpu for rate in rates))


def matrix_product_rate(precision: str, side: int) -> Rate:
    """Return the FLOP/s of a product of two square matrices, by the clock the best of many."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    draws = torch_generator(0, NAME)
    left, right = (torch.randn(side, side, generator=draws).to(device(), kind) for _ in range(2))
    torch.mm(left, right)  # warm up
    repeats = -(-PEAK_FLOPS // (2 * side**3))  # the CPU's clock ticks slowly
    clock, cpu_start = [], time.process_time()
    for _ in range(repeats):
        _synchronise()
        start = time.perf_counter()
        torch.mm(left, right)
        _synchronise()
        clock.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu_start) / repeats
    return Rate(2 * side**3 / min(clock), 2 * side**3 / cpu)


def training_rate(params: OptimisationParams, channels: int, size: int) -> tuple[Rate, Observation]:
    """Return photos a second after the first line of history, and the last line."""
    draws = torch_generator(0, NAME)
    photos = torch.randint(0, 256, (256, channels, size, size), generator=draws, dtype=torch.uint8)
    make_deterministic(params.seed, f"train/{NAME}", params.threads)
    networks = build_networks(Description(params, channels, size))
    marks: list[tuple[int, float, float]] = []
    lines: list[Observation] = []

    def observe(line: Observation) -> None:
        marks.append((line.step, time.perf_counter(), time.process_time()))
        lines.append(line)

    train(networks, photos, params, NAME, observe, goal=training_goal(networks))
    (first, began, cpu_began), (last, ended, cpu_ended) = marks[0], marks[-1]
    photos_seen = (last - first) * params.batch_size
    return Rate(photos_seen / (ended - began), photos_seen / (cpu_ended - cpu_began)), lines[-1]


def _synchronise() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure peak and training in turn, and print the utilisation."""
    parser = argparse.ArgumentParser(description="Measure the model FLOP utilisation of training.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--obfuscator", default="keyed_ddm")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="the params' own")
    parser.add_argument("--batch-size", type=int, help="the params' own")
    parser.add_argument("--steps", type=int, default=75, help="the first 25 warm up (75)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.steps <= 25:
        parser.error("--steps must be above 25, for the first 25 warm up")
    settings = parameters.load(options.params)
    chosen, shape = settings.train[options.obfuscator], settings.prepare
    assert isinstance(chosen, OptimisationParams)
    params = dataclasses.replace(
        chosen,
        steps=options.steps,
        warmup_steps=0,
        threads=options.threads,
        precision=options.precision or chosen.precision,
        batch_size=options.batch_size or chosen.batch_size,
    )
    torch.set_num_threads(options.threads)
    flops = count_step(params, shape.channels, shape.image_size).flops_per_image
    print(f"load {load()} before")
    peaks, rates, line = [], [], None
    for _ in range(options.repeats):
        peaks.append(best([matrix_product_rate(params.precision, side) for side in SIDES]))
        rate, line = training_rate(params, shape.channels, shape.image_size)
        rates.append(rate)
    print(f"load {load()} after")
    assert line is not None
    rows = []
    for kind in ("clock", "cpu"):
        peak = median(getattr(one, kind) for one in peaks)
        achieved = median(getattr(one, kind) for one in rates) * flops
        ratio = median(getattr(a, kind) * flops / getattr(b, kind) for a, b in zip(rates, peaks, strict=True))
        rows.append((f"{kind}: matrix-product peak", f"{peak / 1e9:.1f} GFLOP/s", "", ""))
        rows.append(
            (
                f"{kind}: training at {flops / 1e6:.0f} MFLOP a photo",
                f"{achieved / 1e9:.1f} GFLOP/s",
                f"{ratio:.3f} of the peak",
                "at least 0.5",
            )
        )
    for part in ("data", "forward_backward", "optimiser"):
        milliseconds = getattr(line, f"{part}_seconds") * 1000
        rows.append((f"clock: {part.replace('_', ' and ')}", f"{milliseconds:.2f} ms a step", "", ""))
    print_table(
        f"{options.obfuscator}, {params.precision}, batch {params.batch_size}, {options.threads} threads",
        rows,
    )


if __name__ == "__main__":
    main()
