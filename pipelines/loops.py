"""What the turns of a pipeline's loops are called: by an obfuscator's or attacker's name, not a number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

CHANNEL = "pipelinechannel--"
"""What KFP's compiler puts before the name of a pipeline's parameter."""


def loop_turns(specification: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return loop task -> the names of its turns, for the loops over a list in the pipeline or a parameter.

    An item's name is itself, if it is a word, or its `name`; an item without one is called by its number.
    """
    specification = specification.get("pipeline_spec", specification)  # beside it, what is Kubernetes's
    turns = {}
    for name, task in _tasks(specification):
        items = task.get("parameterIterator", {}).get("items", {})
        if "raw" in items:
            turns[name] = _names(json.loads(items["raw"]))
        elif "inputParameter" in items:
            turns[name] = _names(parameters.get(items["inputParameter"].removeprefix(CHANNEL)))
    return turns


def _tasks(specification: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for component in (specification.get("root", {}), *specification.get("components", {}).values()):
        yield from component.get("dag", {}).get("tasks", {}).items()


def _names(items: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    return [_name(item, number) for number, item in enumerate(items)] if isinstance(items, list) else []


def _name(item: Any, number: int) -> str:  # noqa: ANN401 - any JSON value
    name = item.get("name") if isinstance(item, dict) else item
    return name if isinstance(name, str) and name.isidentifier() else str(number)
