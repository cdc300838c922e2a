"""What the task and the nodes of its TrainJob hand each other: folders published below an S3 prefix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddm_core.checkpoints import CONFIGURATION
from ddm_core.data.manifest import MANIFEST_NAME
from ddm_core.processes import SECTION
from ddm_core.results import TIMING
from ddm_core.storage import delete, exists, list_objects, mirrored, publish_tree, published

PHOTOS, SETTINGS, MODEL, HISTORY = "prepared", "settings", "model", "history"
MANIFESTS = {PHOTOS: MANIFEST_NAME, SETTINGS: SECTION, MODEL: CONFIGURATION, HISTORY: TIMING}
"""Of each kind of folder the file that is sent last: it says that all is there."""


def send(kind: str, folder: Path, address: str) -> None:
    """Publish a folder; raises as `ddm_core.storage.publish_tree`."""
    publish_tree(folder, address, manifest=MANIFESTS[kind], alone=kind == SETTINGS)


def is_there(kind: str, address: str) -> bool:
    """Tell whether a whole folder was sent to `address`."""
    return exists(f"{address}/{MANIFESTS[kind]}")


@contextmanager
def received(kind: str, address: str, place: Path) -> Iterator[Path]:
    """Yield the folder that was sent to `address`, downloaded to below `place`.

    Raises:
        DdmError: none was, or as `ddm_core.storage.mirrored`.
    """
    missing = "nothing whole is there; another run may have removed it: run again"
    selection = dataclasses.replace(published(MANIFESTS[kind]), missing=missing)
    with mirrored(address, place, selection=selection) as folder:
        yield folder


def remove(address: str) -> None:
    """Delete everything below `address`."""
    for name, _ in list(list_objects(f"{address}/")):
        delete(f"{address}/{name}")
