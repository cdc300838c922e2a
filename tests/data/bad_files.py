"""Files on disk that are odd but photos, and files that are none, each with the reason people shall read."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image

SIDE = 32


@dataclass(frozen=True)
class OddFile:
    """`make` writes the file at the path it is given; `reason` is a pattern, or `None` for a photo."""

    relative: str
    make: Callable[[Path], None]
    reason: str | None = None


def picture(mode: str = "RGB", side: int = SIDE) -> Image.Image:
    """Dark blue above, light orange below: no turn, mirror or wrong channel order leaves it as it is."""
    image = Image.new("RGB", (side, side), (20, 40, 90))
    image.paste((240, 160, 80), (0, side // 2, side, side))
    image.paste((120, 200, 60), (0, 0, side // 4, side // 2))
    return image.convert(mode)


def encoded(image: Image.Image, format_name: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format_name, **settings)
    return buffer.getvalue()


def bytes_of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def png(width: int, height: int, depth: int, colour_type: int, raster: bytes) -> bytes:
    """A PNG of any header, which Pillow would not write; rows in `raster` begin with their filter byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raster))
        + chunk(b"IEND", b"")
    )


def sixteen_bit(image: Image.Image) -> bytes:
    samples = numpy.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    return png(*image.size, 16, 2 if image.mode == "RGB" else 0, rows)


def whole_bomb(path: Path) -> None:
    path.write_bytes(png(9_000, 9_000, 8, 0, bytes(9_001 * 9_000)))


def stored_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    return encoded(picture().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def animated(format_name: str) -> bytes:
    frames = [Image.new("RGB", (SIDE, SIDE), shade) for shade in ("black", "white")]
    settings = {"lossless": True} if format_name == "WEBP" else {}
    return encoded(picture(), format_name, save_all=True, append_images=frames, **settings)


def flipped(content: bytes, place: int) -> bytes:
    damaged = bytearray(content)
    damaged[place] ^= 0xFF
    return bytes(damaged)


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))


