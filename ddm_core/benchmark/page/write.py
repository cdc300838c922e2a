"""Writes page/index.html and a page a cell; the same results give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.benchmark.page.context import cell_context, cell_page_name, index_context
from ddm_core.benchmark.results_file import read_results
from ddm_core.benchmark.summary import failed_check, level, summarise
from ddm_core.files import atomic_directory
from ddm_core.reporting import wording

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

PAGE, INDEX, CELLS = "page", "index.html", "cells"


def write_page(results: Path) -> Path:
    """Turn `results/results.json` and the pictures below `results` into `results/page/index.html`, its value.

    The folder is replaced as a whole. Nothing in it refers to anything outside it.

    Raises:
        DdmError: results.json is missing or does not fit, a picture is not a PNG, or the folder page holds
            somebody else's files.
    """
    content = read_results(results)
    rows = summarise(content)
    environment = _environment()
    index, cell_page = (environment.get_template(f"{name}.html.jinja") for name in ("index", "cell"))
    with atomic_directory(results / PAGE) as folder:
        (folder / CELLS).mkdir()
        (folder / INDEX).write_text(index.render(index_context(content, rows, results)), encoding="utf-8")
        for cell in content.cells:
            text = cell_page.render(cell_context(cell, content, rows, results))
            (folder / CELLS / cell_page_name(cell)).write_text(text, encoding="utf-8")
    return results / PAGE / INDEX


def _environment() -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("ddm_core.benchmark.page", "."), PackageLoader("ddm_core", "reporting")]
        ),
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
        "embedding": wording.embedding_label,
        "duration": wording.duration,
        "level": level,
        "failed_check": failed_check,
        "area": lambda value: f"{value:.3f}",
        "breakable": _breakable,
    }
    return environment


def _breakable(name: str) -> Markup:
    """Let a long name break after its underscores, where a phone is too narrow for it."""
    from markupsafe import Markup

    return Markup("_<wbr>").join(name.split("_"))
