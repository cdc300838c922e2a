"""Adds results.json up: one row an obfuscator, seeds pooled, the worst case and what it amounts to."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ddm_core.attacks.sanity import SanityCheck, below_level
from ddm_core.benchmark.results_file import CellResult, ObfuscatorEntry, Results
from ddm_core.channel_names import LAB_CHANNELS
from ddm_core.reporting.page import grade
from ddm_core.reporting.wording import attacker_label, percent
from ddm_core.results import ATTACKERS, CONTROLS, LAB_ATTACKERS, ChannelUtility, VerificationFigures

CHANCE_AUC = 0.5  # the area under the curve of who tells same from different by throwing a coin
GATE_VERBS = {"failed": "failed", "not run": "was not run"}
CONTROL_NOTES = {
    "many_time_pad": "A control of the sanity gate, not a method to use: a cipher that neglects its nonce."
}
"""Obfuscators that are attacked only because an attacker has to break them; no verdict is about them."""
ATTACKER_ORDER = (*ATTACKERS, *LAB_ATTACKERS, *CONTROLS)


@dataclass(frozen=True)
class Pooled:
    """One attacker against one obfuscator, all seeds together.

    `top1` is the share of all `n` test encryptions, `ci95` its Wilson interval, `spread` the lowest and the
    highest seed. They are None where the attacker does not apply (`reason` says why) or only verifies.
    `failed`: it applies, but under one of the seeds it missed its own level, so that its figures say nothing.
    """

    attacker: str
    seeds: tuple[int, ...]
    applicable: bool
    counts: bool
    reason: str | None = None
    top1: float | None = None
    ci95: tuple[float, float] | None = None
    n: int = 0
    spread: tuple[float, float] | None = None
    failed: bool = False


@dataclass(frozen=True)
class Area:
    """Verification, all seeds together: mean area under the ROC curve and mean bounds of its interval.

    The mean of the bounds is wider than an interval of the mean, so it promises no more than it may.
    """

    auc: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Likeness:
    """The receiver's photo after one channel, mean over the seeds: PSNR in decibels, the rest fractions."""

    psnr_db: float
    ssim: float
    recognition_top1: float


@dataclass(frozen=True)
class Row:
    """One obfuscator against everybody.

    `worst` is the counting attacker with the highest top-1 (of equals, the one with the higher interval).
    `grade` is `hidden`, `leaking` or `exposed` as on the report page, `leaking` also where verification
    tells people apart while nobody can name them, and `unmeasured` where no counting attacker names anyone.
    `failed` are the attackers that missed their own level: the worst case is then a lower bound, and nothing
    is `hidden`.
    """

    name: str
    entry: ObfuscatorEntry
    attacks: dict[str, Pooled]
    worst: Pooled | None
    verification: dict[str, Area]
    utility: dict[str, Likeness]
    grade: str
    failed: tuple[str, ...] = ()


def attackers_of(results: Results) -> list[str]:
    """Return the attackers of all cells: those that count first, controls last, unknown ones in between."""
    present = {cell.attacker for cell in results.cells}
    known = [attacker for attacker in ATTACKER_ORDER if attacker in present]
    return [*known, *sorted(present - set(known))]


def naming_attackers(results: Results) -> list[str]:
    """Return the attackers of which at least one cell names people (has a top-1)."""
    naming = {cell.attacker for cell in results.cells if cell.result.top1 is not None}
    return [attacker for attacker in attackers_of(results) if attacker in naming]


def channels_of(results: Results) -> list[str]:
    """Return the channels that utility was measured after, mild to harsh."""
    present = {channel for entry in results.utility for channel in entry.channels}
    known = [channel for channel in LAB_CHANNELS if channel in present]
    return [*known, *sorted(present - set(known))]


def summarise(results: Results) -> list[Row]:
    """Return one row an obfuscator, in the order of results.json."""
    return [_row(name, entry, results) for name, entry in results.obfuscators.items()]


def _row(name: str, entry: ObfuscatorEntry, results: Results) -> Row:
    cells = [cell for cell in results.cells if cell.obfuscator == name]
    below = below_level(results.sanity)
    attacks = {
        attacker: pool([cell for cell in cells if cell.attacker == attacker], below)
        for attacker in attackers_of(results)
        if any(cell.attacker == attacker for cell in cells)
    }
    failed = tuple(name for name, attack in attacks.items() if attack.failed)
    cells = [cell for cell in cells if cell.attacker not in failed]
    counting = [attack for attack in attacks.values() if attack.counts and attack.top1 is not None]
    worst = max(counting, key=lambda attack: (attack.top1, attack.ci95), default=None)
    verification = _verification(cells)
    return Row(
        name,
        entry,
        attacks,
        worst,
        verification,
        _likeness([item.channels for item in results.utility if item.obfuscator == name]),
        _grade(worst, verification.values(), results.dataset.chance, failed),
        failed,
    )


