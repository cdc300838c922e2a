"""FaceScrub's lists of faces, facescrub_actors.txt and facescrub_actresses.txt, and corrections to them."""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ddm_core.data.raw import Box, Rejected
from ddm_core.errors import DdmError, did_you_mean

LIST_HEADER = ("name", "image_id", "face_id", "url", "bbox", "sha256")
CORRECTION_HEADER = ("name", "image_id", "face_id", "action", "value")
ACTIONS = ("drop", "bbox", "name")
MAX_NAME_BYTES = 200  # a folder's name may have 255
MAX_HEADER = 65536  # characters; a file without a line break is no list


@dataclass(frozen=True)
class Face:
    """One line of a list: whose face, where in which image, and that image's address and SHA-256."""

    name: str
    image_id: int
    face_id: int
    url: str
    box: Box
    sha256: str

    @property
    def key(self) -> str:
        """`name/<image_id>_<face_id>`, which no other face has."""
        return f"{self.name}/{self.image_id}_{self.face_id}"


@dataclass(frozen=True)
class Correction:
    """One line of a correction list: which faces it is about (`None`: any), and what is done with them.

    `place` is file and line; of the last three, one is set.
    """

    place: str
    name: str | None
    image_id: int | None
    face_id: int | None
    drop: bool = False
    new_box: Box | None = None
    new_name: str | None = None

    def fits(self, face: Face) -> bool:
        """Tell whether the correction is about `face`."""
        return (
            self.name in (None, face.name)
            and self.image_id in (None, face.image_id)
            and self.face_id in (None, face.face_id)
        )


class Corrections:
    """Corrections found by the id that they name."""

    def __init__(self, corrections: Sequence[Correction]) -> None:
        self._by_id: dict[tuple[int | None, int | None], list[Correction]] = {}
        for correction in corrections:
            self._by_id.setdefault((correction.image_id, correction.face_id), []).append(correction)

    def about(self, face: Face) -> list[Correction]:
        """Return what is to be done with a face, in the order of the correction list."""
        ids = (face.image_id, face.face_id), (face.image_id, None), (None, face.face_id)
        found = [correction for pair in ids for correction in self._by_id.get(pair, ())]
        return [correction for correction in found if correction.fits(face)]

    def apply(self, face: Face) -> Face | None:
        """Return the corrected face, `None` if it is to be dropped."""
        for correction in self.about(face):
            if correction.drop:
                return None
            box, name = correction.new_box or face.box, correction.new_name or face.name
            face = dataclasses.replace(face, box=box, name=name)
        return face


def read_lists(lists: Sequence[Path]) -> Iterator[Face | Rejected]:
    """Yield every face of the lists in their order; a bad line is a Rejected, named `<list>:<line>`.

    Raises:
        DdmError: no list, a list that cannot be read or does not begin with LIST_HEADER.
    """
    if not lists:
        raise DdmError("facescrub: no list; name facescrub_actors.txt and facescrub_actresses.txt")
    for path in lists:
        for line, columns in _rows(path, LIST_HEADER):
            try:
                yield _face(columns)
            except ValueError as error:
                yield Rejected(f"{path.name}:{line}", f"{error}; mend or remove the line")


def count_lines(lists: Sequence[Path]) -> int:
    """Return how many lines the lists have below their headers, blank ones left out, good or bad.

    Raises:
        DdmError: a list that cannot be read.
    """
    found = 0
    for path in lists:
        try:
            with _open(path) as file:
                file.readline(MAX_HEADER)
                found += sum(1 for text in file if text.strip())
        except OSError as error:
            raise DdmError(f"{path}: cannot be read ({error.strerror}); name the list's file") from None
    return found


