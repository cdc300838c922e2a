"""A run's settings: params.yaml, and what a file or the command line changes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from ddm_core.arguments import LOOPED
from ddm_core.errors import DdmError, did_you_mean
from ddm_core.params import Params, parse_params, read_yaml

Change: TypeAlias = tuple[str, Any]
"""Where it is written, and the part of params.yaml that it changes."""


def load_params(params: Path, overrides: Path | None = None, settings: Sequence[str] = ()) -> Params:
    """Read params.yaml, then change what the file `overrides` and the `settings` (`section.key=value`) name.

    An override of a mapping changes the keys that it names and keeps the others; `train: {mosaic8: null}`
    leaves an obfuscator out.

    Raises:
        DdmError: a file is missing or malformed; an unknown name, with the nearest known one; a wrong type.
    """
    content = read_yaml(params)
    parse_params(content, str(params))  # so that a later message speaks of what was changed
    changes = [(str(overrides), read_yaml(overrides))] if overrides else []
    changes += [_parse_setting(setting) for setting in settings]
    merged = content
    for where, change in changes:
        _refuse_unknown_obfuscators(content, change, where)
        merged = _merge(merged, change)
    try:
        return parse_params(merged, str(params))
    except DdmError as error:
        where = _blamed(content, changes, str(params), str(error))
        raise DdmError(str(error).replace(str(params), where, 1)) from None


def _blamed(content: Any, changes: Sequence[Change], where: str, error: str) -> str:  # noqa: ANN401 - YAML decides
    """Return where the change is written that `error`, which all of them together have, comes from.

    Changes may need each other, such as `fetch.source=folder` and `fetch.uri=photos`: one that is wrong alone
    and right with the others is not to blame. So it is the last of those that only had to be left out; of
    several mistakes the first that brings this error in; else the file that is changed.
    """
    for position in reversed(range(len(changes))):
        if _error(content, [*changes[:position], *changes[position + 1 :]], where) is None:
            return changes[position][0]
    for position, (name, _) in enumerate(changes):
        if _error(content, changes[: position + 1], where) == error:
            return name
    return where


def _error(content: Any, changes: Sequence[Change], where: str) -> str | None:  # noqa: ANN401 - YAML decides
    for _, change in changes:
        content = _merge(content, change)
    try:
        parse_params(content, where)
    except DdmError as error:
        return str(error)
    return None


def _parse_setting(setting: str) -> Change:
    path, equals, text = setting.partition("=")
    if not equals or not all(path.split(".")):
        raise DdmError(f"--param {path}: expected SECTION.KEY=VALUE, such as attack.epochs=10")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise DdmError(f"--param {path}: its value is no YAML; quote it") from None
    for name in reversed(path.split(".")):
        value = {name: value}
    return f"--param {path}", value  # without the value, which may hold a password


def _refuse_unknown_obfuscators(base: Any, change: Any, where: str) -> None:  # noqa: ANN401 - YAML decides
    """Settings for a name that is not there are a misspelling, unless they say how to obfuscate."""
    if not isinstance(change, dict) or not isinstance(change.get(LOOPED), dict):
        return
    for name, settings in change[LOOPED].items():
        if name not in base[LOOPED] and not (isinstance(settings, dict) and "method" in settings):
            hint = did_you_mean(str(name), base[LOOPED])
            raise DdmError(f"{where}: '{name}' is no obfuscator of {LOOPED}{hint}")


def _merge(base: Any, change: Any) -> Any:  # noqa: ANN401 - YAML decides
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    merged = dict(base)
    for name, value in change.items():
        if value is None and isinstance(merged.get(name), dict):
            del merged[name]
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
