"""The folder of parts: how files fall into parts, who makes which, and how the folder comes and goes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddm_core.data.parts import FILES_A_PART, Decoding, Task
from ddm_core.data.raw import Region
from ddm_core.data.sources import SourceFile
from ddm_core.errors import DdmError
from ddm_core.files import OUTPUT_MARK, remove_leftovers_below


@dataclass(frozen=True)
class Share:
    """Of `count` shares, number `index` (from 0): the parts whose number leaves that remainder."""

    index: int = 0
    count: int = 1

    def of(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the parts of this share."""
        return list(tasks[self.index :: self.count])


def parse_share(text: str) -> Share:
    """Return the share that `index/count` names, such as `0/4` to `3/4`.

    Raises:
        DdmError: not of that form, or an index that is not below the count.
    """
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if numbers is None or int(numbers[1]) >= int(numbers[2]):
        raise DdmError(f"--shard {text}: expected INDEX/COUNT with an index from 0 to COUNT - 1, such as 0/4")
    return Share(int(numbers[1]), int(numbers[2]))


def plan_parts(
    files: Sequence[SourceFile], regions: Mapping[str, Region], decoding: Decoding, raw: Path, folder: Path
) -> list[Task]:
    """Return the parts that `files` fall into, in order."""
    return [
        Task(
            decoding=decoding,
            raw=raw,
            first=first,
            files=tuple(files[first : first + FILES_A_PART]),
            regions=tuple(regions.get(file.relative) for file in files[first : first + FILES_A_PART]),
            folder=folder / f"{first // FILES_A_PART:06}",
        )
        for first in range(0, len(files), FILES_A_PART)
    ]


def open_parts(folder: Path) -> None:
    """Make the folder of parts where there is none.

    Raises:
        DdmError: a file, or a folder of somebody else's, stands in its place.
    """
    if folder.exists() and not folder.is_dir():
        raise DdmError(f"{folder}: is a file where the parts are to be written; move it away")
    mark = folder / OUTPUT_MARK
    if not mark.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise DdmError(
                f"{folder}: holds files that ddm did not write; move them away or name another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text("Parts of a dataset in the making; ddm prepare removes them when it is done.\n")


def remove_parts(folder: Path) -> None:
    """Remove every part, and the folder if nothing else is in it. A kill in between leaves whole parts."""
    for part in sorted(folder.glob("[0-9]*")):
        leftover = folder / f".{part.name}.removed.tmp"  # named as `remove_leftovers_below` knows them
        part.rename(leftover)
        shutil.rmtree(leftover)
    remove_leftovers_below(folder)
    if [path.name for path in folder.iterdir()] == [OUTPUT_MARK]:
        (folder / OUTPUT_MARK).unlink()
        folder.rmdir()
