"""One door to every source of photos: the reader that params name, its credit, and its protocol files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from ddm_core.data import casia_webface, facescrub, lfw, lfw_bin, photo_crops, scikit_image
from ddm_core.data.imaging import open_photo
from ddm_core.data.lfw_protocol import (
    read_development_pairs,
    read_development_people,
    read_pairs,
    read_people,
)
from ddm_core.data.names import without_people
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.data.regions import read_regions, read_rejected
from ddm_core.data.sources import ORL_CREDIT, list_files, read_orl
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
PROTOCOL_FILES = {
    "people.txt": read_people,
    "pairs.txt": read_pairs,
    "peopledevtrain.txt": read_development_people,
    "peopledevtest.txt": read_development_people,
    "pairsdevtrain.txt": read_development_pairs,
    "pairsdevtest.txt": read_development_pairs,
}


def open_source(params: FetchParams, excluded: Counter[str]) -> Photos:
    """Yield every photo of the source, one at a time; `excluded` counts those left out, person by person.

    Raises:
        DdmError: the source is not there, or not what params say.
    """
    photos = _open(params)
    if params.exclude_people is None:
        return photos
    people = read_people(Path(params.exclude_people).expanduser())
    return without_people(photos, (person.name for fold in people for person in fold), excluded)


def protocol_files(params: FetchParams) -> dict[str, Path]:
    """Return the protocol files of LFW by their names, after a look at their content.

    Raises:
        DdmError: a name that is none of the protocol's, or a file that is not in its format.
    """
    if params.source != "lfw":
        return {}
    found = {}
    for path in (Path(name).expanduser() for name in params.lists):
        read = PROTOCOL_FILES.get(path.name.lower())
        if read is None:
            raise DdmError(f"{path}: is no protocol file of LFW; known: {', '.join(sorted(PROTOCOL_FILES))}")
        read(path)
        found[path.name] = path
    return found


def _open(params: FetchParams) -> Photos:
    place = Path(params.uri or "").expanduser()
    readers: dict[str, Callable[[], Photos]] = {
        "orl": lambda: (RawPhoto(relative, content) for relative, content in read_orl().items()),
        "lfw": lambda: _lfw(params, place),
        "facescrub": lambda: _facescrub(params, place),
        "casia_webface": lambda: casia_webface.read(place),
        "photo_crops": lambda: photo_crops.read(place),
        "scikit_image": scikit_image.read,
        "folder": lambda: read_folder(place),
    }
    return readers[params.source]()


def _lfw(params: FetchParams, place: Path) -> Photos:
    people = [path for name, path in protocol_files(params).items() if name.lower() == "people.txt"]
    is_pickle = place.suffix == ".bin"
    return lfw_bin.read(place) if is_pickle else lfw.read(place, people=people[0] if people else None)


def _facescrub(params: FetchParams, place: Path) -> Photos:
    return facescrub.read(
        place,
        lists=[Path(name).expanduser() for name in params.lists],
        corrections=Path(params.corrections).expanduser() if params.corrections else None,
        margin=params.margin,
        summarise=lambda summary: print(facescrub.describe(summary)),
    )


def read_folder(folder: Path) -> Photos:
    """Yield every photo of a folder `identity/image`, unchanged; judging their content is prepare's work.

    Raises:
        DdmError: no such folder, or no photo in it.
    """
    listing, regions = list_files(folder), read_regions(folder)
    yield from read_rejected(folder)  # a raw folder of ours says so itself
    yield from listing.rejected
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
