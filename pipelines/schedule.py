"""Cron expressions of people, five fields, as Kubeflow Pipelines wants them: six, the first is the second."""

from __future__ import annotations

import re

from ddm_core.errors import DdmError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)


def to_kfp_cron(cron: str) -> str:
    """Return a cron expression with seconds: `30 4 * * 1` (Mondays at 4:30) becomes `0 30 4 * * 1`.

    Six fields stay as they are. A field has `*`, numbers, names of months or days, `1-5`, `*/10`, and lists.

    Raises:
        DdmError: not five or six fields, or a field is malformed or out of range; says which.
    """
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise DdmError(
            f"--recurring '{cron}': has {len(fields)} fields; expected MINUTE HOUR DAY MONTH WEEKDAY, such "
            "as '30 4 * * 1' for Mondays at 4:30"
        )
    fields = ["0"] * (6 - len(fields)) + fields
    for field, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part.upper(), least, most, names):
                known = f" or {names[0]}-{names[-1]}" if names else ""
                raise DdmError(f"--recurring '{cron}': {name} '{field}' is not within {least}-{most}{known}")
    return " ".join(fields)


def _fits(part: str, least: int, most: int, names: tuple[str, ...]) -> bool:
    match = re.fullmatch(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
    if match is None or (match[3] is not None and int(match[3]) == 0):
        return False
    bounds = [_number(word, least, names) for word in (match[1], match[2]) if word is not None]
    return all(least <= bound <= most for bound in bounds) and bounds == sorted(bounds)


def _number(word: str, least: int, names: tuple[str, ...]) -> int:
    """Return the number that a word stands for, -1 for none."""
    if word in names:
        return least + names.index(word)
    return int(word) if word.isascii() and word.isdigit() else -1