def sparse(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


JPEG = encoded(picture(), "JPEG", quality=95, subsampling=0)
PROGRESSIVE = encoded(picture(), "JPEG", quality=95, progressive=True)
LARGE = encoded(Image.effect_noise((400, 400), 60), "JPEG")
PNG = encoded(picture(), "PNG")
DECOMPOSED = "Jose\u0301"  # e and a combining accent
COMPOSED = "Jos\u00e9"

CORRUPT = "corrupt or truncated image"

PHOTOS = (
    OddFile("anna/plain.jpg", bytes_of(JPEG)),
    OddFile("anna/CAPITALS.JPEG", bytes_of(JPEG)),
    OddFile("anna/a png by content.jpg", bytes_of(PNG)),
    OddFile("anna/a jpeg by content.png", bytes_of(JPEG)),
    OddFile("anna/cmyk.jpg", bytes_of(encoded(picture("CMYK"), "JPEG", quality=95, subsampling=0))),
    OddFile("anna/16 bit colour.png", bytes_of(sixteen_bit(picture()))),
    OddFile("anna/palette.png", bytes_of(encoded(picture().quantize(), "PNG"))),
    OddFile("anna/stored turned.png", bytes_of(stored_turned())),
    OddFile("anna/animated.webp", bytes_of(animated("WEBP"))),
    OddFile("anna/animated.png", bytes_of(animated("PNG"))),
    OddFile("anna/two pictures in one.jpg", bytes_of(animated("MPO"))),
    OddFile("anna/bytes after the end.jpg", bytes_of(JPEG + bytes(1000))),
    OddFile("anna/a\\..\\..\\backslashes.png", bytes_of(PNG)),
    OddFile("anna/two..dots..png", bytes_of(PNG)),
    OddFile("anna/link to a photo.png", link_to("a png by content.jpg")),
    OddFile("a folder.jpg/photo.png", bytes_of(PNG)),
    OddFile("王芳/照片.png", bytes_of(PNG)),
    OddFile("محمد/صورة.png", bytes_of(PNG)),
    OddFile("Зоя 🙂/фото.png", bytes_of(PNG)),
    OddFile(f"{COMPOSED}/1.png", bytes_of(PNG)),
    OddFile(f"{DECOMPOSED}/2.png", bytes_of(PNG)),
)

REJECTED = (
    OddFile("zoe/zero bytes.jpg", bytes_of(b""), "the file is empty"),
    OddFile("zoe/a text.jpg", bytes_of(b"This is not a photo."), "not an image"),
    OddFile("zoe/a page.jpg", bytes_of(b"<!DOCTYPE html><title>404</title>"), "not an image"),
    OddFile("zoe/header alone.jpg", bytes_of(JPEG[:300]), CORRUPT),
    OddFile("zoe/half a jpeg.jpg", bytes_of(JPEG[: len(JPEG) * 2 // 3]), CORRUPT),
    OddFile("zoe/half a progressive.jpg", bytes_of(PROGRESSIVE[:-40]), CORRUPT),
    OddFile("zoe/without its end mark.jpg", bytes_of(JPEG[:-2]), CORRUPT),
    OddFile(
        "zoe/zeros for its half.jpg", bytes_of(LARGE[: len(LARGE) // 2] + bytes(len(LARGE) // 2)), CORRUPT
    ),
    OddFile("zoe/no size.jpg", bytes_of(JPEG.replace(b"\xff\xc0", b"\xff\xfe")), "not an image|" + CORRUPT),
    OddFile("zoe/half a png.png", bytes_of(PNG[: len(PNG) // 2]), CORRUPT),
    OddFile("zoe/one wrong byte.png", bytes_of(flipped(PNG, len(PNG) - 20)), CORRUPT),
    OddFile("zoe/400 megapixels.png", bytes_of(png(20_000, 20_000, 8, 0, bytes(99))), "80 megapixels"),
    OddFile(
        "zoe/81 megapixels.png", bytes_of(png(9_000, 9_000, 8, 0, bytes(9_001 * 9_000))), "80 megapixels"
    ),
    OddFile("zoe/a long strip.png", bytes_of(png(40_000, 2, 8, 0, bytes(99))), "30000 a side"),
    OddFile("zoe/too many bytes.bmp", sparse(1 << 40), "larger than 256 MiB"),
    OddFile("zoe/itself.jpg", link_to("itself.jpg"), "leads nowhere or in a circle"),
    OddFile("zoe/to nothing.jpg", link_to("missing.jpg"), "leads nowhere or in a circle"),
    OddFile("zoe/to nobody", link_to("/no/such/folder"), "leads nowhere or in a circle"),
    OddFile("zoe/out.jpg", link_to("../../outside/secret.jpg"), "link out of the folder"),
    OddFile("outsider", link_to("../outside"), "link out of the folder"),
    OddFile("zoe/out.png", link_to("/dev/zero"), "link out of the folder"),
    OddFile("zoe/pipe.jpg", os.mkfifo, "named pipe, socket or device"),
    OddFile("zoe/socket.jpg", listening_socket, "named pipe, socket or device"),
    OddFile("zoe/to a pipe.jpg", link_to("pipe.jpg"), "named pipe, socket or device"),
    OddFile("zoe/empty folder.jpg", Path.mkdir, "an empty folder with a photo's name"),
    OddFile("0001.jpg", bytes_of(JPEG), "names no person; put it into a folder"),
    OddFile("zoe/two\nlines.jpg", bytes_of(JPEG), "control or undecodable characters; rename"),
    OddFile("zoe/\udcff.jpg", bytes_of(JPEG), "control or undecodable characters; rename"),
    OddFile(f"zoe/{DECOMPOSED}.jpg", bytes_of(JPEG), "same name as another file's, in another Unicode form"),
)
"""All beside `zoe/{COMPOSED}.jpg`, which is a photo."""


def lay(root: Path, file: OddFile) -> None:
    """Write one file below `root`; `root`'s sibling `outside` holds a photo that links may point to."""
    outside = root.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.jpg").write_bytes(JPEG)
    path = root / file.relative
    path.parent.mkdir(parents=True, exist_ok=True)
    file.make(path)
