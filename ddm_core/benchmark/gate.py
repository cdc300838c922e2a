"""The sanity gate of the attackers, over the benchmark's own cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ddm_core.attacks import sanity
from ddm_core.results import AttackResult
from ddm_core.strict import parse


def check_attackers(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the gate's checks as results.json has them; none where the grid lacks the cells that they need.

    Raises:
        DdmError: a record's result is damaged.
    """
    cells = [
        sanity.Cell(record["seed"], record["settings"]["method"], _result(record))
        for record in records
        if record["stage"] == "attack"
    ]
    return [dataclasses.asdict(check) for check in sanity.check_attackers(cells)]


def _result(record: Mapping[str, Any]) -> AttackResult:
    where = f"result of {record['attacker']} against {record['obfuscator']}, seed {record['seed']}"
    return parse(record["result"], AttackResult, where)
