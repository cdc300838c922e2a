"""Whether the attackers are strong enough for their failures to mean anything.

After Hao, Liu, Wu and Lin 2019, who found that blur with a kernel of 35 leaves the weakest attacker under 1 %
and the strongest about 80 %. The sanity gate asks for the same collapse here, on blur and on mosaic, under
every seed. Beside it every attacker has a level of its own, on clean photos or on a control that is known to
fall to it. An attacker below its level is an error; its low scores say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ddm_core.obfuscator_params import (
    BlurParams,
    DpPixParams,
    ExternalParams,
    MosaicParams,
    NoneParams,
    ObfuscatorParams,
    XorCipherParams,
)
from ddm_core.results import AttackResult

STRONGEST = ("clean", "retrained")
"""The attackers of the gate: where one of them fails, nobody's verdict counts."""


@dataclass(frozen=True)
class Level:
    """What an attacker must reach against a control: top-1, of `verification` the area under the ROC curve.

    With `at_most` it must not reach more: the weak side of the collapse.
    """

    attacker: str
    obfuscator: str
    limit: float
    at_most: bool = False


CONTROL_OBFUSCATORS: dict[str, ObfuscatorParams] = {
    "none": NoneParams("none"),
    "mosaic16": MosaicParams("mosaic", block=16),
    "blur15": BlurParams("blur", kernel=15),
    "blur31": BlurParams("blur", kernel=31),
    "dp_pix_1": DpPixParams("dp_pix", block=16, neighbourhood=16, epsilon=1.0),
    "xor_cipher": XorCipherParams("xor_cipher"),
    "many_time_pad": ExternalParams("external", uri="ddm_core.obfuscators.many_time_pad:many_time_pad"),
}
"""The controls by name; `transfer` learns from `blur15` where the grid has no other blur."""

LEVELS = (
    Level("clean", "none", 0.9),
    Level("retrained", "none", 0.9),
    Level("clean", "mosaic16", 0.5, at_most=True),
    Level("retrained", "mosaic16", 0.8),
    Level("clean", "blur31", 0.5, at_most=True),
    Level("retrained", "blur31", 0.8),
    Level("inversion", "none", 0.9),
    Level("verification", "none", 0.9),
    Level("pretrained", "none", 0.9),
    Level("learning_curve", "none", 0.9),
    Level("transfer", "blur31", 0.8),
    Level("averaging", "dp_pix_1", 0.6),  # one picture alone gives the retrained attacker about 0.4
    Level("known_plaintext", "many_time_pad", 0.6),
    Level("nonce_reuse", "xor_cipher", 0.9),
)
"""`wrong_key` learns nothing; it stands and falls with the recogniser: the gate's `clean` on `none`."""


@dataclass(frozen=True)
class Cell:
    """One measured cell: the seed and the result."""

    seed: int
    result: AttackResult


@dataclass(frozen=True)
class SanityCheck:
    """One level of one attacker under one seed; `measured` is None where the control was not run.

    `measured` and `limit` are fractions; `at_most` says that the limit is the most it may be.
    """

    attacker: str
    obfuscator: str
    seed: int
    measured: float | None
    limit: float
    passed: bool
    at_most: bool = False


def check_attackers(cells: Iterable[Cell]) -> list[SanityCheck]:
    """Check the attackers of every seed that has cells.

    The gate is asked for in any case, and the level of every attacker that applies to anything. What was not
    measured has not passed.
    """
    results: dict[int, dict[tuple[str, str], AttackResult]] = {}
    for cell in cells:
        key = (cell.result.attacker, cell.result.obfuscator)
        results.setdefault(cell.seed, {})[key] = cell.result
    return [check for seed, found in sorted(results.items()) for check in _check_seed(seed, found)]


def may_judge(attacker: str, seed: int, checks: Iterable[SanityCheck]) -> bool:
    """Tell whether the gate and the attacker's own levels were passed under a seed."""
    return all(
        check.passed for check in checks if check.seed == seed and check.attacker in {attacker, *STRONGEST}
    )


def below_level(checks: Iterable[SanityCheck]) -> set[tuple[str, int]]:
    """Return the attackers that failed a level of their own, with the seed."""
    return {(check.attacker, check.seed) for check in checks if not check.passed}


def _check_seed(seed: int, results: dict[tuple[str, str], AttackResult]) -> list[SanityCheck]:
    trying = {attacker for (attacker, _), result in results.items() if result.applicable} | {*STRONGEST}
    checks = []
    for level in LEVELS:
        if level.attacker in trying:
            measured = _measured(results.get((level.attacker, level.obfuscator)))
            passed = measured is not None and (
                measured <= level.limit if level.at_most else measured >= level.limit
            )
            checks.append(
                SanityCheck(
                    level.attacker, level.obfuscator, seed, measured, level.limit, passed, level.at_most
                )
            )
    return checks


def _measured(result: AttackResult | None) -> float | None:
    if result is None or not result.applicable:
        return None
    if result.verification:
        return min(figures.auc for figures in result.verification.values())
    return result.top1
