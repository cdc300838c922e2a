"""FaceScrub: faces of 530 actors and actresses as lists of addresses, boxes and checksums, without images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from ddm_core.data.downloads import REPORT_NAME, Download
from ddm_core.data.facescrub_images import Candidate, ImageIndex, index_images
from ddm_core.data.facescrub_lists import Corrections, Face, read_corrections, read_lists
from ddm_core.data.raw import Box, RawPhoto, Region, Rejected
from ddm_core.data.regions import printable
from ddm_core.data.sources import IMAGE_SUFFIXES, why_no_photo
from ddm_core.errors import DdmError
from ddm_core.files import sha256_file

_Outcome: TypeAlias = Literal["found", "missing", "mismatched", "unreadable", "dropped", "malformed"]


@dataclass(frozen=True)
class Summary:
    """What became of the faces of the lists, and of the images in the folder.

    `photos`: person -> faces whose image is there and is the right one, 0 included. `missing`: faces without
    an image, `mismatched`: with files of the right name but another SHA-256, `unreadable`: with a file that
    cannot be read, `dropped`: left out by corrections, `malformed`: bad lines. `unlisted`: images in the
    folder whose names fit no face; `others`: files in it that are no images. `listed`: person -> faces in the
    lists that corrections leave.
    """

    photos: dict[str, int]
    missing: int
    mismatched: int
    unreadable: int
    dropped: int
    malformed: int
    unlisted: int
    others: int = 0
    listed: dict[str, int] = field(default_factory=dict)


def read(
    uri: Path,
    *,
    lists: Sequence[Path],
    corrections: Path | None = None,
    margin: float = 0.0,
    summarise: Callable[[Summary], None] | None = None,
) -> Iterator[RawPhoto | Rejected]:
    """Yield every face of `lists` whose image lies in the folder `uri`, in the order of the lists.

    The photo is `Name/<image_id>_<face_id>.ext` with the image's own bytes; an image of several faces is
    yielded once a face. The region's box is the list's, wider by `margin` (>= 0) times its size on each side,
    so it may reach beyond the image. Files of the folder that no face is about are rejected, but not the
    lists and the downloader's report. `corrections` is described at `facescrub_lists.read_corrections`.
    Faces without an image are counted, not rejected: dead links are normal. `summarise` gets the counts when
    all faces are through.

    Raises:
        DdmError: no such folder, none of the listed images in it, a bad margin, list or correction list.
    """
    if not 0 <= margin < float("inf"):
        raise DdmError(f"facescrub: margin is {margin}; it must not be negative")
    changes = read_corrections(corrections, lists) if corrections else Corrections(())
    known = [*lists, *([corrections] if corrections else [])]
    images = index_images(uri, {*(path.name for path in known), REPORT_NAME})
    outcomes: Counter[_Outcome] = Counter()
    photos: Counter[str] = Counter()
    people: Counter[str] = Counter()
    keys: set[str] = set()
    for listed in read_lists(lists):
        if isinstance(listed, Rejected):
            outcomes["malformed"] += 1
            yield listed
            continue
        files, face = images.of(listed), changes.apply(listed)
        if face is None:
            outcomes["dropped"] += 1
            continue
        outcome, photo = _judge(face, files, margin) if face.key not in keys else _twice(face)
        keys.add(face.key)
        outcomes[outcome] += 1
        photos[face.name] += outcome == "found"
        people[face.name] += 1
        if photo:
            yield photo
    if outcomes["missing"] and not images.found:
        raise DdmError(f"{uri}: none of the {outcomes['missing']} listed images is in it; see ddm data fetch")
    yield from _strays(images)
    if summarise:
        summarise(_summary(photos, people, outcomes, images))


def describe(summary: Summary) -> str:
    """Return a summary in a few lines for people."""
    photos = sorted(summary.photos.items(), key=lambda item: (item[1], item[0]))
    counts = [count for _, count in photos]
    if not counts:
        return "FaceScrub: no face in the lists"
    fewest = ", ".join(f"{name} ({count})" for name, count in photos[:5])
    return "\n".join(
        (
            f"FaceScrub: {sum(counts)} photos of {sum(count > 0 for count in counts)} people are there; "
            f"a person has {counts[0]} to {counts[-1]}, the median is {counts[len(counts) // 2]}",
            f"  missing {summary.missing}, another file than listed {summary.mismatched}, "
            f"unreadable {summary.unreadable}, dropped by corrections {summary.dropped}, "
            f"bad lines {summary.malformed}; images in no list {summary.unlisted}",
            f"  fewest: {fewest}",
        )
    )


def people_table(summary: Summary) -> str:
    """Return, tab-separated and by name, how many of each person's listed faces are there."""
    rows = (f"{name}\t{summary.listed[name]}\t{photos}" for name, photos in sorted(summary.photos.items()))
    return "\n".join(("name\tlisted\tthere", *rows, ""))


