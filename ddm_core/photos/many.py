"""Many photos, one process a core: each is written whole or not at all, and one bad photo stops no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddm_core.data.imaging import read_photo
from ddm_core.data.workers import available_cores, orderly_termination, outcomes
from ddm_core.errors import DdmError
from ddm_core.files import write_bytes
from ddm_core.key_ring import KeyRing
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo
from ddm_core.photos.folders import check_target
from ddm_core.photos.header import Box
from ddm_core.photos.model import load_model
from ddm_core.photos.picture import Output

Direction = Literal["encrypt", "decrypt"]
PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True)
class Job:
    """What is done with each photo; `model` is a folder."""

    direction: Direction
    model: Path
    ring: KeyRing = field(repr=False)
    output: Output = field(default_factory=Output)
    regions: tuple[Box, ...] = ()
    faces: bool = False
    keep_metadata: bool = False
    force: bool = False

    def convert(self, content: bytes) -> bytes:
        """Return one photo's result.

        Raises:
            DdmError: the photo, its regions, its key or its model are not right.
        """
        model = load_model(self.model)
        if self.direction == "decrypt":
            return decrypt_photo(content, model, self.ring, self.output)
        regions = self.regions
        if self.faces:
            from ddm_core.photos.faces import face_boxes

            regions += face_boxes(content)
        return encrypt_photo(
            content, model, self.ring, self.output, regions=regions, keep_metadata=self.keep_metadata
        )


@dataclass(frozen=True)
class _Item:
    source: Path
    target: Path
    job: Job


def convert_many(job: Job, targets: Mapping[Path, Path], workers: int | None = None) -> Sequence[str]:
    """Convert every photo into its target; return one line for each that could not be.

    A progress bar is shown at a terminal. Nothing is overwritten without `job.force`.

    Raises:
        DdmError: the model cannot be loaded, or a worker process was killed.
    """
    from tqdm import tqdm

    load_model(job.model)  # what is wrong with it is said once
    items = [_Item(source, target, job) for source, target in targets.items()]
    failures: list[tuple[int, str]] = []
    with orderly_termination(), tqdm(total=len(items), unit="photo", disable=None, file=sys.stderr) as bar:
        for place, failure in outcomes(_convert, items, workers or available_cores()):
            bar.update()
            if failure is not None:
                failures.append((place, failure))
    return [failure for _, failure in sorted(failures)]


def _convert(item: _Item, check: Callable[[], None]) -> str | None:
    check()
    try:
        check_target(item.source, item.target, force=item.job.force)
        content = item.job.convert(read_photo(item.source))
        check_target(item.source, item.target, force=item.job.force)
        write_bytes(item.target, content, PRIVATE if item.job.direction == "decrypt" else PUBLIC)
    except DdmError as error:
        return f"{item.source}: {error}"
    except OSError as error:
        return f"{item.target}: cannot be written ({error.strerror}); mend it and run again"
    return None
