"""Beneath the main Markdown table: channels, reconstructions, seeds, the sanity gate, what the run took."""

from __future__ import annotations

from collections.abc import Sequence

from ddm_core.attacks.sanity import SanityCheck
from ddm_core.benchmark.results_file import CellResult, Results, RunEntry
from ddm_core.benchmark.summary import Likeness, Pooled, Row, channels_of, level
from ddm_core.reporting.wording import (
    ABSENT,
    attacker_label,
    channel_label,
    decibels,
    duration,
    interval,
    percent,
)

REBUILDING = ("inversion", "wrong_key")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """Return a Markdown table of which the first `words` columns are words and the others figures."""
    rule = [*["---"] * words, *["---:"] * (len(titles) - words)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows))


def further_tables(results: Results, rows: Sequence[Row]) -> list[str]:
    """Return headings, introductions and tables; of what was not measured none."""
    sections = (
        _channels(results, rows),
        _reconstructions(results, rows),
        _seeds(results, rows),
        _gate(results.sanity),
        _runs(results.runs),
    )
    return [part for section in sections for part in section]


def _channels(results: Results, rows: Sequence[Row]) -> list[str]:
    decrypting = [row for row in rows if row.entry.decrypts and row.utility]
    if not decrypting:
        return []
    figures = [
        [channel_label(channel), *(_likeness(row.utility.get(channel)) for row in decrypting)]
        for channel in channels_of(results)
    ]
    return [
        "### Decrypted after every channel",
        "What the receiver decrypts after the channel, against the photo: PSNR in decibels / SSIM / right "
        "person recognised in it, in per cent. Means over the seeds.",
        table(["Channel", *(f"`{row.name}`" for row in decrypting)], figures),
    ]


def _likeness(likeness: Likeness | None) -> str:
    if likeness is None:
        return ABSENT
    recognised = percent(likeness.recognition_top1)
    return f"{decibels(likeness.psnr_db)} / {likeness.ssim:.3f} / {recognised}"


def _reconstructions(results: Results, rows: Sequence[Row]) -> list[str]:
    figures = []
    for row in rows:
        cells = [_rebuilt(results, row, attacker) for attacker in REBUILDING]
        if any(cell != ABSENT for cell in cells):
            figures.append([f"`{row.name}`", *cells])
    if not figures:
        return []
    return [
        "### What attackers rebuild",
        "The attacker's reconstruction against the photo: PSNR in decibels / SSIM / identity similarity, the "
        "mean cosine between the clean recogniser's embeddings of both, from -1 to 1. Means over the seeds.",
        table(["Obfuscator", *(attacker_label(name).capitalize() for name in REBUILDING)], figures),
    ]


def _rebuilt(results: Results, row: Row, attacker: str) -> str:
    measured = [
        (cell.result.psnr_db, cell.result.ssim, cell.result.identity_similarity)
        for cell in _cells_of(results, row.name, attacker)
    ]
    columns = [[figure for figure in column if figure is not None] for column in zip(*measured, strict=True)]
    if not columns or not all(columns):
        return ABSENT
    psnr_db, ssim, similarity = (sum(column) / len(column) for column in columns)
    return f"{decibels(psnr_db)} / {ssim:.3f} / {similarity:.3f}"


def _cells_of(results: Results, obfuscator: str, attacker: str) -> list[CellResult]:
    named = [cell for cell in results.cells if (cell.obfuscator, cell.attacker) == (obfuscator, attacker)]
    return sorted((cell for cell in named if cell.result.applicable), key=lambda cell: cell.seed)


def _seeds(results: Results, rows: Sequence[Row]) -> list[str]:
    figures = [
        line
        for row in rows
        for attack in row.attacks.values()
        if len(attack.seeds) > 1 and attack.applicable and not attack.failed
        for line in _seed_lines(results, row, attack)
    ]
    if not figures:
        return []
    return [
        "### Seed by seed",
        "Where more than one seed was run: each alone, and all together with the 95 % interval (of "
        "verification the mean area under the curve with the mean bounds). What it was tried on are the test "
        "encryptions of all these seeds, or the pairs of them.",
        table(
            ["Obfuscator", "Attacker", "Seeds", "Tried on", "Each", "Together", "Contains chance"],
            figures,
            words=3,
        ),
    ]


def _seed_lines(results: Results, row: Row, attack: Pooled) -> list[list[str]]:
    label = attacker_label(attack.attacker) + ("" if attack.counts else " (does not count)")
    seeds, named = ", ".join(map(str, attack.seeds)), [f"`{row.name}`", label]
    cells = [cell.result for cell in _cells_of(results, row.name, attack.attacker)]
    if attack.top1 is not None and attack.ci95 is not None:
        each = ", ".join(percent(cell.top1) for cell in cells if cell.top1 is not None)
        together = f"{percent(attack.top1)} ({interval(attack.ci95)})"
        return [[*named, seeds, str(attack.n), each, together, _holds(attack.ci95, results.dataset.chance)]]
    return [
        [
            named[0],
            f"{named[1]}, {kind}",
            seeds,
            f"{sum(cell.verification[kind].pairs for cell in cells if cell.verification)} pairs",
            ", ".join(f"{cell.verification[kind].auc:.3f}" for cell in cells if cell.verification),
            f"{area.auc:.3f} ({area.ci95[0]:.3f}–{area.ci95[1]:.3f})",  # noqa: RUF001
            _holds(area.ci95, 0.5),
        ]
        for kind, area in row.verification.items()
    ]


def _holds(ci95: tuple[float, float], chance: float) -> str:
    return "yes" if ci95[0] <= chance <= ci95[1] else "no"


def _gate(checks: Sequence[SanityCheck]) -> list[str]:
    if not checks:
        return []
    groups: dict[tuple[str, str, float, bool], list[SanityCheck]] = {}
    for check in checks:
        groups.setdefault((check.attacker, check.obfuscator, check.limit, check.at_most), []).append(check)
    figures = [
        [
            attacker_label(attacker),
            f"`{obfuscator}`",
            f"{'at most' if at_most else 'at least'} {level(limit, attacker)}",
            ", ".join(
                "not run" if check.measured is None else level(check.measured, attacker) for check in group
            ),
            "yes" if all(check.passed for check in group) else "**no**",
        ]
        for (attacker, obfuscator, limit, at_most), group in groups.items()
    ]
    return [
        "### Sanity gate",
        "What every attacker has to show, under every seed that was run, before its low figures count.",
        table(["Attacker", "Control", "Asked", "Measured, seed by seed", "Passed"], figures, words=2),
    ]


def _runs(runs: Sequence[RunEntry]) -> list[str]:
    if not runs:
        return []
    figures = [
        [
            f"`{run.command}`",
            f"{run.ran}" if run.finished else f"{run.ran}, then interrupted",
            str(run.reused),
            str(run.failed),
            str(run.processes),
            duration(run.seconds),
        ]
        for run in runs
    ]
    return [
        "### What it took",
        table(["Command", "Cells run", "Were there", "Failed", "Processes", "Wall time"], figures),
    ]