def listed_downloads(lists: Sequence[Path]) -> tuple[list[Download], int]:
    """Return every image of the lists once, and the number of bad lines.

    It is to be saved as `<first two digits>/<sha256>.ext`. An image that is listed under several addresses
    gets all of them, to be tried in turn.

    Raises:
        DdmError: a list that cannot be read or has another header.
    """
    urls: dict[str, dict[str, None]] = defaultdict(dict)  # a dict, for it keeps the order
    malformed = 0
    for face in read_lists(lists):
        if isinstance(face, Face):
            urls[face.sha256][face.url] = None
        else:
            malformed += 1
    return [
        Download(digest, tuple(found), _place(digest, next(iter(found)))) for digest, found in urls.items()
    ], malformed


def _place(digest: str, url: str) -> str:
    suffix = PurePosixPath(url.partition("?")[0]).suffix.lower()
    return f"{digest[:2]}/{digest}{suffix if suffix in IMAGE_SUFFIXES else '.jpg'}"


def _judge(
    face: Face, files: Sequence[Candidate], margin: float
) -> tuple[_Outcome, RawPhoto | Rejected | None]:
    """Return the photo of a face from the one of `files` that is its image, or what is wrong with them."""
    outcome: _Outcome = "missing"
    rejected = None
    for path in (file.path for file in files):
        try:
            if sha256_file(path) == face.sha256:  # in blocks: another file may be of any size
                photo = RawPhoto(_relative(face, path), path.read_bytes(), Region(_widened(face.box, margin)))
                return "found", photo
        except OSError as error:
            reason = f"{path.name} cannot be read ({error.strerror}); mend or remove it"
            outcome, rejected = "unreadable", Rejected(_relative(face, path), reason)
    if files and files[0].sure and outcome == "missing":
        path = files[0].path
        reason = f"{path.name} has another SHA-256 than listed; replace it by the listed, uncropped image"
        return "mismatched", Rejected(_relative(face, path), reason)
    return outcome, rejected


def _strays(images: ImageIndex) -> Iterator[Rejected]:
    for relative in images.files:
        if relative not in images.found:
            yield Rejected(
                printable(relative), "an image that fits no face in the lists; add its list or remove it"
            )
    for relative in images.others:
        yield Rejected(printable(relative), why_no_photo(relative))


def _twice(face: Face) -> tuple[_Outcome, Rejected]:
    return "malformed", Rejected(face.key, "the face is listed twice; remove one of the lines")


def _relative(face: Face, file: Path) -> str:
    """Formats are read from the bytes; the suffix says only that the file is a photo."""
    suffix = file.suffix.lower()
    return f"{face.key}{suffix if suffix in IMAGE_SUFFIXES else '.jpg'}"


def _widened(box: Box, margin: float) -> Box:
    left, top, right, bottom = box
    across, down = margin * (right - left), margin * (bottom - top)
    return left - across, top - down, right + across, bottom + down


def _summary(
    photos: Counter[str], people: Counter[str], outcomes: Counter[_Outcome], images: ImageIndex
) -> Summary:
    return Summary(
        photos=dict(photos),
        missing=outcomes["missing"],
        mismatched=outcomes["mismatched"],
        unreadable=outcomes["unreadable"],
        dropped=outcomes["dropped"],
        malformed=outcomes["malformed"],
        unlisted=len(images.files) - len(images.found),
        others=len(images.others),
        listed=dict(people),
    )
