"""One door to every source of photos: its reader, the count of what it holds, its credit and its lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from ddm_core.data import casia_webface, facescrub, lfw, lfw_bin, photo_crops, scikit_image
from ddm_core.data.accounting import count_files
from ddm_core.data.facescrub_lists import count_lines
from ddm_core.data.imaging import open_photo
from ddm_core.data.lfw_protocol import LISTS, read_people
from ddm_core.data.names import without_people
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.data.regions import read_regions, read_rejected
from ddm_core.data.sources import (
    LFW_BIN_NAME,
    ORL_CREDIT,
    PROTOCOL_FOLDER,
    is_own,
    list_files,
    read_orl,
    why_no_photo,
)
from ddm_core.errors import DdmError
from ddm_core.fetch_params import FetchParams

Photos: TypeAlias = Iterator[RawPhoto | Rejected]

CREDITS = {
    "orl": ORL_CREDIT,
    "folder": "as stated by whoever supplied the folder",
    "photo_crops": "as stated by whoever supplied the photos",
    "scikit_image": scikit_image.CREDIT,
    "lfw": "Huang, Ramesh, Berg, Learned-Miller, Labeled Faces in the Wild (2007)",
    "facescrub": "Ng, Winkler, A data-driven approach to cleaning large face datasets (FaceScrub, 2014)",
    "casia_webface": "Yi, Lei, Liao, Li, Learning face representation from scratch (CASIA-WebFace, 2014)",
}
LICENCES = {
    "orl": "it came with no licence text; AT&T Laboratories Cambridge ask for credit",
    "scikit_image": scikit_image.LICENCE,
}
"""Of the sources whose terms are known; of others only whoever publishes or supplies them can say."""


@dataclass
class Notes:
    """What a reader notes as photos pass: `excluded`, person -> photos; FaceScrub's summary at the end."""

    excluded: Counter[str] = field(default_factory=Counter)
    facescrub: facescrub.Summary | None = None


def open_source(params: FetchParams, notes: Notes) -> Photos:
    """Yield every photo of the source, one at a time.

    Raises:
        DdmError: the source is not there, or not what params say.
    """
    photos = _open(params, notes)
    if params.exclude_people is None:
        return photos
    people = read_people(Path(params.exclude_people).expanduser())
    names = (person.name for fold in people for person in fold)
    if params.source != "casia_webface":
        return without_people(photos, names, notes.excluded)
    listed = casia_webface.read_names(_paths(params.lists))
    return without_people(photos, names, notes.excluded, partial(casia_webface.name_of, listed))


def count_source(params: FetchParams, notes: Notes) -> int | None:
    """Return how much the source holds, in the units of `sources.SourceCounts`, once its photos have passed.

    It is counted apart from the reader. `None`: the photos come in an installed package.

    Raises:
        DdmError: the source cannot be read any more.
    """
    place = _place(params)
    match params.source:
        case "folder" | "photo_crops":
            return count_files(place, is_own) + len(read_rejected(place))
        case "lfw":
            return count_files(place, lfw.is_list)
        case "casia_webface":
            records = casia_webface.count_records(place)
            is_list = partial(casia_webface.is_list, _list_names(params))
            return count_files(place, is_list) if records is None else records
        case "facescrub":
            assert notes.facescrub is not None
            return count_lines(_paths(params.lists)) + notes.facescrub.unlisted + notes.facescrub.others
        case _:
            return None


def protocol_files(params: FetchParams) -> dict[str, Path]:
    """Return by their names LFW's lists and the lfw.bin to verify with, after a look at their content.

    A raw folder that is fetched again keeps those that it has.

    Raises:
        DdmError: a name that is none of the protocol's, or a file that is not in its format.
    """
    found: dict[str, Path] = {}
    if params.source == "folder":
        inside = sorted((_place(params) / PROTOCOL_FOLDER).glob("*"))
        found = {path.name.lower(): path for path in inside if is_own(f"{PROTOCOL_FOLDER}/{path.name}")}
    if params.source == "lfw":
        found = {path.name.lower(): path for path in _paths(params.lists)}
    if params.verification:
        found[LFW_BIN_NAME] = Path(params.verification).expanduser()
    for name, path in found.items():
        read = lfw_bin.read_pairs if name == LFW_BIN_NAME else LISTS.get(name)
        if read is None:
            raise DdmError(f"{path}: is no protocol file of LFW; known: {', '.join(sorted(LISTS))}")
        read(path)
    return found


def _place(params: FetchParams) -> Path:
    return Path(params.uri or "").expanduser()


def _paths(names: Iterable[str]) -> list[Path]:
    return [Path(name).expanduser() for name in names]


def _list_names(params: FetchParams) -> set[str]:
    named = (*params.lists, *((params.exclude_people,) if params.exclude_people else ()))
    return {path.name for path in _paths(named)}


def _open(params: FetchParams, notes: Notes) -> Photos:
    place = _place(params)
    readers: dict[str, Callable[[], Photos]] = {
        "orl": lambda: (RawPhoto(relative, content) for relative, content in read_orl().items()),
        "lfw": lambda: _lfw(params, place),
        "facescrub": lambda: _facescrub(params, place, notes),
        "casia_webface": lambda: casia_webface.read(place, lists=_list_names(params)),
        "photo_crops": lambda: photo_crops.read(place),
        "scikit_image": scikit_image.read,
        "folder": lambda: read_folder(place),
    }
    return readers[params.source]()


def _lfw(params: FetchParams, place: Path) -> Photos:
    if place.suffix.lower() == ".bin":
        raise DdmError(f"{place}: {why_no_photo(LFW_BIN_NAME)} of a set to train on")
    return lfw.read(place, people=protocol_files(params).get("people.txt"))


def _facescrub(params: FetchParams, place: Path, notes: Notes) -> Photos:
    def note(summary: facescrub.Summary) -> None:
        notes.facescrub = summary
        print(facescrub.describe(summary))

    return facescrub.read(
        place,
        lists=_paths(params.lists),
        corrections=Path(params.corrections).expanduser() if params.corrections else None,
        margin=params.margin,
        summarise=note,
    )


def read_folder(folder: Path) -> Photos:
    """Yield every photo of a folder `identity/image`, unchanged; judging their content is prepare's work.

    Raises:
        DdmError: no such folder, or no photo in it.
    """
    listing, regions = list_files(folder), read_regions(folder)
    yield from read_rejected(folder)  # a raw folder of ours says so itself
    yield from listing.rejected
    yield from listing.others
    for photo in listing.photos:
        try:
            with open_photo(folder / photo.relative) as file:
                content = file.read()
        except DdmError as error:
            yield Rejected(photo.relative, str(error))
        except OSError as error:
            raise DdmError(
                f"{folder / photo.relative}: cannot be copied ({error.strerror}); mend or remove it"
            ) from None
        else:
            yield RawPhoto(photo.relative, content, regions.get(photo.relative))
