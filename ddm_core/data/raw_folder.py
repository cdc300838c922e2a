"""What a raw folder holds beside its photos: source.json, regions.jsonl, rejected.jsonl and protocol/."""

from __future__ import annotations

import re
from pathlib import Path

from ddm_core.data.regions import REGIONS_NAME, REJECTED_NAME
from ddm_core.data.sources import SOURCE_NAME, RawSource, photo_of
from ddm_core.files import read_json
from ddm_core.strict import parse

PROTOCOL = "protocol"
SIDE_FILES = (SOURCE_NAME, REGIONS_NAME, REJECTED_NAME)


def belongs_to_raw(relative: str) -> bool:
    """Tell whether a file of this path is a photo of a raw folder or lies beside its photos.

    Raises:
        DdmError: a photo whose name holds no identity or is not valid text.
    """
    beside = relative in SIDE_FILES or re.fullmatch(rf"{PROTOCOL}/[^/]+\.txt", relative) is not None
    return beside or photo_of(relative) is not None


def read_source(raw: Path) -> RawSource | None:
    """Return what a raw folder says of itself; `None` of a folder that `ddm fetch` has not laid.

    Raises:
        DdmError: a source.json that is not as `ddm fetch` writes it.
    """
    path = raw / SOURCE_NAME
    return parse(read_json(path), RawSource, str(path)) if path.exists() else None
