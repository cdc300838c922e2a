"""`ddm train` against a bare torch loop; bf16 against fp32; memory against what torch counts.

    OMP_NUM_THREADS=1 python -m benchmarks.train
    OMP_NUM_THREADS=1 python -m benchmarks.train --only speed --steps 300

- speed: the bare loop (`benchmarks.bare_loop`) and the training itself, on photos in memory and on shards.
- precision: bf16 against fp32 by speed; then both train on the AT&T faces for `--quality-steps`, and decrypt
  the test photos.
- memory: what a training process holds at its peak beyond what it held before, over weights, gradients,
  moments and activations (`ddm_core.planning.step_work`); and of a stream over two datasets, one four times
  the other.

Runs alternate; medians of the ratios count. Ends with status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.bare_loop import NAME, begun, noise, train_barely
from benchmarks.figures import load, print_table
from benchmarks.photos import write_photos
from ddm_core import params as parameters
from ddm_core.learned_params import KeyedDdmParams, OptimisationParams
from ddm_core.params import FetchParams, PrepareParams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ddm_core.training_photos import Photos

KINDS = ("speed", "precision", "memory")
BUFFER = 500  # photos of the streams whose memory is measured: less than the smaller dataset has
# What is freed goes back at once: else glibc keeps it, in an arena a thread, and the peak measures that too.
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "100000"}
Row = tuple[str, str, str, str]


def trained(networks: nn.Module, photos: Tensor | Photos, params: OptimisationParams) -> float:
    """Train in place as `ddm train` does; return the seconds."""
    from ddm_core.obfuscators.training_start import training_goal
    from ddm_core.training import train

    began = time.perf_counter()
    train(networks, photos, params, NAME, lambda _: None, goal=training_goal(networks))
    return time.perf_counter() - began


def compared(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each run, made in turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(run())
    return found


def ratio(of: list[float], to: list[float]) -> float:
    """Return how many times faster `to` is: the median of the repeats' ratios."""
    return median(one / other for one, other in zip(of, to, strict=True))


def judged(
    rows: list[Row], what: str, figure: str, value: float, bound: float, *, most: bool = False
) -> bool:
    """Add a row; tell whether the value is on the right side of its bound."""
    kept = value < bound if most else value >= bound
    target = f"{'below' if most else 'at least'} {bound:g}"
    rows.append((what, figure, f"{value:.3f}", target if kept else f"{target}: MISSED"))
    return kept


def prepared_photos(folder: Path, photos: int, shape: PrepareParams) -> Path:
    """Prepare so many generated photos and return their folder."""
    from ddm_core.stages import prepare

    raw, prepared = folder / f"raw{photos}", folder / f"prepared{photos}"
    write_photos(raw, photos)
    prepare.run(shape, raw=raw, prepared=prepared)
    return prepared


def measure_speed(params: KeyedDdmParams, shape: PrepareParams, options: argparse.Namespace) -> bool:
    """Compare the training with the bare loop."""
    from ddm_core.training_photos import StreamedPhotos

    images = noise(2000, shape.channels, shape.image_size)
    with tempfile.TemporaryDirectory() as temporary:
        prepared = prepared_photos(Path(temporary), 2500, shape)
        train_barely(begun(params, images), images, dataclasses.replace(params, steps=10))  # warm up
        found = compared(
            {
                "bare": lambda: train_barely(begun(params, images), images, params),
                "memory": lambda: trained(begun(params, images), images, params),
                "stream": lambda: trained(
                    begun(params, images), StreamedPhotos(prepared, params.seed), params
                ),
            },
            options.repeats,
        )
    count = params.steps * params.batch_size
    rows: list[Row] = [("bare loop", f"{count / median(found['bare']):.0f} images/s", "", "")]
    kept = [
        judged(
            rows,
            what,
            f"{count / median(found[kind]):.0f} images/s",
            ratio(found["bare"], found[kind]),
            bound,
        )
        for what, kind, bound in (("photos in memory", "memory", 0.95), ("read from shards", "stream", 0.90))
    ]
    print_table(f"training against a bare loop, {params.steps} steps, {params.precision}", rows)
    return all(kept)


def measure_precision(params: KeyedDdmParams, shape: PrepareParams, options: argparse.Namespace) -> bool:
    """Compare bf16 with fp32, by speed and by what it learns."""
    images = noise(2000, shape.channels, shape.image_size)
    settings = {kind: dataclasses.replace(params, precision=kind) for kind in ("fp32", "bf16")}
    found = compared(
        {
            kind: lambda kind=kind: trained(begun(settings[kind], images), images, settings[kind])  # type: ignore[misc]
            for kind in settings
        },
        options.repeats,
    )
    quality = {kind: quality_of(one, shape, options.quality_steps) for kind, one in settings.items()}
    count = params.steps * params.batch_size
    rows: list[Row] = [("fp32", f"{count / median(found['fp32']):.0f} images/s", "", "")]
    figure = f"{count / median(found['bf16']):.0f} images/s"
    fast = judged(rows, "bf16", figure, ratio(found["fp32"], found["bf16"]), 1.4)
    rows.append(("fp32: restored test photos", f"{quality['fp32']:.2f} dB", "", ""))
    apart = abs(quality["bf16"] - quality["fp32"])
    good = judged(rows, "bf16: apart by (dB)", f"{quality['bf16']:.2f} dB", apart, 0.2, most=True)
    print_table(f"bf16 against fp32; quality after {options.quality_steps} steps on the AT&T faces", rows)
    return fast and good


