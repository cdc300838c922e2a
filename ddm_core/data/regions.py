"""What lies beside the photos of a raw folder: where the faces are, and which files were rejected and why.

`regions.jsonl` has one JSON object a line with the fields of `ddm_core.data.raw.Region`, sorted by `path`:
`{"path": "Anna Lee/1.jpg", "box": [10.0, 20.0, 110.0, 140.0], "landmarks": null}`. `rejected.jsonl` has
`{"path": "Anna Lee/2.jpg", "reason": "sha256 differs from the list's; fetch it again"}`.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ddm_core.data.raw import Box, Point, Region, Rejected
from ddm_core.errors import DdmError
from ddm_core.files import write_text

REGIONS_NAME = "regions.jsonl"
REJECTED_NAME = "rejected.jsonl"


def write_regions(raw: Path, regions: Mapping[str, Region]) -> None:
    """Write the regions of the photos, which are named by their relative paths, into the folder `raw`."""
    lines = (
        {"path": path, "box": regions[path].box, "landmarks": regions[path].landmarks}
        for path in sorted(regions)
    )
    _write_lines(raw / REGIONS_NAME, lines)


def read_regions(raw: Path) -> dict[str, Region]:
    """Return relative path -> region of the folder `raw`; nothing where it has no such file.

    Raises:
        DdmError: a line that is not as written, a box without area, other than five landmarks, a path that
            leads out of the folder or occurs twice.
    """
    file = raw / REGIONS_NAME
    regions: dict[str, Region] = {}
    for where, line in _read_lines(file, {"path", "box", "landmarks"}):
        path = _read_path(line["path"], where)
        if path in regions:
            raise DdmError(f"{where}: {path} occurs twice; keep one of the two lines")
        regions[path] = Region(_read_box(line["box"], where), _read_landmarks(line["landmarks"], where))
    return regions


def write_rejected(raw: Path, rejected: Iterable[Rejected]) -> None:
    """Write the rejected files, sorted, into the folder `raw`."""
    files = sorted(rejected, key=lambda file: (file.relative, file.reason))
    _write_lines(raw / REJECTED_NAME, ({"path": file.relative, "reason": file.reason} for file in files))


def read_rejected(raw: Path) -> tuple[Rejected, ...]:
    """Return the rejected files of the folder `raw`; none where it has no such file.

    Raises:
        DdmError: a line that is not as written.
    """
    return tuple(
        Rejected(_read_text(line["path"], where), _read_text(line["reason"], where))
        for where, line in _read_lines(raw / REJECTED_NAME, {"path", "reason"})
    )


def printable(text: str) -> str:
    """Return `text` with control characters, line separators and undecodable bytes as escapes."""
    return "".join(
        ascii(character)[1:-1] if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in text
    )


def _write_lines(file: Path, lines: Iterable[dict[str, Any]]) -> None:
    write_text(file, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))


def _read_lines(file: Path, fields: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each line is and what it holds."""
    if not file.exists():
        return
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{file}:{number}"
                content = json.loads(line)
                if not isinstance(content, dict) or content.keys() != fields:
                    raise DdmError(f"{where}: expected an object of {', '.join(sorted(fields))}; fetch again")
                yield where, content
    except (ValueError, RecursionError, OSError) as error:  # ValueError: neither JSON nor UTF-8
        raise DdmError(f"{file}: not JSON lines ({printable(str(error))}); fetch again") from None


def _read_path(value: Any, where: str) -> str:  # noqa: ANN401 - any JSON value
    path = _read_text(value, where)
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise DdmError(f"{where}: {path!r} is no path below the folder; fetch again")
    return path


def _read_text(value: Any, where: str) -> str:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str) or not value or printable(value) != value:
        raise DdmError(f"{where}: {value!a} is not one line of text; fetch again")
    return value


def _read_box(value: Any, where: str) -> Box | None:  # noqa: ANN401 - any JSON value
    if value is None:
        return None
    left, top, right, bottom = _read_numbers(value, 4, f"{where}: box")
    if left >= right or top >= bottom:
        raise DdmError(f"{where}: the box {value} has no area; expected left, top, right, bottom")
    return left, top, right, bottom


def _read_landmarks(value: Any, where: str) -> tuple[Point, ...] | None:  # noqa: ANN401 - any JSON value
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 5:
        raise DdmError(f"{where}: expected five landmarks: eyes, nose, corners of the mouth")
    return tuple((x, y) for x, y in (_read_numbers(point, 2, f"{where}: landmarks") for point in value))


def _read_numbers(value: Any, count: int, where: str) -> tuple[float, ...]:  # noqa: ANN401 - any JSON value
    numbers = value if isinstance(value, list) else []
    if len(numbers) != count or not all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        for number in numbers
    ):
        raise DdmError(f"{where}: {value!r} is not a list of {count} finite numbers; mend or remove the line")
    return tuple(float(number) for number in numbers)
