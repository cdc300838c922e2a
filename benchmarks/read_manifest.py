"""How long a manifest of half a million photos takes to load and check, and how much memory.

python -m benchmarks.read_manifest --photos 500000
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ddm_core.data.manifest import PhotoRecord, ShardRecord, make_summary, write_summary
from ddm_core.data.photo_table import write_photos
from ddm_core.params import PrepareParams

PARAMS = PrepareParams(112, 3, "crop", 0.2, 0.2, 0.01, 256, 0)
PHOTOS_A_PERSON, PHOTOS_A_SHARD = 50, 10_000
LOAD = """
import resource, sys, time
from pathlib import Path
from ddm_core.data.manifest import read_manifest
start = time.perf_counter()
manifest = read_manifest(Path(sys.argv[1]))
seconds = time.perf_counter() - start
print(len(manifest.photos), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def records(photos: int) -> Iterator[PhotoRecord]:
    """Yield records such as a large collection has."""
    for index in range(photos):
        person, number = divmod(index, PHOTOS_A_PERSON)
        name, digest = f"person_{person:06}", hashlib.sha256(str(index).encode()).hexdigest()
        split, by_identity = (
            ("test" if number % 5 == 0 else "train"),
            ("test" if person % 5 == 0 else "train"),
        )
        source, shard = f"{name}/{name}_{number:04}.jpg", f"{split}-{index // PHOTOS_A_SHARD:06}.tar"
        yield PhotoRecord(f"{index:08}", name, split, by_identity, source, digest, digest[::-1], shard)


def write(folder: Path, photos: int) -> None:
    """Write a manifest without shards."""
    tally = write_photos(folder, PARAMS, records(photos))
    shards = tuple(ShardRecord(f"train-{n:06}.tar", "0" * 64, 0, 0) for n in range(photos // PHOTOS_A_SHARD))
    write_summary(folder, make_summary(PARAMS, None, tally, (), shards, found=photos, protocol={}))


def main() -> None:
    """Write, load in a process of its own, print."""
    parser = argparse.ArgumentParser(description="Measure the loading of a large manifest.")
    parser.add_argument("--photos", type=int, default=500_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.photos)
        loaded = subprocess.run(
            [sys.executable, "-c", LOAD, folder], capture_output=True, text=True, check=True
        )
    photos, seconds, megabytes = map(float, loaded.stdout.split())
    print(f"{photos:.0f} photos load in {seconds:.2f} s (target 3) and {megabytes:.0f} MB (target 500)")


if __name__ == "__main__":
    main()
