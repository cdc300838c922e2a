"""The sanity gate of the attackers, over the benchmark's own cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ddm_core.attacks import sanity
from ddm_core.results import AttackResult
from ddm_core.strict import parse


def check_attackers(records: Sequence[Mapping[str, Any]]) -> list[sanity.SanityCheck]:
    """Return the gate's checks of every seed; none where nobody attacked anything.

    Raises:
        DdmError: a record's result is damaged.
    """
    return sanity.check_attackers(
        sanity.Cell(record["seed"], _result(record)) for record in records if record["stage"] == "attack"
    )


def as_plain(checks: Sequence[sanity.SanityCheck]) -> list[dict[str, Any]]:
    """Return the checks as results.json has them."""
    return [dataclasses.asdict(check) for check in checks]


def _result(record: Mapping[str, Any]) -> AttackResult:
    where = f"result of {record['attacker']} against {record['obfuscator']}, seed {record['seed']}"
    return parse(record["result"], AttackResult, where)
