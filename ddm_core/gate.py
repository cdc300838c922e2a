"""The gate: which model may reach production, judged by what was measured alone. Pure functions.

Evidence is one obfuscator's entry of `reports/metrics.json`. Evidence that is missing, not a number or out
of shape never passes: the check fails and says what was not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

from ddm_core.params import ChampionParams, GateParams

Evidence = Mapping[str, Any]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Check:
    """One condition: `measured` against `limit` (`None` where nothing was measured), told in `text`.

    `interval` is the 95 % interval of an accuracy (fractions), `None` where the figure has none; `relation`
    is "at most" or "at least", empty where there is no limit.
    """

    name: str
    limit: float | None
    measured: float | None
    passed: bool
    text: str
    interval: tuple[float, ...] | None = None
    relation: str = ""


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

    Privacy is the upper 95 % bound of an attacker's top-1 accuracy, so that a small test cannot pass by
    luck: of every required attacker, and of the worst of all. Utility is what the receiver restores: PSNR
    and recognition after every channel of the policy.
    """
    checks = [_attacker(evidence, name, limit.max_top1_upper95) for name, limit in gate.attackers.items()]
    checks += [_worst_case(evidence, gate.max_worst_case_top1_upper95), _restores_photos(evidence)]
    checks += [_psnr(evidence, channel, limit.min_psnr_db) for channel, limit in gate.channels.items()]
    checks += [
        _recognition(evidence, channel, limit.min_recognition_top1)
        for channel, limit in gate.channels.items()
    ]
    return Verdict(all(check.passed for check in checks), tuple(checks))


def beats(
    challenger: Evidence, champion: Evidence, rule: ChampionParams, channels: Iterable[str]
) -> tuple[bool, str]:
    """Tell whether a challenger that passed the gate replaces the champion, and why, in one line.

    It does when its mean PSNR over `channels` is higher by the rule's margin, while with the rule's
    confidence neither its worst attacker nor any recognition of restored photos is worse by more than the
    rule allows. A champion without measured figures gives way.
    """
    channels = tuple(channels)
    new, present = mean_psnr_db(challenger, channels), mean_psnr_db(champion, channels)
    if new is None:
        return False, "the challenger has no PSNR for every channel"
    if present is None:
        return True, "the present champion has no measured figures"
    gain = rule.min_psnr_gain_db
    comparison = (
        f"mean PSNR {new:.2f} dB against the champion's {present:.2f} dB, at least +{gain:g} dB needed"
    )
    # Ten decimals: 32.1 - 32.0 is a hair below 0.1 in binary, and must count as 0.1.
    if round(new - present, 10) < gain:
        return False, comparison
    worse = [
        _worse("the worst attacker's top-1", _worst(challenger), _worst(champion), rule.max_top1_rise, rule),
        *(
            _worse(
                f"the fall of recognition after {channel}",
                _missed(challenger, channel),
                _missed(champion, channel),
                rule.max_recognition_fall,
                rule,
            )
            for channel in channels
        ),
    ]
    reasons = [reason for reason in worse if reason]
    return not reasons, "; ".join([comparison, *reasons])


def mean_psnr_db(evidence: Evidence, channels: Iterable[str]) -> float | None:
    """Return the mean PSNR (decibels) over the channels, `None` unless all were measured."""
    values = [measured(evidence, "utility", channel, "psnr_db") for channel in channels]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def rise_upper(new: Proportion, old: Proportion, confidence: float) -> float:
    """Return the one-sided upper bound of how much the proportion `new` lies above `old`.

    Newcombe's square-and-add of the two Wilson bounds (Statistics in Medicine 17, 1998, method 10), which
    holds for proportions near 0 and 1 too.
    """
    _, upper = wilson(new, confidence)
    lower, _ = wilson(old, confidence)
    return new.value - old.value + math.hypot(upper - new.value, old.value - lower)


@dataclass(frozen=True)
class Proportion:
    """A fraction measured over `n` trials."""

    value: float
    n: float


def wilson(proportion: Proportion, confidence: float) -> Interval:
    """Return the Wilson bounds of a proportion, each of which holds with `confidence` by itself."""
    p, n, z = proportion.value, proportion.n, NormalDist().inv_cdf(confidence)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


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


