"""What a dataset's reader yields: photo files as they are, and where in them the face is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the file as it is stored, before any EXIF rotation."""
Point: TypeAlias = tuple[float, float]
"""x, y in the same pixels."""


@dataclass(frozen=True)
class Region:
    """Where the face is. `landmarks`: left eye, right eye, nose, left and right corner of the mouth."""

    box: Box | None = None
    landmarks: tuple[Point, ...] | None = None


@dataclass(frozen=True)
class RawPhoto:
    """One photo file: `relative` is `identity/image.ext`, `content` its own bytes, unchanged."""

    relative: str
    content: bytes
    region: Region | None = None


@dataclass(frozen=True)
class Rejected:
    """A file or record that is no photo of the set, and in one line why and how to mend it."""

    relative: str
    reason: str
