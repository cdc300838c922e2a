"""The page people read: one self-contained HTML file, pictures and plots inside it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ddm_core.errors import DdmError
from ddm_core.reporting import plots, wording
from ddm_core.reporting.metrics import History
from ddm_core.results import ATTACKERS, PICTURES

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
EXPOSED_FROM = 0.5  # an attacker who is right every other time needs no second look


@dataclass(frozen=True)
class Picture:
    """A picture to inline: its obfuscator, where it is a reconstruction its attacker, and its pixels."""

    obfuscator: str
    attacker: str | None
    source: str  # data URI
    width: int
    height: int


def collect_pictures(attacks: Path, utility: Path, obfuscators: Iterable[str]) -> list[Picture]:
    """Read the grids that lie beside the results: the receiver's, then the attackers' reconstructions.

    Raises:
        DdmError: a file is not a PNG picture.
    """
    pictures = []
    for name in obfuscators:
        places: dict[str | None, Path] = {None: utility / name / PICTURES}
        places |= {attacker: attacks / name / attacker / PICTURES for attacker in ATTACKERS}
        pictures += [read_picture(path, name, who) for who, path in places.items() if path.exists()]
    return pictures


def read_picture(path: Path, obfuscator: str, attacker: str | None) -> Picture:
    """Read one PNG picture, ready to be inlined.

    Raises:
        DdmError: the file is not a PNG picture.
    """
    content = path.read_bytes()
    if not content.startswith(PNG_SIGNATURE) or len(content) < 24:
        raise DdmError(f"{path}: not a PNG picture; delete it and measure again (dvc repro)")
    width, height = struct.unpack(">II", content[16:24])
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Picture(obfuscator, attacker, source, width, height)


def render_page(
    metrics: Mapping[str, Any],
    histories: Mapping[str, History],
    pictures: list[Picture],
    recogniser: Mapping[str, Any] | None,
) -> str:
    """Return the HTML of report.html: no reference to anything outside it, no date, no script.

    `recogniser` holds clean_top1 (fraction), ci95 and n of the recogniser on untouched photos.
    """
    environment = Environment(
        loader=PackageLoader("ddm_core", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "interval": wording.interval,
        "decibels": wording.decibels,
        "attacker": wording.attacker_label,
        "channel": wording.channel_label,
        "duration": _duration,
        "grade": lambda worst: grade(worst, metrics["chance_top1"]),
    }
    template = environment.get_template("page.html.jinja")
    return template.render(_context(metrics, histories, pictures, recogniser))


def _context(
    metrics: Mapping[str, Any],
    histories: Mapping[str, History],
    pictures: list[Picture],
    recogniser: Mapping[str, Any] | None,
) -> dict[str, Any]:
    settings = metrics["provenance"]["params"]["train"]
    headline = metrics["provenance"]["params"]["report"]["headline"]
    obfuscators, chance = metrics["obfuscators"], metrics["chance_top1"]
    shown_first = sorted(
        obfuscators, key=lambda name: (name != headline, name not in histories, list(obfuscators).index(name))
    )
    keyless = {
        name: entry
        for name, entry in obfuscators.items()
        if entry["method"] == "ddm" and not wording.is_discrepancy_control(settings[name])
    }
    return {
        "metrics": metrics,
        "obfuscators": obfuscators,
        "headline": headline,
        "verdict": verdict(headline, obfuscators[headline], chance),
        "people": round(1 / chance),
        "recogniser": recogniser,
        "attackers": ATTACKERS,
        "attacker_notes": wording.ATTACKER_NOTES,
        "notes": {name: wording.describe_obfuscator(entry) for name, entry in settings.items()},
        "absent": wording.ABSENT,
        "channels": list(dict.fromkeys(c for entry in obfuscators.values() for c in entry["utility"])),
        "keyless": keyless,
        "controls": [name for name in settings if wording.is_discrepancy_control(settings[name])],
        "reasons": sorted(
            {
                why
                for entry in obfuscators.values()
                for attacker, why in entry["not_applicable"].items()
                if attacker in ATTACKERS
            }
        ),
        "grids": _in_order([p for p in pictures if p.attacker is None], shown_first),
        "reconstructions": _in_order([p for p in pictures if p.attacker is not None], shown_first),
        "privacy_plot": Markup(plots.privacy_plot(metrics)),
        "channels_plot": Markup(
            plots.channels_plot({name: obfuscators[name] for name in shown_first}, chance)
        ),
        "training_plot": Markup(
            plots.training_plot({name: histories[name] for name in shown_first if name in histories})
        )
        if histories
        else None,
        "params_text": yaml.safe_dump(
            metrics["provenance"]["params"], sort_keys=False, allow_unicode=True, default_flow_style=None
        ),
    }


def _in_order(pictures: list[Picture], names: list[str]) -> list[Picture]:
    return sorted(pictures, key=lambda picture: names.index(picture.obfuscator))


def grade(worst: Mapping[str, Any], chance: float) -> str:
    """Return `hidden` (the interval reaches down to chance), `exposed` (right half the time) or `leaking`."""
    if worst["ci95"][0] <= chance:
        return "hidden"
    return "exposed" if worst["top1"] >= EXPOSED_FROM else "leaking"


def verdict(name: str, entry: Mapping[str, Any], chance: float) -> str:
    """Return the one sentence that the page opens with."""
    worst = entry["worst_case"]
    best, guess = wording.percent(worst["top1"]), wording.percent(chance)
    sentences = {
        "hidden": f"{name} hides the face: no attacker did measurably better than guessing.",
        "leaking": f"{name} leaks: the best attacker names {best} % of the people, guessing {guess} %.",
        "exposed": f"{name} does not hide the face: the best attacker names {best} % of the people.",
    }
    return sentences[grade(worst, chance)]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
