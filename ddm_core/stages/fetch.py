"""Stage fetch: lay the raw photos into one folder, `identity/image`, so that everything after it is tracked.

Beside the photos lies `source.json` (`ddm_core.data.sources.RawSource`): the kind of source and whom to
credit. The ORL photos are the work of AT&T Laboratories Cambridge. The same photos give the same folder, byte
for byte, wherever they came from.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from ddm_core.data.dvc_source import is_dvc, read_dvc
from ddm_core.data.raw import RawPhoto, Region, Rejected
from ddm_core.data.readers import CREDITS, LICENCES, open_source, protocol_files
from ddm_core.data.regions import write_regions, write_rejected
from ddm_core.data.sources import SOURCE_NAME, RawSource, combined_digest, list_photos
from ddm_core.errors import DdmError
from ddm_core.fetch_params import FetchParams
from ddm_core.files import atomic_directory, sha256_file, write_json
from ddm_core.storage import download_tree, is_remote

PROTOCOL = "protocol"


@dataclass(frozen=True)
class FetchResult:
    """How many photos of how many people now lie in the raw folder, and the digest that names them.

    `digest` is the hexadecimal SHA-256 over the photos' relative names and contents
    (`ddm_core.data.sources.tree_digest`): what the parameter fetch.digest expects. `rejected` files are named
    in the raw folder's rejected.jsonl; `excluded` people and photos were left out as params say. `origin` is
    the git commit and DVC's hash of photos that came from a DVC project.
    """

    source: str
    photos: int
    identities: int
    digest: str
    origin: str | None = None
    rejected: int = 0
    excluded_people: int = 0
    excluded_photos: int = 0


def run(params: FetchParams, *, raw: Path) -> FetchResult:
    """Fill the folder `raw` from the source that params name; an earlier `raw` is replaced only at the end.

    One photo at a time is in memory. Beside the photos: source.json, and where there is something to say
    regions.jsonl (where the faces are), rejected.jsonl, and protocol/ with the set's own lists.

    Raises:
        DdmError: the source is missing, is not the one we know, holds no photo or cannot be read; its photos
            are not those of `params.digest`.
    """
    _refuse_bad_place(params, raw)
    excluded: Counter[str] = Counter()
    with atomic_directory(raw) as temporary:
        with _local(params, temporary) as (local, origin):
            rejected = _lay_photos(local, temporary, excluded)
        source = params.source
        _describe(temporary, RawSource(source, CREDITS[source], origin, LICENCES.get(source)))
        _lay_protocol(params, temporary)
        result = dataclasses.replace(
            _measure(params.source, temporary),
            origin=origin,
            rejected=rejected,
            excluded_people=len(excluded),
            excluded_photos=excluded.total(),
        )
        _refuse_other_photos(params, result)
    return result


def _refuse_bad_place(params: FetchParams, raw: Path) -> None:
    uri = params.uri or ""
    if params.source == "orl":
        if uri:
            raise DdmError("fetch: uri is set, but source is orl; set source to folder, or uri to null")
    elif "://" not in uri:
        folders = Path(uri).expanduser().resolve(), raw.resolve()
        outside, inside = sorted(folders, key=lambda path: len(path.parts))
        if inside.is_relative_to(outside):
            raise DdmError(f"{uri}: overlaps the raw folder {raw}; keep the photos' folder outside of it")


@contextmanager
def _local(params: FetchParams, folder: Path) -> Iterator[tuple[FetchParams, str | None]]:
    """Yield params whose photos lie on this machine, and the version of those that DVC keeps."""
    uri = params.uri or ""
    if not is_remote(uri) and not is_dvc(uri):
        yield params, None
        return
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.", suffix=".tmp") as place:
        origin = None
        if is_dvc(uri):
            version = read_dvc(uri, Path(place))
            origin = f"commit {version.commit}, DVC {version.digest}"
        else:
            download_tree(uri, Path(place))
        yield dataclasses.replace(params, uri=place), origin


def _describe(folder: Path, source: RawSource) -> None:
    content = {name: value for name, value in dataclasses.asdict(source).items() if value is not None}
    write_json(folder / SOURCE_NAME, content)


def _lay_photos(params: FetchParams, folder: Path, excluded: Counter[str]) -> int:
    """Write every photo of the source into `folder`; return how many files were rejected."""
    from tqdm import tqdm

    regions: dict[str, Region] = {}
    rejected: list[Rejected] = []
    photos = open_source(params, excluded)
    first = list(islice(photos, 1))  # a source that is not there is told before a bar is drawn
    for photo in tqdm(chain(first, photos), desc="fetch", unit="photo"):
        if isinstance(photo, Rejected):
            rejected.append(photo)
            continue
        _write(photo, folder)
        if photo.region:
            regions[photo.relative] = photo.region
    if regions:
        write_regions(folder, regions)
    if rejected:
        write_rejected(folder, rejected)
    return len(rejected)


def _write(photo: RawPhoto, folder: Path) -> None:
    target = folder / photo.relative
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(photo.content)


def _lay_protocol(params: FetchParams, folder: Path) -> None:
    for name, path in protocol_files(params).items():
        (folder / PROTOCOL).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / PROTOCOL / name)


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
