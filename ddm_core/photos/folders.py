"""Which photos a command line means, and where each one's result goes."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddm_core.errors import DdmError

STANDARD = "-"
SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".ppm", ".pgm"})


def targets(photos: Sequence[str], out: Path, suffix: str) -> dict[Path, Path]:
    """Return photo -> result for files, folders and patterns; a folder's tree is kept below `out`.

    In a folder, files count whose suffix is one of a photo.

    Raises:
        DdmError: nothing there, or two photos with one result.
    """
    found: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for photo in photos:
        for source, relative in _expand(photo):
            target = out / relative.with_suffix(suffix)
            if source in found:
                continue
            if target in owners:
                raise DdmError(
                    f"{source} and {owners[target]} would both become {target}; give them one after the other"
                    " with different folders, or rename one"
                )
            found[source], owners[target] = target, source
    return found


def check_target(source: Path, target: Path, *, force: bool) -> None:
    """Raise a DdmError if writing `target` would destroy something that --force does not give away."""
    if target.is_dir():
        raise DdmError(f"{target}: is a folder where a photo is to be written; choose another folder")
    if not target.exists():
        return
    if source != Path(STANDARD) and target.samefile(source):
        raise DdmError(f"{target}: would overwrite the photo itself; choose another folder")
    if not force:
        raise DdmError(f"{target}: exists; choose another folder, or overwrite it with --force")


def _expand(photo: str) -> Iterator[tuple[Path, Path]]:
    path = Path(photo)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise DdmError(f"{photo}: no photos in this folder; photos end in {', '.join(sorted(SUFFIXES))}")
        yield from ((file, file.relative_to(path)) for file in files)
    elif path.exists():
        yield path, Path(path.name)
    else:
        matches = sorted(glob.glob(photo, recursive=True))  # noqa: PTH207 - absolute patterns too
        if not matches:
            raise DdmError(f"{photo}: no such photo or folder; mend the name")
        for match in matches:
            yield from _expand(match)
