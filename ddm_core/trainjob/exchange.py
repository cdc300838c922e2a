"""What the task and the nodes of its TrainJob hand each other: folders below one S3 prefix.

A folder is there when its RECORD is: the names of its files, written last.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from ddm_core.errors import DdmError
from ddm_core.files import OUTPUT_MARK, write_json
from ddm_core.storage import delete, download, exists, list_objects, open_stream, upload
from ddm_core.storage.parallel import in_parallel

RECORD = "files.json"


def send_folder(folder: Path, address: str) -> None:
    """Write a folder's files below `address`. Who sends other files than are there removes those first.

    Raises:
        DdmError: as `ddm_core.storage.upload`.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != OUTPUT_MARK)
    names = [path.relative_to(folder).as_posix() for path in files]
    in_parallel(lambda name: upload(folder / name, f"{address}/{name}"), names, "send")
    with tempfile.TemporaryDirectory() as temporary:
        write_json(Path(temporary) / RECORD, names)
        upload(Path(temporary) / RECORD, f"{address}/{RECORD}")


def is_there(address: str) -> bool:
    """Tell whether a whole folder was sent to `address`."""
    return exists(f"{address}/{RECORD}")


def receive_folder(address: str, folder: Path) -> None:
    """Write the files that were sent to `address` into a folder.

    Raises:
        DdmError: none were, or as `ddm_core.storage.download`.
    """
    if not is_there(address):
        raise DdmError(f"{address}: nothing whole is there; another run may have removed it: run again")
    with open_stream(f"{address}/{RECORD}") as stream:
        names = json.loads(stream.read())
    in_parallel(lambda name: download(f"{address}/{name}", folder / name), names, "receive")


def remove_folder(address: str) -> None:
    """Delete everything below `address`."""
    for name, _ in list(list_objects(f"{address}/")):
        delete(f"{address}/{name}")
