"""report: adds the measurements up into metrics.json, CSV tables for plots, and one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddm_core.files import atomic_directory, read_json, write_json, write_text
from ddm_core.params import Params
from ddm_core.reporting import csvs
from ddm_core.reporting.metrics import (
    build_metrics,
    read_attacks,
    read_dataset,
    read_histories,
    read_utility,
    total_seconds,
    trained,
)
from ddm_core.reporting.provenance import provenance


@dataclass(frozen=True)
class ReportResult:
    """Where the report lies: metrics.json and the page."""

    metrics: Path
    html: Path


def run(
    params: Params,
    *,
    prepared: Path,
    attacks: Path,
    utility: Path,
    histories: Path,
    recogniser: Path,
    report: Path,
) -> ReportResult:
    """Write the folder `report` as a whole: metrics.json (docs/metrics.md), three CSVs, report.html.

    Reads `prepared`/manifest.json, `attacks`/<obfuscator>/<attacker>/{result.json,pictures.png},
    `utility`/<obfuscator>/{result.json,pictures.png}, `histories`/<obfuscator>/{timing.json,history.csv}
    (the latter of trained obfuscators) and `recogniser`/recogniser.json. Pictures are optional,
    figures are not.

    Raises:
        DdmError: something is missing or unreadable; the message names the file and the command.
    """
    digest, identities, source = read_dataset(prepared / "manifest.json")
    cells = read_attacks(attacks, params.train)
    utilities = read_utility(utility, params.train)
    curves = read_histories(histories, trained(params))
    seconds = total_seconds(cells, utilities, histories)
    origin = provenance(params, digest, source, seconds, Path.cwd())
    metrics = build_metrics(params, cells, utilities, identities, origin)

    from ddm_core.reporting import page  # here, because jinja2 and matplotlib are slow to import

    pictures = page.collect_pictures(attacks, utility, params.train)
    html = page.render_page(metrics, curves, pictures, read_json(recogniser / "recogniser.json"))
    with atomic_directory(report) as folder:
        write_json(folder / "metrics.json", metrics)
        write_text(folder / "attacks.csv", csvs.attacks_csv(metrics))
        write_text(folder / "channels.csv", csvs.channels_csv(metrics))
        write_text(folder / "training.csv", csvs.training_csv(curves))
        write_text(folder / "report.html", html)
    return ReportResult(report / "metrics.json", report / "report.html")
