"""Inputs and outputs of a stage that lie on S3: brought here before it runs, published after it.

Stages know local paths alone. `.staging` in the current folder (DDM_STAGING names another) keeps what was
downloaded, so that the next stage need not ask again, and what could not be published. It may be deleted at
any time when nothing runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes
from ddm_core.places import Place, RemotePlace, shown_as
from ddm_core.storage import (
    EVERYTHING,
    RAW,
    Published,
    Selection,
    exists,
    mirrored,
    publish_tree,
    published,
)

SETTING = "DDM_STAGING"
DEFAULT = ".staging"
MANIFESTS = {
    "raw": "source.json",
    "prepared": "manifest.json",
    "model": "obfuscator.json",
    "history": "timing.json",
    "recogniser": "recogniser.json",
    "result": "result.json",
    "report": "metrics.json",
}
"""Of each kind of folder that a stage writes, the file that is published last: it says that all is there."""
ALONE = frozenset({"obfuscator.json", "timing.json", "result.json"})
"""Those of them that a method without weights, or an attack that does not apply, leaves alone."""


@dataclass(frozen=True)
class _Output:
    folder: Path
    place: RemotePlace


@dataclass(frozen=True)
class Staging:
    """The local paths of a stage's places, while it runs."""

    stack: ExitStack
    outputs: list[_Output] = field(default_factory=list)

    def read(self, place: Place, kind: str | None = None) -> Path:
        """Return the path of an input; one on S3 is downloaded first, and checked.

        Of a folder of a kind in MANIFESTS it must be the whole, but raw photos may be anybody's.

        Raises:
            DdmError: as `ddm_core.storage.mirrored`.
        """
        if isinstance(place, Path):
            return place
        folder = _root() / "downloads" / sha256_bytes(place.uri.encode())[:16]
        path = self.stack.enter_context(mirrored(place.uri, folder, selection=_selection(kind)))
        self.stack.enter_context(shown_as(path, place.uri))
        return path

    def read_those_there(self, places: Iterable[Place], kind: str) -> list[Path]:
        """Return the paths of those inputs of a kind in MANIFESTS that are there; raises as `read`."""
        found = []
        for place in places:
            there = place.exists() if isinstance(place, Path) else exists(f"{place}/{MANIFESTS[kind]}")
            found += [self.read(place, kind)] if there else []
        return found

    def write(self, place: Place, kind: str, *, repeatable: bool = False) -> Path:
        """Return the path for a folder of a kind in MANIFESTS that the stage writes; it is published later.

        What is published never changes. So it is an error, told before the work, that something stands there
        already; a `repeatable` stage, which writes the same bytes every time, may find out at the end.

        Raises:
            DdmError: something is published there, no access, no answer.
        """
        if isinstance(place, Path):
            return place
        manifest = MANIFESTS[kind]
        if not repeatable and exists(f"{place}/{manifest}"):
            raise DdmError(f"{place}/{manifest}: a set is published there; name another prefix")
        folder = self.local(place)
        self.outputs.append(_Output(folder, place))
        self.stack.enter_context(shown_as(folder, place.uri))
        return folder

    def local(self, place: Place) -> Path:
        """Return the path where an output would be written before it is published."""
        if isinstance(place, Path):
            return place
        return _root() / "uploads" / place.uri.removeprefix("s3://")


def _selection(kind: str | None) -> Selection:
    if kind is None:
        return EVERYTHING
    return RAW if kind == "raw" else published(MANIFESTS[kind])


@contextmanager
def staged() -> Iterator[Staging]:
    """Yield the staging of one stage; when the block ends well its outputs are published, in their order.

    Outputs that cannot be published stay here, and the message names the commands that try again.

    Raises:
        DdmError: an output cannot be published.
    """
    with ExitStack() as stack:
        staging = Staging(stack)
        yield staging
    _publish(staging.outputs)


def publish(folder: Path, place: RemotePlace) -> Published:
    """Publish a folder that a stage wrote.

    Raises:
        DdmError: no folder of a stage, or as `ddm_core.storage.publish_tree`.
    """
    manifest = next((name for name in MANIFESTS.values() if (folder / name).is_file()), None)
    if manifest is None:
        known = ", ".join(MANIFESTS.values())
        raise DdmError(f"{folder}: no finished folder of a stage; expected one of {known} in it")
    return publish_tree(folder, place.uri, manifest=manifest, alone=manifest in ALONE)


def _publish(outputs: Sequence[_Output]) -> None:
    for number, output in enumerate(outputs):
        try:
            publish(output.folder, output.place)
        except DdmError as error:
            commands = (f"`ddm data publish {rest.folder} {rest.place}`" for rest in outputs[number:])
            raise DdmError(f"{error}; the result is whole here, {' and '.join(commands)} try again") from None
        shutil.rmtree(output.folder)


def _root() -> Path:
    return Path(os.environ.get(SETTING) or DEFAULT)
