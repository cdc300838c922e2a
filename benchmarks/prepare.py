"""prepare against a plain Pillow loop in two processes, and its memory at a tenth of the photos and at all.

    python -m benchmarks.prepare --photos 20000

The loop opens, resizes and encodes one photo after another and appends the PNG to one file; it keeps no
record, makes no split and checks nothing. Both read files that are in the page cache. Runs alternate;
medians count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.figures import load, print_table
from benchmarks.photos import write_photos

GOAL = "at least 0.90 x"
LOOP = """
import io, sys
from pathlib import Path
from PIL import Image
raw, out, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
size, place = map(int, sys.argv[4:])
with (out / f"{place}.png").open("wb") as pngs:
    for path in sorted(raw.rglob("*.jpg"))[place::2]:
        with Image.open(path) as image:
            small = image.convert(mode).resize((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, format="PNG")
        pngs.write(buffer.getvalue())
"""
PREPARE = """
import json, resource, sys
from pathlib import Path
from ddm_core.params import PrepareParams
from ddm_core.stages import prepare

raw, out, params = Path(sys.argv[1]), Path(sys.argv[2]), PrepareParams(**json.loads(sys.argv[3]))
prepare.run(params, raw=raw, prepared=out / "prepared", workers=2)
for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):  # of the children, the one that took most
    print(resource.getrusage(who).ru_maxrss / 1024)
"""


@dataclass(frozen=True)
class Run:
    """What one run took: seconds on the clock, and of all its processes on the cores."""

    wall: float
    cpu: float


def run_loop(raw: Path, mode: str, size: int) -> Run:
    """Run two processes of the plain loop."""
    with tempfile.TemporaryDirectory() as out, measured() as runs:
        command = [sys.executable, "-c", LOOP, str(raw), out, mode, str(size)]
        for process in [subprocess.Popen([*command, str(place)]) for place in range(2)]:
            if process.wait():
                raise SystemExit("the plain loop failed")
    return runs[0]


def run_prepare(raw: Path, channels: int, size: int) -> tuple[Run, list[float]]:
    """Run prepare; return also the peak MB of its main process and of its largest worker."""
    params = {"image_size": size, "channels": channels, "square": "crop", "test_fraction": 0.2}
    params |= {"identity_test_fraction": 0.2, "max_bad_fraction": 0.01, "shard_megabytes": 256, "seed": 0}
    with tempfile.TemporaryDirectory() as out, measured() as runs:
        command = [sys.executable, "-c", PREPARE, str(raw), out, json.dumps(params)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        )
    return runs[0], [float(line) for line in done.stdout.split()]


@contextmanager
def measured() -> Iterator[list[Run]]:
    """Yield a list that gets what the processes of the block took."""
    runs: list[Run] = []
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    yield runs
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    runs.append(Run(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))


def main() -> None:
    """Generate the photos, run both, print the ratio and the memory."""
    parser = argparse.ArgumentParser(description="Measure prepare against a plain Pillow loop.")
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=112, help="pixels a side (112)")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--raw", type=Path, help="folder for the photos, kept for the next run")
    options = parser.parse_args()
    mode = "L" if options.channels == 1 else "RGB"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.raw or Path(temporary)
        few, many = folder / f"{options.photos // 10}", folder / f"{options.photos}"
        write_photos(few, options.photos // 10)
        write_photos(many, options.photos)
        _, few_memory = run_prepare(few, options.channels, options.size)
        print(f"load {load()} before")
        plain, ours = [], []
        for _ in range(options.repeats):
            plain.append(run_loop(many, mode, options.size))
            run, many_memory = run_prepare(many, options.channels, options.size)
            ours.append(run)
        print(f"load {load()} after")
    walls = [one.wall / other.wall for one, other in zip(plain, ours, strict=True)]
    print(f"ratios of the repeats: {', '.join(f'{ratio:.2f}' for ratio in walls)}")
    cpu = median(one.cpu / other.cpu for one, other in zip(plain, ours, strict=True))
    rows = [
        ("plain loop, 2 processes", f"{median(run.wall for run in plain):.2f} s", "", ""),
        ("prepare, 2 workers", f"{median(run.wall for run in ours):.2f} s", f"{median(walls):.2f} x", GOAL),
        ("the same in seconds of the cores", f"{median(run.cpu for run in ours):.2f} s", f"{cpu:.2f} x", ""),
    ]
    for name, few_mb, many_mb in zip(("main", "worker"), few_memory, many_memory, strict=True):
        growth = f"{many_mb / few_mb:.2f} x" if few_mb else ""  # no worker for a single part
        rows.append(
            (f"peak memory, {name} process", f"{few_mb:.0f} -> {many_mb:.0f} MB", growth, "below 400 MB")
        )
    largest = max(many_memory) / max(few_memory)
    rows.append(
        ("peak memory of any process", f"{max(many_memory):.0f} MB", f"{largest:.2f} x", "at most 1.10 x")
    )
    print_table(f"prepare, {options.photos} photos to {options.size} pixels {mode}", rows)


if __name__ == "__main__":
    main()
