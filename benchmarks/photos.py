"""Generated photos to measure with: 250 x 250 colour JPEGs of about 17 kB, twenty a person.

    python -m benchmarks.photos FOLDER --photos 20000

A photo is a bright ellipse on a coloured ground under soft light, with the fine grain of a camera, so that
its JPEG takes about as long to decode as a real one. It shows nobody, and is the same every time.
"""

from __future__ import annotations

import argparse
import io
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ddm_core.seeding import numpy_generator

SIDE = 250  # pixels, as in Labeled Faces in the Wild
PHOTOS_A_PERSON = 20
QUALITY = 90
PEOPLE_AT_A_TIME = 20


def write_photos(folder: Path, photos: int, processes: int = 2) -> None:
    """Write `photos` files `person_00000/person_00000_0000.jpg`, ...; what is there already stays."""
    people = range(0, -(-photos // PHOTOS_A_PERSON), PEOPLE_AT_A_TIME)
    with ProcessPoolExecutor(processes) as executor:
        done = [executor.submit(_write_people, folder, first, photos) for first in people]
        for batch in tqdm(done, desc="photos", unit="batch"):
            batch.result()


def photo(person: int, number: int) -> bytes:
    """Return one photo as a JPEG file."""
    draw = numpy_generator(0, f"benchmarks/photos/{person}/{number}")
    look = numpy_generator(0, f"benchmarks/photos/{person}")
    rows, columns = _grid()
    height, width = look.uniform(60, 90), look.uniform(45, 65)
    top, left = 125 + draw.uniform(-12, 12, size=2)
    inside = ((rows - top) / height) ** 2 + ((columns - left) / width) ** 2 < 1
    skin, ground = look.uniform(120, 220, size=3), draw.uniform(20, 200, size=3)
    pixels = numpy.where(inside[..., None], skin, ground) + _light(draw) + _grain(draw)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


def _write_people(folder: Path, first: int, photos: int) -> None:
    for index in range(first * PHOTOS_A_PERSON, (first + PEOPLE_AT_A_TIME) * PHOTOS_A_PERSON):
        person, number = divmod(index, PHOTOS_A_PERSON)
        path = folder / f"person_{person:05}" / f"person_{person:05}_{number:04}.jpg"
        if index < photos and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo(person, number))


def _light(draw: numpy.random.Generator) -> NDArray[numpy.float32]:
    """Return soft light and shade: twelve by twelve random values, spread over the photo."""
    coarse = Image.fromarray(draw.normal(0, 25, (12, 12)).astype(numpy.float32))
    return numpy.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[..., None]


def _grain(draw: numpy.random.Generator) -> NDArray[numpy.float32]:
    return numpy.roll(_noise(), tuple(draw.integers(0, SIDE, size=2)), axis=(0, 1))


@lru_cache(maxsize=1)
def _noise() -> NDArray[numpy.float32]:
    return numpy_generator(0, "benchmarks/photos/noise").normal(0, 5, (SIDE, SIDE, 1)).astype(numpy.float32)


@lru_cache(maxsize=1)
def _grid() -> NDArray[numpy.float32]:
    return numpy.mgrid[:SIDE, :SIDE].astype(numpy.float32)


def main() -> None:
    """Write the photos that the command line asks for."""
    parser = argparse.ArgumentParser(description="Generate photos to measure with.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=20_000)
    options = parser.parse_args()
    write_photos(options.folder, options.photos)


if __name__ == "__main__":
    main()
