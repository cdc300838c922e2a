"""Whether the attackers are strong enough for their failures to mean anything.

After Hao, Liu, Wu and Lin 2019, who found that blur with a kernel of 35 leaves the weakest attacker under 1 %
and the strongest about 80 %: an attacker that cannot recognise clean photos, or cannot see through blur and
mosaic where one trained on clean photos fails, says nothing of any other method.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ddm_core.results import AttackResult

MIN_CLEAN_TOP1 = 0.9
MIN_COLLAPSE_TOP1 = 0.5
LIMITS = {
    ("none", "clean"): MIN_CLEAN_TOP1,
    ("none", "retrained"): MIN_CLEAN_TOP1,
    ("blur", "retrained"): MIN_COLLAPSE_TOP1,
    ("mosaic", "retrained"): MIN_COLLAPSE_TOP1,
}
"""The method and the attacker, and the top-1 that this attacker must reach there."""


@dataclass(frozen=True)
class Cell:
    """One measured cell: the seed, the obfuscator's method, and the result."""

    seed: int
    method: str
    result: AttackResult


@dataclass(frozen=True)
class SanityCheck:
    """One thing that an attacker had to reach: `measured` top-1 and its `limit`, fractions."""

    attacker: str
    obfuscator: str
    seed: int
    measured: float
    limit: float
    passed: bool


def check_attackers(cells: Iterable[Cell]) -> list[SanityCheck]:
    """Check the attackers of every seed; cells that say nothing of this are passed over.

    On clean photos (method none) the recogniser and the retrained attacker must reach 90 %. On every blur and
    mosaic the retrained attacker must reach 50 %, however deep the one that knows only clean photos falls.
    """
    checks = []
    for cell in cells:
        result, limit = cell.result, LIMITS.get((cell.method, cell.result.attacker))
        if limit is not None and result.applicable and result.top1 is not None:
            passed = result.top1 >= limit
            checks.append(
                SanityCheck(result.attacker, result.obfuscator, cell.seed, result.top1, limit, passed)
            )
    return checks
