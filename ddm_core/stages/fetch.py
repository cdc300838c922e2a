"""Stage fetch: lay the raw photos into one folder, `identity/image`, so that everything after it is tracked.

Beside the photos lies `source.json` (`ddm_core.data.sources.RawSource`): the kind of source and whom to
credit. The ORL photos are the work of AT&T Laboratories Cambridge. The same photos give the same folder, byte
for byte, wherever they came from.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from ddm_core.data.dvc_source import is_dvc, read_dvc
from ddm_core.data.facescrub import people_table
from ddm_core.data.raw import RawPhoto, Region, Rejected
from ddm_core.data.readers import CREDITS, LICENCES, Notes, count_source, open_source, protocol_files
from ddm_core.data.regions import REGIONS_NAME, write_regions, write_rejected
from ddm_core.data.sources import (
    PEOPLE_NAME,
    PROTOCOL_FOLDER,
    SOURCE_NAME,
    RawSource,
    SourceCounts,
    combined_digest,
    list_photos,
    read_source,
)
from ddm_core.errors import DdmError
from ddm_core.fetch_params import PLACES, FetchParams
from ddm_core.files import atomic_directory, sha256_bytes, sha256_file, write_json, write_text
from ddm_core.places import shown_as
from ddm_core.storage import EVERYTHING, RAW, Selection, discard, is_remote, mirrored


@dataclass(frozen=True)
class FetchResult:
    """How many photos of how many people now lie in the raw folder, and the digest that names them.

    `digest` is the hexadecimal SHA-256 over the relative names and contents of the photos and, where there
    is one, of regions.jsonl (`ddm_core.data.sources.tree_digest`): what the parameter fetch.digest expects.
    `source` is the kind of source that the photos came from first: a folder of ours says so. `rejected` files
    are named in the raw folder's rejected.jsonl; `excluded` people and photos were left out as params say.
    `found` is what the source holds (`SourceCounts`), `missing` what FaceScrub lists and nobody has,
    `dropped` what its corrections take out. `origin` is the git commit and DVC's hash of photos that came
    from a DVC project.
    """

    source: str
    photos: int
    identities: int
    digest: str
    origin: str | None = None
    rejected: int = 0
    excluded_people: int = 0
    excluded_photos: int = 0
    found: int | None = None
    missing: int = 0
    dropped: int = 0


def run(params: FetchParams, *, raw: Path) -> FetchResult:
    """Fill the folder `raw` from the source that params name; an earlier `raw` is replaced only at the end.

    One photo at a time is in memory. Beside the photos: source.json, and where there is something to say
    regions.jsonl (where the faces are), rejected.jsonl, facescrub_people.tsv (what there is of each person),
    and protocol/ with the set's own lists. What is downloaded from S3 is kept in `.<raw>.staging` beside
    `raw` until `raw` is there, so that a run that was cut short is gone on with.

    Raises:
        DdmError: the source is missing, is not the one we know, holds no photo or cannot be read; its photos
            are not those of `params.digest`; it changed while it was read.
    """
    _refuse_bad_place(params, raw)
    notes = Notes()
    staging = raw.with_name(f".{raw.name}.staging")
    with atomic_directory(raw) as temporary:
        with _local(params, staging) as (local, origin):
            rejected = _lay_photos(local, temporary, notes)
            found = count_source(local, notes)
            _lay_lists(local, temporary)
            source = _described(local, origin)
        measured = _measure(source.source, temporary)
        counts = _account(params, measured, notes, found, rejected)
        _describe(temporary, dataclasses.replace(source, counts=counts))
        result = dataclasses.replace(
            measured,
            origin=source.origin,
            rejected=rejected,
            excluded_people=len(notes.excluded),
            excluded_photos=notes.excluded.total(),
            found=found,
            missing=counts.missing if counts else 0,
            dropped=counts.dropped if counts else 0,
        )
        _refuse_other_photos(params, result)
    discard(staging)
    return result


def _account(
    params: FetchParams, measured: FetchResult, notes: Notes, found: int | None, rejected: int
) -> SourceCounts | None:
    """Return what became of all that was found.

    Raises:
        DdmError: not everything is accounted for.
    """
    if found is None:
        return None
    cut = params.source == "photo_crops"  # there a file is many photos, and their "person"
    counts = SourceCounts(
        found=found,
        taken=measured.identities if cut else measured.photos,
        rejected=rejected,
        excluded=len(notes.excluded) if cut else notes.excluded.total(),
        excluded_people=len(notes.excluded),
        missing=notes.facescrub.missing if notes.facescrub else 0,
        dropped=notes.facescrub.dropped if notes.facescrub else 0,
    )
    if counts.unaccounted:
        raise DdmError(
            f"{params.uri}: {found} files were found, what became of {found - counts.unaccounted} is known;"
            " the source changed while it was read: fetch again"
        )
    return counts


def _refuse_bad_place(params: FetchParams, raw: Path) -> None:
    uri = params.uri or ""
    if params.source not in PLACES:
        if uri:
            raise DdmError(
                f"fetch: uri is set, but source is {params.source}; set source to folder, or uri to null"
            )
    elif "://" not in uri:
        folders = Path(uri).expanduser().resolve(), raw.resolve()
        outside, inside = sorted(folders, key=lambda path: len(path.parts))
        if inside.is_relative_to(outside):
            raise DdmError(f"{uri}: overlaps the raw folder {raw}; keep the photos' folder outside of it")


@contextmanager
def _local(params: FetchParams, staging: Path) -> Iterator[tuple[FetchParams, str | None]]:
    """Yield params whose files lie on this machine, and the version of photos that DVC keeps."""
    with ExitStack() as stack:

        def bring(uri: str | None, selection: Selection = EVERYTHING) -> tuple[str | None, str | None]:
            return stack.enter_context(_brought(uri, staging, selection)) if uri else (uri, None)

        uri, origin = bring(params.uri, RAW if params.source == "folder" else EVERYTHING)
        local = dataclasses.replace(
            params,
            uri=uri,
            lists=tuple(str(bring(name)[0]) for name in params.lists),
            corrections=bring(params.corrections)[0],
            exclude_people=bring(params.exclude_people)[0],
            verification=bring(params.verification)[0],
        )
        yield local, origin


@contextmanager
def _brought(uri: str, staging: Path, selection: Selection) -> Iterator[tuple[str, str | None]]:
    """Yield the local path of what a path or an address names, and its version if DVC keeps it."""
    if is_dvc(uri):
        # Not in `staging`: DVC begins anew each time.
        staging.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=staging.parent, prefix=f"{staging.name}.", suffix=".tmp"
        ) as folder:
            version = read_dvc(uri, Path(folder))
            with shown_as(version.place, uri):
                yield str(version.place), f"commit {version.commit}, DVC {version.digest}"
    elif is_remote(uri):
        place = staging / sha256_bytes(uri.encode())[:16]
        with mirrored(uri, place, selection=selection) as path, shown_as(path, uri):
            yield str(path), None
    else:
        yield uri, None


def _described(params: FetchParams, origin: str | None) -> RawSource:
    """Return whom to credit: a folder that an earlier fetch laid knows better than we do."""
    known = read_source(_folder(params)) if params.source == "folder" else None
    source = known or RawSource(params.source, CREDITS[params.source], licence=LICENCES.get(params.source))
    return dataclasses.replace(source, origin=origin or source.origin)


def _describe(folder: Path, source: RawSource) -> None:
    content = {name: value for name, value in dataclasses.asdict(source).items() if value is not None}
    write_json(folder / SOURCE_NAME, content)


def _lay_photos(params: FetchParams, folder: Path, notes: Notes) -> int:
    """Write every photo of the source into `folder`; return how many files were rejected."""
    from tqdm import tqdm

    regions: dict[str, Region] = {}
    rejected: list[Rejected] = []
    photos = open_source(params, notes)
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
    if notes.facescrub:
        write_text(folder / PEOPLE_NAME, people_table(notes.facescrub))
    return len(rejected)


def _write(photo: RawPhoto, folder: Path) -> None:
    target = folder / photo.relative
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(photo.content)


def _lay_lists(params: FetchParams, folder: Path) -> None:
    for name, path in protocol_files(params).items():
        (folder / PROTOCOL_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / PROTOCOL_FOLDER / name)
    if params.source == "folder" and (_folder(params) / PEOPLE_NAME).is_file():
        shutil.copyfile(_folder(params) / PEOPLE_NAME, folder / PEOPLE_NAME)


def _folder(params: FetchParams) -> Path:
    return Path(params.uri or "").expanduser()


def _measure(source: str, folder: Path) -> FetchResult:
    """Count and hash what was laid; one photo at a time is in memory, and only in part."""
    from tqdm import tqdm

    photos = list_photos(folder)
    names = [photo.relative for photo in photos]
    names += [REGIONS_NAME] if (folder / REGIONS_NAME).exists() else []
    files = tqdm(names, desc="digest", unit="photo")
    digest = combined_digest((name, sha256_file(folder / name)) for name in files)
    return FetchResult(source, len(photos), len({photo.identity for photo in photos}), digest)


def _refuse_other_photos(params: FetchParams, result: FetchResult) -> None:
    if params.digest not in (None, result.digest):
        raise DdmError(
            f"{params.uri or params.source}: the photos have digest {result.digest}, expected"
            f" {params.digest}; if they are the ones you mean, change fetch.digest to theirs, or to null"
        )
