"""Stage prepare: raw photos to squares of one size, splits, tar shards and a manifest.

Photos are decoded in parts (`ddm_core.data.parts`), by several processes or machines; then the parts are
merged (`ddm_core.data.merging`). The dataset's bytes depend on the raw folder and the params alone. The
manifest's schema is documented in `ddm_core.data.manifest`, the shards' in `ddm_core.data.tar_shards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ddm_core.data.accounting import count_files
from ddm_core.data.faces import require_detector
from ddm_core.data.merging import merge_parts
from ddm_core.data.parts import Decoding, Task, is_current, make_part
from ddm_core.data.parts_folder import Share, open_parts, plan_parts, remove_parts
from ddm_core.data.photo_table import Counts
from ddm_core.data.regions import read_regions
from ddm_core.data.sources import Listing, is_own, list_files
from ddm_core.data.workers import available_cores, orderly_termination, outcomes
from ddm_core.errors import DdmError
from ddm_core.params import PrepareParams
from ddm_core.places import require_local


@dataclass(frozen=True)
class PrepareResult:
    """The digest that names the dataset, and its counts."""

    dataset_digest: str
    counts: Counts


@dataclass(frozen=True)
class ShareResult:
    """The folder of the parts, how many of them were this share, and how many there are in all."""

    folder: Path
    parts: int
    total: int


@dataclass(frozen=True)
class _Plan:
    """What lies in a raw folder, `found` files in all, and the parts to make of it."""

    params: PrepareParams
    raw: Path
    listing: Listing
    found: int
    folder: Path
    tasks: Sequence[Task]


def run(
    params: PrepareParams,
    *,
    raw: Path,
    prepared: Path,
    parts: Path | None = None,
    workers: int | None = None,
) -> PrepareResult:
    """Make the dataset in the folder `prepared`; an earlier one stays untouched unless this run ends well.

    `workers` processes (the available cores) decode the photos. Finished parts of an earlier run that was cut
    short are found in the folder `parts` (`<prepared>.parts`), which goes when the dataset is done.
    Unreadable files are named on stderr and in the manifest; `max_bad_fraction` bounds their share.

    Raises:
        DdmError: no photos, too many unreadable ones, or too few people or photos for a split; a worker
            process that was killed.
    """
    plan = _plan(params, raw, prepared, parts)
    with orderly_termination():
        _make_parts(plan.tasks, workers)
        return _merge(plan, prepared)


def run_share(
    params: PrepareParams,
    *,
    share: Share,
    raw: Path,
    prepared: Path,
    parts: Path | None = None,
    workers: int | None = None,
) -> ShareResult:
    """Make one share of the parts alone.

    Raises:
        DdmError: no photos; a worker process that was killed.
    """
    plan = _plan(params, raw, prepared, parts)
    tasks = share.of(plan.tasks)
    with orderly_termination():
        _make_parts(tasks, workers)
    return ShareResult(plan.folder, len(tasks), len(plan.tasks))


def merge(
    params: PrepareParams,
    *,
    raw: Path,
    prepared: Path,
    parts: Path | None = None,
    workers: int | None = None,
) -> PrepareResult:
    """Join parts that `run_share` made to the dataset that `run` makes.

    Raises:
        DdmError: as `run`; a part that is missing, or that was made of other files or settings.
    """
    plan = _plan(params, raw, prepared, parts)
    with orderly_termination():
        _require_parts(plan, workers)
        return _merge(plan, prepared)


def _plan(params: PrepareParams, raw: Path, prepared: Path, folder: Path | None) -> _Plan:
    if params.detect_faces:
        require_detector()
    folder = folder or prepared.with_name(f"{prepared.name}.parts")
    for place in (raw, prepared, folder):
        require_local(place)
    listing, found = list_files(raw), count_files(raw, is_own)
    open_parts(folder)
    decoding = Decoding(params.image_size, params.channels, params.square, params.detect_faces)
    tasks = plan_parts(listing.photos, read_regions(raw), decoding, raw, folder)
    return _Plan(params, raw, listing, found, folder, tasks)


def _make_parts(tasks: Sequence[Task], workers: int | None) -> None:
    from tqdm import tqdm

    progress = tqdm(total=sum(len(task.files) for task in tasks), desc="prepare", unit="photo")
    with progress, closing(outcomes(make_part, tasks, _count(workers))) as done:
        for place, _ in done:
            progress.update(len(tasks[place].files))


def _require_parts(plan: _Plan, workers: int | None) -> None:
    with closing(outcomes(is_current, plan.tasks, _count(workers))) as done:
        missing = sorted(place for place, current in done if not current)
    if missing:
        first = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise DdmError(
            f"{plan.folder}: {len(missing)} of {len(plan.tasks)} parts are missing or made of other files or"
            f" params: {first}; run ddm prepare --shard for them, or ddm prepare without --merge"
        )


def _count(workers: int | None) -> int:
    return available_cores() if workers is None else workers


def _merge(plan: _Plan, prepared: Path) -> PrepareResult:
    summary = merge_parts(
        plan.params,
        raw=plan.raw,
        listing=plan.listing,
        found=plan.found,
        tasks=plan.tasks,
        prepared=prepared,
    )
    remove_parts(plan.folder)
    return PrepareResult(summary.dataset_digest, summary.counts)
