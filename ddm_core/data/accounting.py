"""How many files a source holds: counted apart from its reader, which so cannot lose one unseen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ddm_core.data.archives import Entry, entries
from ddm_core.data.sources import has_photo_suffix, is_hidden
from ddm_core.errors import DdmError


def count_files(source: Path, is_list: Callable[[str], bool]) -> int:
    """Return how many files lie in a folder or an archive.

    Counted are files, links, pipes, sockets and devices, folders that cannot be listed, and empty folders
    with a photo's name. Not counted are hidden ones (a name on the way begins with a dot), lists that
    `is_list` knows by their relative path, and links to folders in the source, which are read in place.

    Raises:
        DdmError: no such source, one that cannot be read, or a damaged archive.
    """
    if source.is_dir():
        return _count_folder(source, is_list)
    names = (entry.name if isinstance(entry, Entry) else entry.relative for entry in entries(source))
    return sum(not is_hidden(name) and not is_list(name) for name in names)


def _count_folder(root: Path, is_list: Callable[[str], bool]) -> int:
    """Go through the folder as `sources.list_files` does, but not by its code: what that loses shows here."""
    real_root = os.path.realpath(root)
    found, pending = 0, [""]  # not recursive: folders may nest deeper than Python's stack
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(f"{root}/{folder}") as listing:
                items = [item for item in listing if not item.name.startswith(".")]
        except OSError as error:
            if not folder:
                raise DdmError(f"{root}: cannot be listed ({error.strerror}); mend its permissions") from None
            found += 1
            continue
        found += not items and has_photo_suffix(folder[:-1])
        for item in items:
            if item.is_dir(follow_symlinks=False):
                pending.append(f"{folder}{item.name}/")
            elif not _leads_to_folder_within(item, real_root):
                found += not is_list(folder + item.name)
    return found


def _leads_to_folder_within(item: os.DirEntry[str], real_root: str) -> bool:
    if not item.is_symlink() or not os.path.isdir(item.path):  # noqa: PTH112 - where Path.is_dir may raise
        return False
    target = f"{os.path.realpath(item.path)}/"
    return target.startswith(f"{real_root}/") and "/." not in target.removeprefix(real_root)