def quality_of(params: KeyedDdmParams, shape: PrepareParams, steps: int) -> float:
    """Train on the AT&T faces; return the PSNR in decibels of decrypted test photos."""
    import torch

    from ddm_core.data.shards import load_photos
    from ddm_core.keys import nonce_stream
    from ddm_core.metrics import psnr_db
    from ddm_core.obfuscators.keyed_ddm import KeyedDdm
    from ddm_core.stages import fetch, prepare

    with tempfile.TemporaryDirectory() as temporary:
        raw, prepared = Path(temporary) / "raw", Path(temporary) / "prepared"
        fetch.run(FetchParams(source="orl", uri=None, digest=None), raw=raw)
        prepare.run(shape, raw=raw, prepared=prepared)
        images, test = (load_photos(prepared, split=split).images for split in ("train", "test"))
    shorter = dataclasses.replace(params, steps=steps, warmup_steps=min(params.warmup_steps, steps - 1))
    networks = begun(shorter, images)
    trained(networks, images, shorter)
    obfuscator = KeyedDdm(networks, b"k" * 32)  # type: ignore[arg-type]
    photos, nonces = test.float() / 255.0, list(nonce_stream(0, "benchmark", len(test)))
    with torch.no_grad():
        hidden = obfuscator.encrypt(photos, nonces)
        restored = KeyedDdm(networks, b"k" * 32).decrypt(hidden, nonces)  # type: ignore[arg-type]
    return float(psnr_db(restored, photos).mean())


def measure_memory(params: KeyedDdmParams, shape: PrepareParams, options: argparse.Namespace) -> bool:
    """Compare a process's peak with what torch counts, and the peaks over datasets of two sizes."""
    from ddm_core.planning.step_work import count_step

    work = count_step(params, shape.channels, shape.image_size)
    counted = work.fixed_bytes + params.batch_size * work.activation_bytes_per_image
    few, many = options.photos, 4 * options.photos
    with tempfile.TemporaryDirectory() as temporary:
        folders = {count: prepared_photos(Path(temporary), count, shape) for count in (few, many)}
        peaks = {count: grown_in_a_process(options, folder) for count, folder in folders.items()}
    rows: list[Row] = [("weights, gradients, moments, activations", f"{counted / 1e6:.0f} MB", "", "")]
    figures = {count: f"{peak / 1e6:.0f} MB" for count, peak in peaks.items()}
    fits = judged(rows, f"training on {few} photos", figures[few], peaks[few] / counted, 1.5, most=True)
    constant = judged(
        rows, f"on {many}, against {few}", figures[many], peaks[many] / peaks[few], 1.1, most=True
    )
    print_table(f"peak memory of streamed trainings beyond their start, batch {params.batch_size}", rows)
    return fits and constant


def grown_in_a_process(options: argparse.Namespace, prepared: Path) -> float:
    """Return by how many bytes a process grows that trains on a stream of this dataset."""
    command = [sys.executable, "-m", "benchmarks.train", "--grow", prepared, "--params", options.params]
    command += ["--obfuscator", options.obfuscator, "--threads", str(options.threads)]
    done = subprocess.run(
        [str(word) for word in [*command, "--memory-batch-size", options.memory_batch_size]],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | MALLOC,
    )
    return float(done.stdout.split()[-1])


def grow(params: KeyedDdmParams, shape: PrepareParams, prepared: Path) -> int:
    """Train one step on one photo, so that all code is loaded; then train, and return the growth in bytes."""
    from ddm_core.training_photos import StreamedPhotos

    one = noise(1, shape.channels, shape.image_size)
    tiny = dataclasses.replace(params, steps=1, warmup_steps=0, batch_size=1)
    trained(begun(tiny, one), one, tiny)
    before = held("VmRSS")
    trained(begun(params, one), StreamedPhotos(prepared, 0, BUFFER), params)
    return held("VmHWM") - before


def held(figure: str) -> int:
    """Return the bytes that this process holds now (VmRSS) or has held at most (VmHWM).

    getrusage's maximum would not do: on Linux it begins with what the parent held when it started this.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith(f"{figure}:"))
    return int(kilobytes) * 1024


def main() -> int:
    """Measure what is asked for; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the training.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--obfuscator", default="keyed_ddm")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--steps", type=int, default=100, help="of each timed run (100)")
    parser.add_argument("--quality-steps", type=int, help="before quality is compared (the params' own)")
    parser.add_argument("--photos", type=int, default=1500, help="of the smaller dataset for memory (1500)")
    parser.add_argument("--memory-batch-size", type=int, default=64, help="where memory is measured (64)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grow", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = parameters.load(options.params)
    chosen, shape = settings.train[options.obfuscator], settings.prepare
    if not isinstance(chosen, KeyedDdmParams):
        parser.error("--obfuscator must name an entry with method: keyed_ddm")
    params = dataclasses.replace(chosen, steps=options.steps, warmup_steps=0, threads=options.threads)
    large = dataclasses.replace(params, batch_size=options.memory_batch_size, steps=40)
    if options.grow:
        print(grow(large, shape, options.grow))
        return 0
    print(f"load {load()} before")
    options.quality_steps = options.quality_steps or chosen.steps
    quality = dataclasses.replace(params, warmup_steps=min(chosen.warmup_steps, options.steps - 1))
    kept = []
    if options.only in (None, "speed"):
        kept.append(measure_speed(params, shape, options))
    if options.only in (None, "precision"):
        kept.append(measure_precision(quality, shape, options))
    if options.only in (None, "memory"):
        kept.append(measure_memory(large, shape, options))
    print(f"load {load()} after")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