def pool(cells: list[CellResult], below: Collection[tuple[str, int]] = ()) -> Pooled:
    """Add up the seeds of one attacker against one obfuscator; `cells` holds at least one.

    `below` are attackers that missed their own level, with the seed.
    """
    from ddm_core.metrics import wilson_interval  # pulls in torch

    first, seeds = cells[0], tuple(sorted(cell.seed for cell in cells))
    applying = [cell.result for cell in cells if cell.result.applicable]
    if not applying:
        return Pooled(first.attacker, seeds, applicable=False, counts=False, reason=first.result.reason)
    if any((cell.attacker, cell.seed) in below for cell in cells if cell.result.applicable):
        return Pooled(first.attacker, seeds, applicable=True, counts=False, failed=True)
    counts = all(result.counts_for_gate for result in applying)
    reason = next((result.reason for result in applying if result.reason), None)
    named = [(result.top1, result.n) for result in applying if result.top1 is not None and result.n]
    if not named:
        return Pooled(first.attacker, seeds, applicable=True, counts=counts, reason=reason)
    n = sum(count for _, count in named)
    right = sum(round(top1 * count) for top1, count in named)
    shares = [top1 for top1, _ in named]
    return Pooled(
        first.attacker,
        seeds,
        applicable=True,
        counts=counts,
        reason=reason,
        top1=right / n,
        ci95=wilson_interval(right, n),
        n=n,
        spread=(min(shares), max(shares)),
    )


def _verification(cells: Iterable[CellResult]) -> dict[str, Area]:
    kinds: dict[str, list[VerificationFigures]] = {}
    for cell in cells:
        if cell.result.counts_for_gate:
            for kind, figures in (cell.result.verification or {}).items():
                kinds.setdefault(kind, []).append(figures)
    return {
        kind: Area(
            _mean(item.auc for item in figures),
            (_mean(item.auc_ci95[0] for item in figures), _mean(item.auc_ci95[1] for item in figures)),
        )
        for kind, figures in kinds.items()
    }


def _likeness(seeds: list[dict[str, ChannelUtility]]) -> dict[str, Likeness]:
    channels = dict.fromkeys(channel for seed in seeds for channel in seed)
    measured = {channel: [seed[channel] for seed in seeds if channel in seed] for channel in channels}
    return {
        channel: Likeness(
            _mean(item.psnr_db for item in items),
            _mean(item.ssim for item in items),
            _mean(item.recognition_top1 for item in items),
        )
        for channel, items in measured.items()
    }


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def _grade(worst: Pooled | None, areas: Iterable[Area], chance: float, failed: Sequence[str]) -> str:
    if worst is None:
        return "unmeasured"
    named = grade(dataclasses.asdict(worst), chance)
    told_apart = any(area.ci95[0] > CHANCE_AUC for area in areas)
    if named != "hidden":
        return named
    return "leaking" if told_apart else "unmeasured" if failed else "hidden"


def verdict(results: Results, rows: list[Row]) -> str:
    """Return the one sentence that the page opens with; the unprotected photo and controls are no candidates.

    There is none before the attackers have shown what they can do: a weak attacker fails on everything.
    """
    gate = gate_state(results.sanity)
    if gate != "passed":
        return f"No verdict: the sanity gate of the attackers {GATE_VERBS[gate]}."
    candidates = (row for row in rows if row.entry.method != "none" and row.name not in CONTROL_NOTES)
    judged = [row for row in candidates if row.worst]
    hidden = [row.name for row in judged if row.grade == "hidden"]
    if not judged:
        return "No verdict: no attacker was measured against any obfuscator."
    if not hidden:
        return f"None of {len(judged)} obfuscators hides the face from every attacker."
    verb = "hides" if len(hidden) == 1 else "hide"
    named = f": {', '.join(hidden)}" if len(hidden) <= 3 else ""
    return f"{len(hidden)} of {len(judged)} obfuscators {verb} the face from every attacker{named}."


def gate_state(checks: Iterable[SanityCheck]) -> str:
    """Return the sanity gate's state in words: `passed`, `failed` or `not run`."""
    states = {True: "passed", False: "failed"}
    results = [check.passed for check in checks]
    return states[all(results)] if results else "not run"


def failed_check(check: SanityCheck) -> str:
    """Return in words what an attacker missed: of `verification` an area, of the others per cent."""
    found = "was not run" if check.measured is None else level(check.measured, check.attacker)
    most = "at most" if check.at_most else "at least"
    return (
        f"{attacker_label(check.attacker)} against {check.obfuscator}, seed {check.seed}: {found}, "
        f"where {most} {level(check.limit, check.attacker)} was asked"
    )


def level(value: float, attacker: str) -> str:
    """Write what an attacker reached or should reach; of `verification` it is an area under the curve."""
    return f"AUC {value:.3f}" if attacker == "verification" else f"{percent(value)} %"
