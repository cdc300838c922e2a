"""Plain YAML or JSON data to frozen dataclasses, strictly: unknown names, wrong types and gaps are errors."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union

from ddm_core.errors import DdmError, did_you_mean

T = TypeVar("T")
EXPECTED = {int: "a whole number", float: "a number (written like 0.1 or 2.0e-3)", str: "a text"}
Readers = Mapping[Any, Callable[[Any, str], Any]]


def parse(content: Any, kind: type[T], where: str, readers: Readers | None = None) -> T:  # noqa: ANN401
    """Turn plain data into the dataclass `kind`; `where` names the place in messages.

    `readers` maps a type to the function that reads it, for types that plain rules cannot tell apart.

    Raises:
        DdmError: unknown or missing key (with the nearest known one), wrong type, value out of range.
    """
    return typing.cast(T, _convert(content, kind, where, readers or {}))


def _convert(value: Any, kind: Any, where: str, readers: Readers) -> Any:  # noqa: ANN401, PLR0911
    if kind in readers:
        return readers[kind](value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(value, typing.cast(type[Any], kind), where, readers)
    if origin is dict:
        _expect(isinstance(value, dict), value, "a mapping", where)
        return {
            str(key): _convert(item, arguments[1], f"{where}: {_one_line(key)}", readers)
            for key, item in value.items()
        }
    if origin is tuple:  # only `tuple[X, ...]` is used
        _expect(isinstance(value, list | tuple), value, "a list", where)
        return tuple(_convert(item, arguments[0], f"{where}[{i}]", readers) for i, item in enumerate(value))
    if origin is Literal:
        # `==` alone would take true for 1, and hand 1.0 on as a float
        same = [choice for choice in arguments if choice == value and not isinstance(value, bool)]
        _expect(bool(same), value, f"one of {', '.join(map(str, arguments))}", where)
        return same[0]
    if origin in (Union, types.UnionType):  # only `X | None` is used
        return None if value is None else _convert(value, arguments[0], where, readers)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():  # KFP hands numbers back as floats
        return int(value)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _expect(fits, value, EXPECTED.get(kind, "true or false"), where)
    return value


def _convert_dataclass(value: Any, kind: type[Any], where: str, readers: Readers) -> Any:  # noqa: ANN401
    _expect(isinstance(value, dict), value, "a mapping", where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in fields:
            raise DdmError(f"{where}: unknown key '{_one_line(key)}'{did_you_mean(str(key), fields)}")
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING:
            raise DdmError(f"{where}: missing key '{name}'; add it")
    converted = {key: _convert(item, hints[key], f"{where}: {key}", readers) for key, item in value.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise DdmError(f"{where}: {error}") from None


def _one_line(key: object) -> str:
    return " ".join(str(key).split())


def _expect(condition: bool, value: Any, expected: str, where: str) -> None:  # noqa: ANN401 - YAML decides
    if not condition:
        raise DdmError(f"{where}: expected {expected}, got {value!r}")
