"""`Params` as the parameters of the Kubeflow pipeline, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.params import Params, parse_params, to_dict

LOOPED = "train"
"""The section that the pipeline loops over: KFP gets it as a list, each entry with its `name`."""


def to_arguments(params: Params) -> dict[str, Any]:
    """Return the pipeline's parameters: one struct a section and the list `train`, without empty values.

    KFP has no null, and every empty value is a default of its dataclass.
    """
    sections = without_empty(to_dict(params))
    sections[LOOPED] = [{"name": name, **settings} for name, settings in sections[LOOPED].items()]
    return dict(sections)


def from_arguments(arguments: Mapping[str, Any]) -> Params:
    """Return the settings that `to_arguments` wrote; numbers may come back from KFP as floats.

    Raises:
        DdmError: unknown or missing names, wrong types.
    """
    where = "pipeline parameters"
    named = [dict(settings) for settings in arguments[LOOPED]]
    try:
        obfuscators = {settings.pop("name"): settings for settings in named}
    except KeyError:
        raise DdmError(f"{where}: {LOOPED}: an entry without 'name'; name every obfuscator") from None
    return parse_params({**arguments, LOOPED: obfuscators}, where)


def without_empty(value: Any) -> Any:  # noqa: ANN401 - plain data
    """Return plain data without the entries of mappings that are None, tuples as lists."""
    if isinstance(value, dict):
        return {name: without_empty(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_empty(item) for item in value]
    return value
