"""What the Kubeflow components show of a result: facts as artifact metadata, figures, a page, a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.confusion import read_confusion
from ddm_core.files import read_json, sha256_file, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from ddm_core.stages.register import RegisterResult
    from ddm_core.stages.report import ReportResult

Facts = dict[str, str | float]


def facts(result: Any) -> Facts:  # noqa: ANN401 - any stage's result
    """Return a result dataclass as flat names and values, such as `channels_png_psnr_db`, without the empty.

    KFP's artifact metadata holds texts and numbers only.
    """
    return dict(_flatten("", dataclasses.asdict(result)))


def publish_figures(result: Any, path: Path) -> dict[str, float]:  # noqa: ANN401 - any stage's result
    """Write the numbers among `facts` as JSON, and return them.

    The file is for the cache: kfp.local takes a result whose artifact has no file for lost.
    """
    found = {name: value for name, value in facts(result).items() if not isinstance(value, str)}
    write_json(path, found)
    return found


def publish_confusion(folder: Path, path: Path, show: Callable[[list[str], list[list[int]]], object]) -> None:
    """Write the confusion matrix of `folder` to a file of its own, and `show` its categories and counts.

    An attack that does not apply has none: nothing is shown, and the file says so.
    """
    categories, matrix = read_confusion(folder)
    write_json(path, {"categories": categories, "matrix": matrix})
    if categories:
        show(categories, matrix)


def publish_report(
    result: ReportResult, *, page: Path, table: Path, headline: Path
) -> tuple[Facts, dict[str, float]]:
    """Write the report's page, its table (Markdown) and its headline figures (JSON) to their own files.

    Returns the digests that name the evidence, and the headline figures of every obfuscator: worst-case
    accuracy (a fraction) and PSNR after PNG (decibels).
    """
    from ddm_core.reporting.table import result_table_markdown

    metrics = read_json(result.metrics)
    write_bytes(page, result.html.read_bytes())
    write_text(table, result_table_markdown(metrics))
    provenance = metrics["provenance"]
    digests: Facts = {
        "metrics_sha256": sha256_file(result.metrics),
        "dataset_digest": provenance["dataset_digest"],
        "commit": provenance["commit"],
    }
    leading = {}
    for name, entry in metrics["obfuscators"].items():
        leading[f"{name}_worst_case_top1"] = entry["worst_case"]["top1"]
        leading[f"{name}_psnr_db"] = entry["utility"]["png"]["psnr_db"]
    write_json(headline, leading)
    return digests, leading


def publish_standings(result: RegisterResult, *, verdict: Path, checks: Path) -> dict[str, float]:
    """Write what became of each model as text, and as figures (JSON), which are returned.

    The figures: its version, whether it passed the gate (0 or 1), and the champion's version, if any.
    """
    from ddm_core.console import registered

    found: dict[str, float] = {}
    for model in result.models:
        found |= {f"{model.name}_version": model.version, f"{model.name}_passed": int(model.passed)}
        if model.champion is not None:
            found[f"{model.name}_champion"] = model.champion
    write_text(verdict, registered(result))
    write_json(checks, found)
    return found


def _flatten(name: str, value: Any) -> Iterator[tuple[str, str | float]]:  # noqa: ANN401 - plain data
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(f"{name}_{key}" if name else str(key), item)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _flatten(f"{name}_{position}", item)
    elif isinstance(value, bool):
        yield name, int(value)
    elif isinstance(value, int | float):
        yield name, value
    elif value is not None:
        yield name, str(value)