def read_corrections(path: Path, lists: Sequence[Path]) -> Corrections:
    """Read a correction list: wrong boxes, wrong faces, non-faces.

    Tab-separated lines under the header `name image_id face_id action value`. A line is about the faces that
    have the ids it gives (one or both; of one person if it gives a name) and does one of

    - `drop`: leave them out; no value;
    - `bbox`: take the value `x1,y1,x2,y2` as the box; the line must give the face_id;
    - `name`: they show the person that the value names.

    Raises:
        DdmError: unreadable, another header, a bad line, ids that no face has, or that faces of several
            people have though the line gives no name.
    """
    corrections = [_correction(columns, f"{path}:{line}") for line, columns in _rows(path, CORRECTION_HEADER)]
    found = Corrections(corrections)
    people: dict[Correction, set[str]] = {correction: set() for correction in corrections}
    for face in read_lists(lists):
        if isinstance(face, Face):
            for correction in found.about(face):
                people[correction].add(face.name)
    for correction, names in people.items():
        if not names:
            raise DdmError(f"{correction.place}: no face of the lists has these ids; mend or remove the line")
        if len(names) > 1:
            several = ", ".join(sorted(names))
            raise DdmError(f"{correction.place}: fits faces of {several}; give the name, one line a person")
    return found


def _rows(path: Path, header: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and columns of a tab-separated file's lines under its header."""
    try:
        with _open(path) as file:
            _check_header(path, file, header)
            for line, text in enumerate(file, start=2):
                if text.strip():
                    yield line, [column.strip() for column in text.split("\t")]
    except OSError as error:
        raise DdmError(f"{path}: cannot be read ({error.strerror}); name the list's file") from None


def _open(path: Path) -> IO[str]:
    # Addresses were collected as bytes in unknown encodings; they survive this way.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _check_header(path: Path, file: IO[str], header: Sequence[str]) -> None:
    found = [column.strip().lower() for column in file.readline(MAX_HEADER).split("\t")]
    if found != list(header):
        raise DdmError(
            f"{path}:1: the header is not {', '.join(header)} with tabs between; is this the list?"
        )


def _face(columns: Sequence[str]) -> Face:
    if len(columns) != len(LIST_HEADER):
        raise ValueError(f"{len(columns)} columns instead of {len(LIST_HEADER)}")
    name, image_id, face_id, url, box, sha256 = columns
    if re.fullmatch(r"[0-9a-fA-F]{64}", sha256) is None:
        raise ValueError("sha256 is not 64 hexadecimal digits")
    return Face(_name(name), _id(image_id), _id(face_id), url, _box(box), sha256.lower())


def _correction(columns: Sequence[str], place: str) -> Correction:
    columns = [*columns, *[""] * (len(CORRECTION_HEADER) - len(columns))]
    try:
        if len(columns) > len(CORRECTION_HEADER):
            raise ValueError(f"{len(columns)} columns instead of {len(CORRECTION_HEADER)}")
        name, image_id, face_id, action, value = columns
        if not image_id and not face_id:
            raise ValueError("neither image_id nor face_id is given")
        about = Correction(
            place,
            _name(name) if name else None,
            _id(image_id) if image_id else None,
            _id(face_id) if face_id else None,
        )
        return _with_action(about, action, value)
    except ValueError as error:
        raise DdmError(f"{place}: {error}; mend or remove the line") from None


def _with_action(about: Correction, action: str, value: str) -> Correction:
    if action == "drop" and value:
        raise ValueError("drop takes no value")
    if action == "bbox" and about.face_id is None:
        raise ValueError("a new bbox needs the face_id")
    match action:
        case "drop":
            return dataclasses.replace(about, drop=True)
        case "bbox":
            return dataclasses.replace(about, new_box=_box(value))
        case "name":
            return dataclasses.replace(about, new_name=_name(value))
    raise ValueError(f"unknown action {action!a}{did_you_mean(action, ACTIONS)}")


def _name(text: str) -> str:
    """Return a person's name in NFC, which must do as a folder's name."""
    name = unicodedata.normalize("NFC", text)
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(f"the name {name!a} cannot be a folder's: empty, with a separator or a leading dot")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise ValueError(f"the name {name!a} holds control or undecodable characters")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"the name has more than {MAX_NAME_BYTES} bytes")
    return name


def _id(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,18}", text) is None:
        raise ValueError(f"the id {text[:40]!a} is no whole number")
    return int(text)


def _box(text: str) -> Box:
    try:
        left, top, right, bottom = (float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"bbox {text[:60]!a} is not x1,y1,x2,y2") from None
    if not (0 <= left < right < math.inf and 0 <= top < bottom < math.inf):
        raise ValueError(f"bbox {text[:60]!a} is empty, negative or endless")
    return left, top, right, bottom
