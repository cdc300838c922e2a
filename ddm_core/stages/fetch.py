"""Stage fetch: lay the raw photos into one folder, `identity/image`, so that everything after it is tracked.

Beside the photos lies `source.json` (`ddm_core.data.sources.RawSource`): the kind of source and whom to
credit. The ORL photos are the work of AT&T Laboratories Cambridge.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from ddm_core.data.sources import ORL_CREDIT, SOURCE_NAME, RawSource, identity_of, list_photos, read_orl
from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, write_json
from ddm_core.params import FetchParams


@dataclass(frozen=True)
class FetchResult:
    """How many photos of how many people now lie in the raw folder."""

    source: str
    photos: int
    identities: int


def run(params: FetchParams, *, raw: Path) -> FetchResult:
    """Fill the folder `raw` from the source that params name; an earlier `raw` is replaced only at the end.

    Raises:
        DdmError: the source is missing, is not the one we know, holds no photo or cannot be read.
    """
    if params.source == "orl":
        return _fetch_orl(raw)
    return _fetch_folder(Path(params.folder or "").expanduser(), raw)


def _fetch_orl(raw: Path) -> FetchResult:
    photos = read_orl()
    with atomic_directory(raw) as temporary:
        for relative, content in photos.items():
            target = temporary / relative
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
        _describe(temporary, RawSource("orl", ORL_CREDIT))
    return FetchResult("orl", len(photos), len({identity_of(relative) for relative in photos}))


def _fetch_folder(folder: Path, raw: Path) -> FetchResult:
    """Copy every photo of `folder` unchanged, whatever it holds: judging files is the next stage's work."""
    from tqdm import tqdm

    inside, outside = sorted(
        (folder.resolve(), raw.resolve()), key=lambda path: len(path.parts), reverse=True
    )
    if inside.is_relative_to(outside):
        raise DdmError(f"{folder}: overlaps the raw folder {raw}; keep the photos' folder outside of it")
    photos = list_photos(folder)
    with atomic_directory(raw) as temporary:
        for photo in tqdm(photos, desc="fetch", unit="photo"):
            target = temporary / photo.relative
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(folder / photo.relative, target)
            except OSError as error:
                raise DdmError(
                    f"{folder / photo.relative}: cannot be copied ({error.strerror}); mend or remove it"
                ) from None
        _describe(temporary, RawSource("folder", "as stated by whoever supplied the folder"))
    return FetchResult("folder", len(photos), len({photo.identity for photo in photos}))


def _describe(folder: Path, source: RawSource) -> None:
    write_json(folder / SOURCE_NAME, dataclasses.asdict(source))
