"""Stage fetch: lay the raw photos into one folder, `identity/image`, so that everything after it is tracked.

Beside the photos lies `source.json` (`ddm_core.data.sources.RawSource`): the kind of source and whom to
credit. The ORL photos are the work of AT&T Laboratories Cambridge. The same photos give the same folder, byte
for byte, wherever they came from.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from ddm_core.data.imaging import open_photo
from ddm_core.data.raw import Rejected
from ddm_core.data.regions import write_rejected
from ddm_core.data.sources import (
    ORL_CREDIT,
    SOURCE_NAME,
    RawSource,
    combined_digest,
    list_files,
    list_photos,
    read_orl,
)
from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, sha256_file, write_json
from ddm_core.params import FetchParams
from ddm_core.storage import download_tree, is_remote


@dataclass(frozen=True)
class FetchResult:
    """How many photos of how many people now lie in the raw folder, and the digest that names them.

    `digest` is the hexadecimal SHA-256 over the photos' relative names and contents
    (`ddm_core.data.sources.tree_digest`): what the parameter fetch.digest expects.
    """

    source: str
    photos: int
    identities: int
    digest: str


def run(params: FetchParams, *, raw: Path) -> FetchResult:
    """Fill the folder `raw` from the source that params name; an earlier `raw` is replaced only at the end.

    Raises:
        DdmError: the source is missing, is not the one we know, holds no photo or cannot be read; its photos
            are not those of `params.digest`.
    """
    _refuse_bad_place(params, raw)
    with atomic_directory(raw) as temporary:
        write_json(temporary / SOURCE_NAME, dataclasses.asdict(_lay_photos(params, temporary)))
        result = _measure(params.source, temporary)
        _refuse_other_photos(params, result)
    return result


def _refuse_bad_place(params: FetchParams, raw: Path) -> None:
    uri = params.uri or ""
    if params.source == "orl":
        if uri:
            raise DdmError("fetch: uri is set, but source is orl; set source to folder, or uri to null")
    elif not is_remote(uri):
        folders = Path(uri).expanduser().resolve(), raw.resolve()
        outside, inside = sorted(folders, key=lambda path: len(path.parts))
        if inside.is_relative_to(outside):
            raise DdmError(f"{uri}: overlaps the raw folder {raw}; keep the photos' folder outside of it")


def _lay_photos(params: FetchParams, temporary: Path) -> RawSource:
    if params.source == "orl":
        _lay_orl(temporary)
        return RawSource("orl", ORL_CREDIT)
    uri = params.uri or ""
    if is_remote(uri):
        download_tree(uri, temporary)
    else:
        _copy_folder(Path(uri).expanduser(), temporary)
    return RawSource("folder", "as stated by whoever supplied the folder")


def _measure(source: str, folder: Path) -> FetchResult:
    """Count and hash what was laid; one photo at a time is in memory, and only in part."""
    from tqdm import tqdm

    photos = list_photos(folder)
    files = tqdm(photos, desc="digest", unit="photo")
    digest = combined_digest((photo.relative, sha256_file(folder / photo.relative)) for photo in files)
    return FetchResult(source, len(photos), len({photo.identity for photo in photos}), digest)


def _refuse_other_photos(params: FetchParams, result: FetchResult) -> None:
    if params.digest not in (None, result.digest):
        raise DdmError(
            f"{params.uri or params.source}: the photos have digest {result.digest}, expected"
            f" {params.digest}; if they are the ones you mean, change fetch.digest to theirs, or to null"
        )


def _lay_orl(temporary: Path) -> None:
    for relative, content in read_orl().items():
        target = temporary / relative
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)


def _copy_folder(folder: Path, temporary: Path) -> None:
    """Copy every photo of `folder` unchanged, whatever it holds: judging files is the next stage's work.

    Files that cannot be read are named in the raw folder's rejected.jsonl.
    """
    from tqdm import tqdm

    listing = list_files(folder)
    rejected = list(listing.rejected)
    for photo in tqdm(listing.photos, desc="fetch", unit="photo"):
        target = temporary / photo.relative
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open_photo(folder / photo.relative) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except DdmError as error:
            rejected.append(Rejected(photo.relative, str(error)))
        except OSError as error:
            raise DdmError(
                f"{folder / photo.relative}: cannot be copied ({error.strerror}); mend or remove it"
            ) from None
    if rejected:
        write_rejected(temporary, rejected)
