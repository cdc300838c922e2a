"""Reading shards: against plain reading and decoding of the same photos, and from S3 against local disk.

    python -m benchmarks.read_shards --photos 20000

The plain loop reads a file that holds nothing but the same PNGs, one after another, and decodes each with
Pillow; it knows no key, no label, no order and no checksum. The S3 server is moto's, on loopback, in a
process of its own, and shares the cores with what is measured. Runs alternate; medians count.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.figures import load, print_table
from benchmarks.photos import write_photos
from ddm_core.data.manifest import read_summary
from ddm_core.data.stream import PhotoStream
from ddm_core.data.tar_shards import read_shard
from ddm_core.params import PrepareParams
from ddm_core.stages import prepare

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def write_plain(prepared: Path, target: Path) -> list[int]:
    """Write the train split's PNGs into one file and return their sizes."""
    sizes = []
    with target.open("wb") as plain:
        for shard in (shard for shard in read_summary(prepared).shards if shard.name.startswith("train-")):
            with (prepared / shard.name).open("rb") as file:
                for photo in read_shard(file, shard, shard.name):
                    sizes.append(plain.write(photo.png))
    return sizes


def read_plain(path: Path, sizes: list[int]) -> float:
    """Return the seconds that plain reading and decoding takes."""
    import numpy
    from PIL import Image

    start = time.perf_counter()
    with path.open("rb") as file:
        for size in sizes:
            numpy.asarray(Image.open(io.BytesIO(file.read(size))))
    return time.perf_counter() - start


def read_stream(prepared: str, photos: int) -> float:
    """Return the seconds that one epoch of a new stream takes, checksums included."""
    start = time.perf_counter()
    count = sum(1 for _ in PhotoStream(prepared, split="train", seed=0))
    seconds = time.perf_counter() - start
    if count != photos:
        raise SystemExit(f"read {count} of {photos} photos")
    return seconds


@contextmanager
def s3_server() -> Iterator[str]:
    """Yield the address of a bucket on an S3 server of its own, which the environment names."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
        os.environ |= {"AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}
        import boto3

        boto3.session.Session().client("s3").create_bucket(Bucket="photos")
        yield "s3://photos/prepared"
        process.terminate()


def main() -> None:
    """Prepare photos, read them in every way, print the ratios."""
    parser = argparse.ArgumentParser(description="Measure the reading of shards.")
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=112, help="pixels a side (112)")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--raw", type=Path, help="folder for the photos, kept for the next run")
    options = parser.parse_args()
    from ddm_core.storage import upload

    params = PrepareParams(options.size, options.channels, "crop", 0.2, 0.2, 0.01, 256, 0)
    with tempfile.TemporaryDirectory() as temporary, s3_server() as address:
        raw, prepared = (options.raw or Path(temporary)) / f"{options.photos}", Path(temporary) / "prepared"
        write_photos(raw, options.photos)
        prepare.run(params, raw=raw, prepared=prepared)
        sizes = write_plain(prepared, Path(temporary) / "plain")
        for path in prepared.iterdir():
            upload(path, f"{address}/{path.name}")
        print(f"load {load()} before")
        plain, local, remote = [], [], []
        for _ in range(options.repeats):
            plain.append(read_plain(Path(temporary) / "plain", sizes))
            local.append(read_stream(str(prepared), len(sizes)))
            remote.append(read_stream(address, len(sizes)))
        print(f"load {load()} after")
    to_plain = [one / other for one, other in zip(plain, local, strict=True)]
    to_local = [one / other for one, other in zip(local, remote, strict=True)]
    print(f"ratios of the repeats: {[f'{r:.2f}' for r in to_plain]} and {[f'{r:.2f}' for r in to_local]}")
    rows = [
        ("plain reading and decoding", f"{median(plain):.2f} s", "", ""),
        (
            "stream from local shards",
            f"{median(local):.2f} s",
            f"{median(to_plain):.2f} x",
            "at least 0.90 x",
        ),
        ("stream from S3", f"{median(remote):.2f} s", f"{median(to_local):.2f} x", "at least 0.80 x"),
    ]
    mode = "L" if options.channels == 1 else "RGB"
    print_table(f"reading {len(sizes)} photos of {options.size} pixels {mode}", rows)


if __name__ == "__main__":
    main()