def _worse(
    words: str, new: Proportion | None, old: Proportion | None, margin: float, rule: ChampionParams
) -> str:
    """Say that `new` may lie above `old` by more than the margin; empty where it does not."""
    if new is None:
        return f"{words}: the challenger lacks the figure or its n"
    if old is None:  # nothing to be worse than
        return ""
    upper = rise_upper(new, old, rule.confidence)
    if upper <= margin:
        return ""
    return (
        f"{words} may be up to {100 * upper:.1f} points worse with {_percent(rule.confidence)} confidence,"
        f" at most {100 * margin:.1f} allowed"
    )


def _worst(evidence: Evidence) -> Proportion | None:
    worst = evidence.get("worst_case")
    attacker = worst.get("attacker") if isinstance(worst, Mapping) else None
    n = measured(evidence, "attacks", attacker, "n") if isinstance(attacker, str) else None
    return _proportion(measured(evidence, "worst_case", "top1"), n)


def _missed(evidence: Evidence, channel: str) -> Proportion | None:
    top1 = measured(evidence, "utility", channel, "recognition_top1")
    missed = None if top1 is None else 1 - top1
    return _proportion(missed, measured(evidence, "utility", channel, "n"))


def _proportion(value: float | None, n: float | None) -> Proportion | None:
    usable = value is not None and n is not None and 0 <= value <= 1 and n >= 1
    return Proportion(value, n) if usable and value is not None and n is not None else None


def _interval(evidence: Evidence, *path: str) -> Interval | None:
    lower, upper = measured(evidence, *path, "ci95", 0), measured(evidence, *path, "ci95", 1)
    return None if lower is None or upper is None else (lower, upper)


def _attacker(evidence: Evidence, attacker: str, limit: float) -> Check:
    name, words = f"attacker_{attacker}_top1_upper95", f"attacker {attacker}"
    excused = evidence.get("not_applicable")
    if isinstance(excused, Mapping) and attacker in excused:
        return Check(name, None, None, True, f"{words}: not applicable ({excused[attacker]})")
    if measured(evidence, "attacks", attacker, "top1") is None:
        return Check(name, limit, None, False, f"{words}: no evidence that it was tried", None, "at most")
    interval = _interval(evidence, "attacks", attacker)
    return _at_most(name, words, interval, limit)


def _worst_case(evidence: Evidence, limit: float) -> Check:
    worst = evidence.get("worst_case")
    attacker = worst.get("attacker", "unnamed") if isinstance(worst, Mapping) else "unnamed"
    interval = _interval(evidence, "worst_case")
    words = f"worst attacker ({attacker})" if interval else "worst attacker"
    return _at_most("worst_case_top1_upper95", words, interval, limit)


def _at_most(name: str, words: str, interval: Interval | None, limit: float) -> Check:
    if interval is None:
        return Check(name, limit, None, False, f"{words}: no evidence of its accuracy", None, "at most")
    upper = interval[1]
    passed = upper <= limit
    relation = "at most" if passed else "more than"
    text = f"{words}: upper 95 % bound {_percent(upper)}, {relation} {_percent(limit)}"
    return Check(name, limit, upper, passed, text, interval, "at most")


def _restores_photos(evidence: Evidence) -> Check:
    decrypts = evidence.get("decrypts") is True
    text = "the receiver can restore photos" if decrypts else "no evidence that a receiver can restore photos"
    return Check("decrypts", None, None, decrypts, text)


def _psnr(evidence: Evidence, channel: str, limit: float) -> Check:
    value = measured(evidence, "utility", channel, "psnr_db")
    return _at_least(f"psnr_db_{channel}", f"PSNR after {channel}", value, limit, unit=_decibels)


def _recognition(evidence: Evidence, channel: str, limit: float) -> Check:
    value = measured(evidence, "utility", channel, "recognition_top1")
    words = f"recognition of restored photos after {channel}"
    check = _at_least(f"recognition_top1_{channel}", words, value, limit, unit=_percent)
    return replace(check, interval=_interval(evidence, "utility", channel))


def _at_least(
    name: str, words: str, value: float | None, limit: float, *, unit: Callable[[float], str]
) -> Check:
    if value is None:
        return Check(name, limit, None, False, f"{words}: no evidence", None, "at least")
    passed = value >= limit
    text = f"{words}: {unit(value)}, {'at least' if passed else 'less than'} {unit(limit)}"
    return Check(name, limit, value, passed, text, None, "at least")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _decibels(value: float) -> str:
    return f"{value:.2f} dB"
