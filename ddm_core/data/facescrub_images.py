"""Where the image of a FaceScrub face lies in a folder, whichever way its files are named.

A face's image is looked for under these names, in this order; letter case does not count, nor whether words
are set apart by spaces or underscores:

1. `<sha256>.ext`, anywhere (what `ddm data fetch facescrub` writes);
2. `Name_<image_id>_<face_id>.ext`, anywhere;
3. `Name_<image_id>.ext`, anywhere;
4. `<image_id>_<face_id>.ext` in the person's folder;
5. `<image_id>.ext` in the person's folder;
6. `<SHA-1 of the address>.ext` in the person's folder;
7. `Name_<face_id>.ext`, anywhere (the MegaFace challenge's).

The person's folder is the nearest one above the file that is not called `images`, `faces`, `actors` or alike,
so `actors/images/Name/1.jpg` and `Name/images/1.jpg` both count. Files below `face` or `faces` are mostly
crops: they come last. Of all that are found the first with the list's SHA-256 is taken; no other file is that
image, and the box fits no other. A name of the seventh kind with another SHA-256 tells nothing: face 7 of a
person and image 7 of that person are mostly two things.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ddm_core.data.facescrub_lists import Face
from ddm_core.data.sources import IMAGE_SUFFIXES
from ddm_core.errors import DdmError

CROP_FOLDERS = frozenset({"face", "faces"})
COMMON_FOLDERS = CROP_FOLDERS | {"image", "images", "actor", "actors", "actress", "actresses"}
# Formats among the listed images that no later stage reads, and files saved without a suffix.
OTHER_SUFFIXES = frozenset({"", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Candidate:
    """A file that may be a face's image; without `sure`, its name fits another face's image as well."""

    path: Path
    sure: bool


@dataclass
class ImageIndex:
    """The images of a folder by name: all `files`, those that `found` some face, and what is no image.

    It holds file names only, so memory does not grow with the images.
    """

    root: Path
    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    files: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    found: set[str] = field(default_factory=set)

    def of(self, face: Face) -> list[Candidate]:
        """Return the files that may be a face's image, the likeliest first."""
        names = _names(face)
        sure = dict.fromkeys((place for name in names[:-1] for place in self.places.get(name, ())), True)
        unsure = dict.fromkeys(self.places.get(names[-1], ()), False)
        likely = sorted((unsure | sure).items(), key=lambda item: (not item[1], _is_crop(item[0])))
        found = [(place, is_sure) for place, is_sure in likely if (self.root / place).is_file()]
        self.found.update(place for place, _ in found)
        return [Candidate(self.root / place, is_sure) for place, is_sure in found]


def _names(face: Face) -> tuple[str, ...]:
    """Return the names of the docstring's table, in its order, as `index_images` spells them."""
    person = _plain(face.name)
    address = hashlib.sha1(face.url.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
    return (
        face.sha256,
        f"{person}_{face.image_id}_{face.face_id}",
        f"{person}_{face.image_id}",
        f"{person}/{face.image_id}_{face.face_id}",
        f"{person}/{face.image_id}",
        f"{person}/{address}",
        f"{person}_{face.face_id}",
    )


def index_images(root: Path, lists: Collection[str] = ()) -> ImageIndex:
    """Read the names of all files below `root` but hidden ones and those called as one of `lists`.

    Raises:
        DdmError: no such folder, or one that cannot be read.
    """
    if not root.is_dir():
        raise DdmError(f"{root}: no such folder; give the one that holds FaceScrub's images")
    images = ImageIndex(root)
    for relative in sorted(_walk(root)):
        path = PurePosixPath(relative)
        if path.name in lists:
            continue
        if path.suffix.lower() not in IMAGE_SUFFIXES | OTHER_SUFFIXES:
            images.others.append(relative)
            continue
        stem = _plain(path.stem)
        person = next((name for name in map(_plain, path.parts[-2::-1]) if name not in COMMON_FOLDERS), "")
        images.files.append(relative)
        images.places[stem].append(relative)
        images.places[f"{person}/{stem}"].append(relative)
    return images


def _walk(root: Path) -> Iterator[str]:
    """Yield the files below `root`; links are followed, a folder reached twice is read once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for name in names:
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()


def _refuse(error: OSError) -> None:
    raise DdmError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions") from None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace(" ", "_").casefold()


def _is_crop(relative: str) -> bool:
    return not CROP_FOLDERS.isdisjoint(_plain(part) for part in PurePosixPath(relative).parts[:-1])
