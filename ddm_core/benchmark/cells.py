"""One cell: tells whether it is there and fits; runs its stage and writes its record beside the results."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_core.benchmark.plan import Cell, Places, siblings
from ddm_core.benchmark.provenance import Origin, inputs, provenance, settings_of, stage_params
from ddm_core.benchmark.settings import BenchmarkParams
from ddm_core.checkpoint_options import options_for
from ddm_core.data.manifest import Summary
from ddm_core.errors import DdmError
from ddm_core.files import read_json, write_json

RECORD = "cell.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Laboratory:
    """What all cells of a run share: the settings, the photos and their manifest, the results, the commit."""

    params: BenchmarkParams
    prepared: Path
    dataset: Summary
    places: Places
    origin: Origin


def is_done(cell: Cell, laboratory: Laboratory) -> bool:
    """Tell whether the cell has been run with the very inputs that it would have now."""
    record = read_record(cell, laboratory.places)
    if record is None:
        return False
    try:
        now = inputs(cell, laboratory.params, laboratory.places, laboratory.dataset)
    except OSError:  # something it reads is not there
        return False
    return bool(record["provenance"]["inputs_sha256"] == now.sha256)


def read_record(cell: Cell, places: Places) -> dict[str, Any] | None:
    """Return a cell's record, `None` where it is missing, damaged or of another schema version."""
    try:
        record = read_json(places.folder(cell) / RECORD)
        fits = record["schema_version"] == SCHEMA_VERSION and "inputs_sha256" in record["provenance"]
    except (DdmError, KeyError, TypeError):
        return None
    return dict(record) if fits else None


def run_cell(cell: Cell, laboratory: Laboratory) -> None:
    """Run the cell's stage, then write its record: a cell without a record was not finished.

    Raises:
        DdmError: missing or damaged inputs, or what the stage raises.
    """
    started = time.perf_counter()
    try:
        used = inputs(cell, laboratory.params, laboratory.places, laboratory.dataset)
    except FileNotFoundError as error:
        raise DdmError(f"{error.filename}: not found; run the whole benchmark, without --stage") from None
    result = _run_stage(cell, laboratory)
    figures = dataclasses.asdict(result)
    settings = settings_of(cell, laboratory.params)
    record = {
        "schema_version": SCHEMA_VERSION,
        "stage": cell.stage,
        "obfuscator": cell.obfuscator,
        "settings": None if settings is None else dataclasses.asdict(settings),
        "attacker": cell.attacker,
        "seed": cell.seed,
        "result": figures,
        "provenance": provenance(
            used, laboratory.origin, figures.get("weights_sha256"), time.perf_counter() - started
        ),
    }
    write_json(laboratory.places.folder(cell) / RECORD, record)


def _run_stage(cell: Cell, laboratory: Laboratory) -> Any:  # noqa: ANN401 - any stage's result
    from ddm_core.stages import attack, recognise, train, utility

    params, places, prepared = laboratory.params, laboratory.places, laboratory.prepared
    folder, section = places.folder(cell), stage_params(cell, params)
    if cell.stage == "recognise":
        return recognise.run(section, prepared=prepared, recogniser=folder)
    name = str(cell.obfuscator)
    if cell.stage == "train":
        history = places.history(cell)
        return train.run(
            section,
            name=name,
            prepared=prepared,
            model=folder,
            history=history,
            tracked=False,
            checkpoints=options_for(str(places.checkpoints)),
        )
    model = places.folder(Cell("train", cell.seed, name))
    recogniser = places.folder(Cell("recognise", cell.seed))
    if cell.stage == "utility":
        return utility.run(section, prepared=prepared, model=model, recogniser=recogniser, result=folder)
    others = siblings(name, params) if cell.attacker == "transfer" else []
    return attack.run(
        section,
        attacker=str(cell.attacker),
        prepared=prepared,
        model=model,
        recogniser=recogniser,
        result=folder,
        others=[places.folder(Cell("train", cell.seed, other)) for other in others],
    )
