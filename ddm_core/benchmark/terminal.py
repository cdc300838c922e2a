"""What `ddm benchmark` prints at its end: one line an obfuscator, then what became of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddm_core.attacks.sanity import STRONGEST
from ddm_core.benchmark.results_file import Results, read_results
from ddm_core.benchmark.run import FAILURES, LOG, TABLE, Order, Outcome
from ddm_core.benchmark.summary import Row, failed_check, summarise
from ddm_core.reporting.wording import ABSENT, attacker_label, decibels, duration, interval, percent

HEADINGS = ("obfuscator", "worst attacker", "right, %", "(95 % interval)", "PSNR in dB: PNG", "JPEG 75")
GAP = "  "


def result_table(results: Path) -> str:
    """Return the table of `results`/results.json as aligned text, its notes beneath.

    Raises:
        DdmError: the file is missing or damaged.
    """
    content = read_results(results)
    rows = [HEADINGS, *(_cells(row) for row in summarise(content))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_align(cells, widths) for cells in rows]
    return "\n".join([*lines, "", *_notes(content)])


def outcome_lines(outcome: Outcome, order: Order) -> list[str]:
    """Return how many cells ran, and where everything lies."""
    lines = [
        f"{outcome.ran} cells ran, {outcome.reused} were there; {duration(outcome.seconds)} in all, "
        f"{order.jobs} {'process' if order.jobs == 1 else 'processes'} side by side; "
        f"results in {order.results}"
    ]
    if TABLE in order.stages and order.page:
        lines.append(f"Page: {(order.results / 'page/index.html').resolve()}")
    if outcome.failed:
        lines.append(
            f"{order.results / FAILURES} says where in the code cells failed, {LOG} what they printed"
        )
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    worst = row.worst
    if worst is None or worst.top1 is None or worst.ci95 is None:
        named: tuple[str, ...] = (ABSENT, ABSENT, ABSENT)
    else:
        least = "≥ " if row.failed else ""
        named = (attacker_label(worst.attacker), least + percent(worst.top1), f"({interval(worst.ci95)})")
    star = "" if row.entry.decrypts else "*"
    likeness = (row.utility.get(channel) for channel in ("png", "jpeg75"))
    return (row.name, *named, *(decibels(one.psnr_db) + star if one else ABSENT for one in likeness))


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return GAP.join([*left, *right]).rstrip()


def _notes(content: Results) -> list[str]:
    notes = [f"Guessing gives {percent(content.dataset.chance)} %."]
    if not all(entry.decrypts for entry in content.obfuscators.values()):
        notes.append("* cannot be decrypted: measured on the obfuscated photo itself.")
    failed = [check for check in content.sanity if not check.passed]
    if failed:
        notes.append(
            "NO VERDICT COUNTS: the attackers failed their own sanity gate."
            if any(check.attacker in STRONGEST for check in failed)
            else "Attackers below their own level have failed; their figures are left out, and ≥ marks what"
            " is therefore a lower bound."
        )
        notes += [f"  {failed_check(check)}" for check in failed]
    return notes
