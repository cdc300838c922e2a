"""Labeled Faces in the Wild: its photos, from a folder or an archive.

Huang, Ramesh, Berg, Learned-Miller (2007): 13,233 photos of 5,749 people, 250 x 250 pixels, as
`Person_Name/Person_Name_0001.jpg`; raw, funneled and deep-funneled sets have the same layout.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ddm_core.data.archives import UnfitError, photos
from ddm_core.data.lfw_protocol import LISTS, read_people
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.data.sources import has_photo_suffix, why_no_photo
from ddm_core.errors import DdmError

OUTER_FOLDERS = frozenset({"lfw", "lfw_funneled", "lfw-funneled", "lfw_deepfunneled", "lfw-deepfunneled"})
OTHER_LISTS = re.compile(r"lfw-names\.txt|pairs_[0-9]{2}\.txt")
LAYOUT = "Person_Name/Person_Name_0001.jpg"
MAX_PHOTO_BYTES = 16 * 2**20  # a thousand times a usual photo of the set


def read(uri: Path, *, people: Path | None = None) -> Iterator[RawPhoto | Rejected]:
    """Yield the photos of a folder or an archive, in the order and by the rules of `archives.entries`.

    An outer folder (OUTER_FOLDERS) may be there or not. Hidden files and the set's own lists (`is_list`) are
    passed over.
    `people` is the set's people.txt: after the last photo, everybody's number of photos is compared with it.

    Raises:
        DdmError: no such file, another format, a damaged archive, no photo in it, not the people listed.
    """
    listed = None if people is None else {p.name: p.photos for fold in read_people(people) for p in fold}
    found: Counter[str] = Counter()
    expected = f"LFW in it; expected files {LAYOUT}"
    for photo in photos(uri, _relative, expected=expected, max_bytes=MAX_PHOTO_BYTES):
        if isinstance(photo, RawPhoto):
            found[photo.relative.partition("/")[0]] += 1
        yield photo
    if listed is not None:
        _compare(found, listed, f"{uri}: not as {people}")


def _compare(found: Counter[str], listed: dict[str, int], what: str) -> None:
    others = sorted(name for name in found.keys() | listed.keys() if found[name] != listed.get(name, 0))
    if others:
        shown = ", ".join(f"{name} has {found[name]} of {listed.get(name, 0)} photos" for name in others[:3])
        more = f" and {len(others) - 3} more people" if len(others) > 3 else ""
        raise DdmError(f"{what} lists: {shown}{more}; take set and list from one place, unchanged")


def is_list(name: str) -> bool:
    """Tell whether a file of the set, by its relative path, is one of its lists: people.txt, pairs.txt, …"""
    parts = _inner_parts(name)
    return len(parts) == 1 and (parts[0].lower() in LISTS or OTHER_LISTS.fullmatch(parts[0]) is not None)


def _inner_parts(name: str) -> list[str]:
    parts = list(PurePosixPath(unicodedata.normalize("NFC", name)).parts)
    while parts and parts[0] in OUTER_FOLDERS:
        parts.pop(0)
    return parts


def _relative(name: str) -> str | None:
    """Return `person/file` of a photo, `None` for one of the set's lists."""
    if is_list(name):
        return None
    parts = _inner_parts(name)
    if not has_photo_suffix(name):
        raise UnfitError(why_no_photo(name))
    if len(parts) != 2:
        raise UnfitError(f"expected {LAYOUT}; move it")
    _refuse_misnamed(*parts)
    return "/".join(parts)


def _refuse_misnamed(person: str, photo: str) -> None:
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in person + photo):
        raise UnfitError("its name holds control or undecodable characters; rename it")
    if len(photo.encode()) > 255:
        raise UnfitError("its name is longer than 255 bytes; rename it")
    named = re.fullmatch(r"(.+)_([0-9]{4})\.jpg", photo)
    if named is None or named[2] == "0000":
        raise UnfitError("its name must be the person's, four digits from 0001, and .jpg; rename it")
    if named[1] != person:
        raise UnfitError(f"named after {named[1]}, in the folder of {person}; move it")
