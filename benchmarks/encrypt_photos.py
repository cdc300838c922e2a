"""Tiled encryption and decryption of a large photo against the bare networks on the same tiles.

    python -m benchmarks.encrypt_photos --model photo/models/photo [--megapixels 12]

The reference runs the networks alone, on ready tensors of the size of a tile with its neighbours. Memory is
the peak of `ddm encrypt` and `ddm decrypt` as commands, each a process of its own. Exits with 1 where a
target is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import torch
from PIL import Image

from benchmarks.figures import load, print_table
from ddm_core.key_files import new_key_file
from ddm_core.photos import tiles
from ddm_core.photos.model import load_model

ROUNDS = 3
LEAST_RATIO = 0.85
MOST_MEBIBYTES = 1430  # 1.5 GB
# A process counts the memory that its parent had when it was started; this one has little.
PEAK = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(status, usage.ru_maxrss)
"""
Step = tuple[Callable[..., torch.Tensor], int, int, int]
"""The networks' function, its reach, and the pixels of a cell before and after it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--megapixels", type=float, default=12.0)
    options = parser.parse_args()
    networks = load_model(options.model).networks
    side = round((options.megapixels * 1e6) ** 0.5) // networks.patch * networks.patch
    random = numpy.random.default_rng(0)
    photo = random.integers(0, 256, (side, side, networks.channels), dtype=numpy.uint8)
    cells = side // networks.patch, side // networks.patch
    stream = tiles.keystream_of(networks, os.urandom(32), os.urandom(12), cells)
    hidden = tiles.hide(networks, photo, stream)
    rows, missed = [], False
    print(f"load before: {load()}")
    hiding: Step = (networks.hide, networks.hide_reach, networks.patch, networks.carrier)
    revealing: Step = (networks.reveal, networks.reveal_reach, networks.carrier, networks.patch)
    for name, whole, step, pixels in (
        ("encrypt", lambda: tiles.hide(networks, photo, stream), hiding, photo),
        ("decrypt", lambda: tiles.reveal(networks, hidden, stream), revealing, hidden[:, :, None]),
    ):
        taken, reference = medians(whole, lambda step=step, pixels=pixels: bare_tiles(step, pixels, stream))
        speed = side * side / 1e6 / taken
        rows.append(
            (name, f"{speed:.2f} megapixels/s", f"{reference / taken:.2f} x", f"at least {LEAST_RATIO} x")
        )
        missed = missed or reference / taken < LEAST_RATIO
    for verb, mebibytes in peak_memory(options.model, photo):
        rows.append((f"ddm {verb}", f"{mebibytes:.0f} MiB at most", "", f"at most {MOST_MEBIBYTES} MiB"))
        missed = missed or mebibytes > MOST_MEBIBYTES
    print_table(f"{side} x {side} pixels", rows)
    print(f"load after: {load()}")
    if missed:
        raise SystemExit(1)


def peak_memory(model: Path, photo: tiles.Pixels) -> Iterator[tuple[str, float]]:
    """Yield each command with the most memory that it took for the photo, in MiB."""
    with tempfile.TemporaryDirectory() as place:
        folder, key = Path(place), Path(place) / "a.key"
        new_key_file(key)
        Image.fromarray(photo if photo.shape[2] == 3 else photo[:, :, 0]).save(folder / "large.png")
        for verb, file in (("encrypt", folder / "large.png"), ("decrypt", folder / "encrypt/large.png")):
            command = [sys.executable, "-m", "ddm_core.cli", verb, file, "-o", folder / verb]
            command += ["--key", key, "--model", model]
            output = subprocess.check_output([sys.executable, "-c", PEAK, *map(str, command)], text=True)
            status, kibibytes = map(int, output.splitlines()[-1].split())
            if status:
                raise SystemExit(f"ddm {verb} failed")
            yield verb, kibibytes / 1024


def medians(whole: Callable[[], object], bare: Callable[[], float]) -> tuple[float, float]:
    """Return the median seconds of both, measured in turn."""
    taken, reference = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        whole()
        taken.append(time.perf_counter() - start)
        reference.append(bare())
    return statistics.median(taken), statistics.median(reference)


@torch.no_grad()
def bare_tiles(step: Step, pixels: tiles.Pixels, stream: tiles.Keystream) -> float:
    """Return the seconds that the networks alone take on the tiles of a photo, neighbours included."""
    network, reach, scale, drawn = step
    grid = stream.grid.rows, stream.grid.columns
    seconds = 0.0
    for strip in tiles.strips(grid, max(1, tiles.TILE // drawn)):
        for own in strip:
            around = own.widened(reach, grid)
            tensor = tiles.to_tensor(around.of(pixels, scale))
            rows, columns = around.bottom - around.top, around.right - around.left
            rotation = torch.randn(1, stream.grid.quaternions, 4, rows, columns)
            start = time.perf_counter()
            network(tensor, rotation)
            seconds += time.perf_counter() - start
    return seconds


if __name__ == "__main__":
    main()
