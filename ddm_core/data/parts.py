"""Parts of a dataset in the making: the photos of a fixed number of files, decoded and kept between runs.

Photos are decoded part by part, so that many processes or machines can share the work, and a run that was cut
short goes on where it was. How files fall into parts depends on the files alone. A part is a folder, written
as a whole:

- `part.json`: its digest, over the settings and over the name, content and region of every file.
- `photos.tar`: the decoded photos, `<key>.png`, as the shards will hold them.
- `photos.jsonl`: one `PartPhoto` a line, in the order of the keys.
- `quarantined.jsonl`: `[source, reason]` of every file that is no photo.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from ddm_core.data.imaging import decode, encode_png, read_photo
from ddm_core.data.manifest import QuarantinedFile
from ddm_core.data.raw import Region
from ddm_core.data.sources import SourceFile
from ddm_core.data.tar_shards import tar_member
from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, read_json, sha256_bytes, write_json

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

PART_VERSION = 3  # of the form, and of what decoding makes of a file: raise it when either changes
FILES_A_PART = 500
PART, PIXELS, PHOTOS, QUARANTINED = "part.json", "photos.tar", "photos.jsonl", "quarantined.jsonl"


@dataclass(frozen=True)
class Decoding:
    """The settings that decide what becomes of a file."""

    image_size: int
    channels: Literal[1, 3]
    square: Literal["crop", "pad"]
    detect_faces: bool = False


@dataclass(frozen=True)
class Task:
    """One part to make: its files, the first of which gets the key `first`, and the folder to write.

    `regions` are those of its files, in their order.
    """

    decoding: Decoding
    raw: Path
    first: int
    files: tuple[SourceFile, ...]
    regions: tuple[Region | None, ...]
    folder: Path


class PartPhoto(NamedTuple):
    """A decoded photo; its member of `photos.tar` takes `size` bytes, header and padding included."""

    key: str
    identity: str
    source: str
    source_sha256: str
    pixel_sha256: str
    size: int


def make_part(task: Task, check: Callable[[], None] = lambda: None) -> None:
    """Decode the files of a part, unless the part is there already and still fits its files.

    `check` is called before each file; what it raises ends the work, and leaves nothing of the part.
    """
    if is_current(task, check):
        return
    with atomic_directory(task.folder) as temporary:
        digest = _digest_of(task.decoding)
        with (
            (temporary / PIXELS).open("wb") as pixels,
            (temporary / PHOTOS).open("w", encoding="utf-8") as photos,
        ):
            quarantined = _decode_files(task, check, digest, pixels, photos)
            pixels.flush()
            os.fsync(pixels.fileno())  # the part may outlive a crash of the machine, and is trusted then
        (temporary / QUARANTINED).write_text("".join(map(_line, quarantined)), encoding="utf-8")
        size = (temporary / PIXELS).stat().st_size
        write_json(temporary / PART, {"digest": digest.hexdigest(), "files": len(task.files), "bytes": size})


def is_current(task: Task, check: Callable[[], None] = lambda: None) -> bool:
    """Tell whether the part is there and made of these files, with their present content, and settings."""
    try:
        stored = read_json(task.folder / PART)
        if stored["bytes"] != (task.folder / PIXELS).stat().st_size:
            return False
    except (DdmError, OSError, TypeError, KeyError):
        return False
    digest = _digest_of(task.decoding)
    for key, file, region in _files(task):
        check()
        try:
            content = sha256_bytes(read_photo(task.raw / file.relative))
        except DdmError as error:
            content = str(error)
        _add_file(digest, key, file, content, region)
    return bool(stored.get("digest") == digest.hexdigest())


def read_photos(folder: Path) -> list[PartPhoto]:
    """Return the photos of a part, in the order of their keys."""
    return [PartPhoto(*row) for row in _read_lines(folder / PHOTOS)]


def read_quarantined(folder: Path) -> list[QuarantinedFile]:
    """Return the files of a part that are no photos."""
    return [QuarantinedFile(*row) for row in _read_lines(folder / QUARANTINED)]


def read_members(folder: Path) -> Iterator[tuple[PartPhoto, bytes]]:
    """Yield the photos of a part with their tar members."""
    with (folder / PIXELS).open("rb") as pixels:
        for photo in read_photos(folder):
            yield photo, pixels.read(photo.size)


def _decode_files(
    task: Task,
    check: Callable[[], None],
    digest: Any,  # noqa: ANN401 - hashlib does not name its type
    pixels: IO[bytes],
    photos: IO[str],
) -> list[tuple[str, str]]:
    quarantined: list[tuple[str, str]] = []
    for key, file, region in _files(task):
        check()
        try:
            content = read_photo(task.raw / file.relative)
        except DdmError as error:
            _add_file(digest, key, file, str(error), region)
            quarantined.append((file.relative, str(error)))
            continue
        source_sha256 = sha256_bytes(content)
        _add_file(digest, key, file, source_sha256, region)
        try:
            image = _decode(content, task.decoding, region)
        except DdmError as error:
            quarantined.append((file.relative, str(error)))
            continue
        member = tar_member(f"{key}.png", encode_png(image))
        pixels.write(member)
        pixel_sha256 = sha256_bytes(image.tobytes())
        photos.write(_line((key, file.identity, file.relative, source_sha256, pixel_sha256, len(member))))
    return quarantined


def _decode(content: bytes, decoding: Decoding, region: Region | None) -> NDArray[numpy.uint8]:
    if decoding.detect_faces and region is None:
        from ddm_core.data.faces import find_face  # here, for it needs the extra `faces`

        region = find_face(content)
        if region is None:
            raise DdmError("no face found; crop it by hand, or leave the photo out")
    return decode(
        content,
        image_size=decoding.image_size,
        channels=decoding.channels,
        square=decoding.square,
        region=region,
    )


def _files(task: Task) -> Iterator[tuple[str, SourceFile, Region | None]]:
    for index, (file, region) in enumerate(zip(task.files, task.regions, strict=True), start=task.first):
        yield f"{index:08}", file, region


def _digest_of(decoding: Decoding) -> Any:  # noqa: ANN401 - hashlib does not name its type
    from PIL import __version__ as pillow

    return hashlib.sha256(_line([PART_VERSION, pillow, dataclasses.astuple(decoding)]).encode())


def _add_file(digest: Any, key: str, file: SourceFile, content: str, region: Region | None) -> None:  # noqa: ANN401
    about = None if region is None else dataclasses.astuple(region)
    digest.update(_line((key, file.identity, file.relative, content, about)).encode())


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _line(row: Sequence[Any]) -> str:
    return f"{_ENCODE(row)}\n"


def _read_lines(path: Path) -> list[list[Any]]:
    with path.open(encoding="utf-8") as lines:
        rows: list[list[Any]] = json.loads(f"[{','.join(lines)}]")
    return rows
