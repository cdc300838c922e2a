"""The benchmark's tables as Markdown, and their place between two marks of a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ddm_core.benchmark.further_tables import further_tables, table
from ddm_core.benchmark.results_file import RESULTS, Results, read_results
from ddm_core.benchmark.summary import Pooled, Row, gate_state, naming_attackers, summarise
from ddm_core.errors import DdmError
from ddm_core.files import write_text
from ddm_core.reporting.wording import ABSENT, attacker_label, decibels, interval, percent

BEGIN, END = "<!-- benchmark table: begin -->", "<!-- benchmark table: end -->"
PSNR_CHANNELS = ("png", "jpeg75")
FAILED = "failed"


def results_markdown(results: Path) -> str:
    """Return the tables of `results/results.json`: who is recognised first, what it rests on after that.

    Raises:
        DdmError: results.json is missing or does not fit.
    """
    content = read_results(results)
    rows = summarise(content)
    parts = [
        "## Measured here",
        _introduction(content),
        _main_table(content, rows),
        _notes(content, rows),
        *further_tables(content, rows),
    ]
    return "\n\n".join(part for part in parts if part)


def _main_table(content: Results, rows: Sequence[Row]) -> str:
    attackers = naming_attackers(content)
    titles = [
        "Obfuscator",
        "Key",
        "**Worst case** (95 % interval)",
        *(attacker_label(attacker).capitalize() for attacker in attackers),
        "Verification AUC",
        "PSNR PNG",
        "JPEG 75",
    ]
    return table(titles, [_cells(row, attackers) for row in rows], words=2)


def update_document(document: Path, results: Path) -> None:
    """Put the tables between the marks of `document`, and results.json beside it under the document's name.

    Without results.json nothing stands between the marks.

    Raises:
        DdmError: the document is missing, lacks the marks, or results.json does not fit.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DdmError(f"{document}: not found; name the document that the table goes into") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DdmError(f"{document}: lacks the lines {BEGIN} and {END}; put them where the table goes")
    source, tables = results / RESULTS, "\n"
    if source.exists():
        tables = f"\n{results_markdown(results)}\n"
        write_text(document.with_suffix(".json"), source.read_text(encoding="utf-8"))
    write_text(document, f"{before}{begin}{tables}{end}{after}")


def _introduction(results: Results) -> str:
    data, seeds = results.dataset, Counter((cell.obfuscator, cell.attacker) for cell in results.cells)
    fewest, most = min(seeds.values(), default=0), max(seeds.values(), default=0)
    some = f"{most}" if fewest == most else f"{fewest} to {most}"
    together = f", {some} seeds together" if most > 1 else ""
    return (
        f"{data.name}, {data.identities} people, {data.train_photos} photos to train on and "
        f"{data.test_photos} others to test with, {data.image_size} × {data.image_size} "  # noqa: RUF001
        f"pixels{together}. Right person named, in per cent; guessing gives {percent(data.chance)} %. "
        f"Sanity gate of the attackers: {gate_state(results.sanity)}."
    )


def _cells(row: Row, attackers: list[str]) -> list[str]:
    worst = row.worst
    star, least = "" if row.entry.decrypts else "*", "≥ " if row.failed else ""
    areas = " / ".join(f"{area.auc:.3f}" for area in row.verification.values())
    return [
        f"`{row.name}`",
        "yes" if row.entry.keyed else "no",
        _named(worst, f"{least}**{percent(worst.top1)}**") if worst and worst.top1 is not None else ABSENT,
        *(_attack(row.attacks.get(attacker)) for attacker in attackers),
        FAILED if "verification" in row.failed else areas or ABSENT,
        *(
            decibels(row.utility[channel].psnr_db) + star if channel in row.utility else ABSENT
            for channel in PSNR_CHANNELS
        ),
    ]


def _named(attack: Pooled, figure: str) -> str:
    return f"{figure} ({interval(attack.ci95)})" if attack.ci95 else figure


def _attack(attack: Pooled | None) -> str:
    if attack is not None and attack.failed:
        return FAILED
    if attack is None or attack.top1 is None:
        return ABSENT
    return percent(attack.top1) if attack.counts else f"({percent(attack.top1)})"


def _notes(results: Results, rows: Sequence[Row]) -> str:
    notes = [
        f"{ABSENT}: does not apply, or was not run. In brackets: does not count in the worst case.",
        "Verification: area under the ROC curve for two obfuscated pictures / for one of them clean.",
        "*: cannot be decrypted, measured on the obfuscated photo itself.",
    ]
    if any(row.failed for row in rows):
        notes.append(
            f"{FAILED}: the attacker is below its own level (see the sanity gate), so its figures say"
            " nothing; ≥: a worst case over the others only."
        )
    if command := results.generated_by.get("command"):
        notes.append(f"Made by `{command}` at commit `{results.generated_by.get('commit', 'unknown')}`.")
    return " ".join(notes)
