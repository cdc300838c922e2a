"""Adds the cells' records up into results.json, which the page is made of (docs/results-schema.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ddm_core.benchmark.cells import Laboratory, read_record
from ddm_core.benchmark.plan import Cell
from ddm_core.benchmark.results_file import SCHEMA_VERSION
from ddm_core.errors import DdmError
from ddm_core.obfuscators.store import Description, describe

Record = Mapping[str, Any]


def read_records(cells: Sequence[Cell], laboratory: Laboratory) -> list[dict[str, Any]]:
    """Return the records of the cells, in their order.

    Raises:
        DdmError: one is missing.
    """
    records = []
    for cell in cells:
        record = read_record(cell, laboratory.places)
        if record is None:
            folder = laboratory.places.folder(cell)
            raise DdmError(f"{folder}: no result of {cell}; run ddm benchmark without --stage")
        records.append(record)
    return records


def assemble(
    records: Sequence[Record],
    laboratory: Laboratory,
    sanity: Sequence[Record],
    runs: Sequence[Record],
    command: str,
) -> dict[str, Any]:
    """Return the content of results.json.

    `sanity` are the checks of the attackers themselves, `runs` what it took to make the cells.
    """
    attacks = [record for record in records if record["stage"] == "attack"]
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": _dataset(laboratory),
        "obfuscators": _obfuscators(records, laboratory),
        "cells": [_without_params(record) for record in attacks],
        "utility": [
            {
                "obfuscator": record["obfuscator"],
                "seed": record["seed"],
                "channels": record["result"]["channels"],
            }
            for record in records
            if record["stage"] == "utility"
        ],
        "sanity": list(sanity),
        "runs": list(runs),
        "generated_by": {"commit": laboratory.origin.commit, "command": command},
    }


def _dataset(laboratory: Laboratory) -> dict[str, Any]:
    dataset = laboratory.dataset
    return {
        "name": dataset.metadata.get("source", "unknown"),
        "identities": dataset.counts.identities,
        "train_photos": dataset.counts.train,
        "test_photos": dataset.counts.test,
        "image_size": dataset.params.image_size,
        "channels": dataset.params.channels,
        "chance": 1 / dataset.counts.identities,
    }


def _obfuscators(records: Sequence[Record], laboratory: Laboratory) -> dict[str, Any]:
    entries = {}
    found = (str(record["obfuscator"]) for record in records if record["obfuscator"] is not None)
    for name in dict.fromkeys((*laboratory.params.obfuscators, *found)):
        description = _description(name, laboratory)
        settings = description.params if description else laboratory.params.train[name]
        seconds = [
            record["result"]["seconds"]
            for record in records
            if record["stage"] == "train" and record["obfuscator"] == name
        ]
        entries[name] = {
            "method": settings.method,
            "settings": dataclasses.asdict(settings),
            "keyed": description.keyed if description else settings.keyed,
            "decrypts": description.decrypts if description else settings.decrypts,
            "seconds_to_train": round(sum(seconds) / len(seconds), 1) if seconds else None,
        }
    return entries


def _description(name: str, laboratory: Laboratory) -> Description | None:
    """Return what an obfuscator of others, or a model of ours named by its address, was found to be."""
    folders = (laboratory.places.folder(Cell("train", seed, name)) for seed in laboratory.params.seeds)
    external = laboratory.params.train[name].method == "external"
    return next((describe(folder) for folder in folders if external and folder.exists()), None)


def _without_params(record: Record) -> dict[str, Any]:
    """Leave out the settings of the stage, which are the same in hundreds of cells."""
    provenance = {name: value for name, value in record["provenance"].items() if name != "params"}
    return {**record, "provenance": provenance}
