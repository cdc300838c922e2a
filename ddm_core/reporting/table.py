"""The result table as plain text (end of a run) and as Markdown (README, model card)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddm_core.reporting.wording import ABSENT, decibels, interval, percent
from ddm_core.results import ATTACKERS

NAME_WIDTH = 13  # longer names are cut, so that the table keeps within 110 characters
PSNR_CHANNELS = ("png", "jpeg75", "resize50")
GROUPS = (  # title, columns beneath it
    ("", ("obfuscator",)),
    ("attacker right, %", ("clean", "retrained", "inversion", "wrong key")),
    ("worst case", ("(95 % interval)",)),
    ("PSNR in dB after", ("PNG ", "JPEG 75 ", "half ")),  # a blank where the star stands below
    ("decrypted", ("and named",)),
)
GAP = "  "


def result_table(metrics: Mapping[str, Any]) -> str:
    """Return the result table of metrics.json as aligned text, at most 110 characters wide."""
    headings = [column for _, columns in GROUPS for column in columns]
    rows = [_cells(name, entry, unstarred=" ") for name, entry in metrics["obfuscators"].items()]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [_align(cells, widths) for cells in [headings, *rows]]
    return "\n".join([_group_titles(widths), *lines, "", *_notes(metrics)])


def result_table_markdown(metrics: Mapping[str, Any]) -> str:
    """Return the result table of metrics.json as a Markdown table with its notes beneath."""
    titles = [
        "Obfuscator",
        "Clean-trained",
        "Retrained",
        "Inversion",
        "Wrong key",
        "**Worst case** (95 % interval)",
        "PSNR PNG",
        "JPEG 75",
        "Half size",
        "Recognised decrypted",
    ]
    rule = ["---", *["---:"] * (len(titles) - 1)]
    rows = [
        [f"`{name}`", *_cells(name, entry, unstarred="")[1:]]
        for name, entry in metrics["obfuscators"].items()
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, rule, *rows])
    return "\n\n".join([table, " ".join(_notes(metrics))])


def _cells(name: str, entry: Mapping[str, Any], unstarred: str) -> list[str]:
    attacks, worst, utility = entry["attacks"], entry["worst_case"], entry["utility"]
    star = unstarred if entry["decrypts"] else "*"
    return [
        _fit(name),
        *(percent(attacks[attacker]["top1"]) if attacker in attacks else ABSENT for attacker in ATTACKERS),
        f"{percent(worst['top1'])} ({interval(worst['ci95'])})",
        *(
            decibels(utility[channel]["psnr_db"]) + star if channel in utility else ABSENT
            for channel in PSNR_CHANNELS
        ),
        percent(utility["png"]["recognition_top1"]) if entry["decrypts"] and "png" in utility else ABSENT,
    ]


def _group_titles(widths: Sequence[int]) -> str:
    titles, start = [], 0
    for title, columns in GROUPS:
        end = start + len(columns)
        width = sum(widths[start:end]) + len(GAP) * (len(columns) - 1)
        titles.append(f" {title} ".center(width, "─") if 0 < len(title) < width - 1 else title.ljust(width))
        start = end
    return GAP.join(titles)


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = cells
    aligned = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
    return GAP.join([name.ljust(widths[0]), *aligned]).rstrip()


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    notes = [
        f"Guessing gives {percent(metrics['chance_top1'])} %; an attacker far above that sees who it is."
    ]
    if not all(entry["decrypts"] for entry in metrics["obfuscators"].values()):
        notes.append("* cannot be decrypted: measured on the obfuscated photo itself.")
    for name, entry in metrics["obfuscators"].items():
        if cell := entry["controls"].get("nonce_reuse"):
            right = f"{percent(cell['top1'])} % ({interval(cell['ci95'])})"
            notes.append(
                f"{_fit(name)} misused, one nonce for all photos: the retrained attacker names {right}."
            )
    return notes


def _fit(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
