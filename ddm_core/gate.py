"""The gate: which model may reach production, judged by what was measured alone. Pure functions.

Evidence is one obfuscator's entry of `reports/metrics.json`. Evidence that is missing, not a number or out
of shape never passes: the check fails and says what was not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ddm_core.params import GateParams

Evidence = Mapping[str, Any]
CHANNELS = ("png", "jpeg75", "resize50")


@dataclass(frozen=True)
class Check:
    """One condition: `measured` against `limit` (`None` where nothing was measured), told in `text`."""

    name: str
    limit: float | None
    measured: float | None
    passed: bool
    text: str


@dataclass(frozen=True)
class Verdict:
    """All checks of one model; it passes when every one does."""

    passed: bool
    checks: tuple[Check, ...]

    @property
    def failures(self) -> str:
        """What did not pass, in one line; empty for a model that passes."""
        return "; ".join(check.text for check in self.checks if not check.passed)


def judge(evidence: Evidence, gate: GateParams) -> Verdict:
    """Judge one obfuscator's entry of `reports/metrics.json`.

    Privacy is the upper 95 % bound of the worst attacker's top-1 accuracy, so that a small test cannot
    pass by luck. Utility is what the receiver restores: PSNR and recognition after PNG, after JPEG 75 and
    after half-size.
    """
    checks = [
        *(_attacker_tried(evidence, attacker) for attacker in gate.attackers),
        _worst_case(evidence, gate.max_worst_case_top1_upper95),
        _restores_photos(evidence),
    ]
    limits = (gate.min_psnr_db, gate.min_psnr_db_jpeg75, gate.min_psnr_db_resize50)
    for channel, limit in zip(CHANNELS, limits, strict=True):
        psnr = measured(evidence, "utility", channel, "psnr_db")
        checks.append(_at_least(f"psnr_db_{channel}", f"PSNR after {channel}", psnr, limit, _decibels))
    for channel in CHANNELS:
        top1 = measured(evidence, "utility", channel, "recognition_top1")
        name, words = f"recognition_top1_{channel}", f"recognition of restored photos after {channel}"
        checks.append(_at_least(name, words, top1, gate.min_recognition_top1, _percent))
    return Verdict(all(check.passed for check in checks), tuple(checks))


def beats(challenger: Evidence, champion: Evidence, min_gain_db: float) -> tuple[bool, str]:
    """Tell whether a challenger that passed the gate replaces the champion, and why, in one line.

    It does when its mean PSNR over PNG, JPEG 75 and half-size is higher by at least `min_gain_db`. A
    champion without measured figures gives way.
    """
    new, present = mean_psnr_db(challenger), mean_psnr_db(champion)
    if new is None:
        return False, "the challenger has no PSNR for every channel"
    if present is None:
        return True, "the present champion has no measured figures"
    comparison = (
        f"mean PSNR {new:.2f} dB against the champion's {present:.2f} dB, at least +{min_gain_db:g} dB needed"
    )
    # Ten decimals: 32.1 - 32.0 is a hair below 0.1 in binary, and must count as 0.1.
    return round(new - present, 10) >= min_gain_db, comparison


def mean_psnr_db(evidence: Evidence) -> float | None:
    """Return the mean PSNR (decibels) over the gate's channels, `None` unless all were measured."""
    values = [measured(evidence, "utility", channel, "psnr_db") for channel in CHANNELS]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def measured(evidence: Evidence, *path: str | int) -> float | None:
    """Return the finite number at a path of keys and list positions, or `None`."""
    value: Any = evidence
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _attacker_tried(evidence: Evidence, attacker: str) -> Check:
    name = f"attacker_{attacker}"
    excused = evidence.get("not_applicable")
    if isinstance(excused, Mapping) and attacker in excused:
        return Check(name, None, None, True, f"attacker {attacker}: not applicable ({excused[attacker]})")
    top1 = measured(evidence, "attacks", attacker, "top1")
    if top1 is None:
        return Check(name, None, None, False, f"attacker {attacker}: no evidence that it was tried")
    return Check(name, None, top1, True, f"attacker {attacker}: tried, top-1 {_percent(top1)}")


def _worst_case(evidence: Evidence, limit: float) -> Check:
    name = "worst_case_top1_upper95"
    upper = measured(evidence, "worst_case", "ci95", 1)
    if upper is None:
        return Check(name, limit, None, False, "worst attacker: no evidence of its accuracy")
    attacker = evidence["worst_case"].get("attacker", "unnamed")
    passed = upper <= limit
    relation = "at most" if passed else "more than"
    text = f"worst attacker ({attacker}): upper 95 % bound {_percent(upper)}, {relation} {_percent(limit)}"
    return Check(name, limit, upper, passed, text)


def _restores_photos(evidence: Evidence) -> Check:
    decrypts = evidence.get("decrypts") is True
    text = "the receiver can restore photos" if decrypts else "no evidence that a receiver can restore photos"
    return Check("decrypts", None, None, decrypts, text)


def _at_least(
    name: str, words: str, value: float | None, limit: float, unit: Callable[[float], str]
) -> Check:
    if value is None:
        return Check(name, limit, None, False, f"{words}: no evidence")
    passed = value >= limit
    text = f"{words}: {unit(value)}, {'at least' if passed else 'less than'} {unit(limit)}"
    return Check(name, limit, value, passed, text)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _decibels(value: float) -> str:
    return f"{value:.2f} dB"
