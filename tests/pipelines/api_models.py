"""Holds a request's body to the models of kfp_server_api: names, types and enumerations, all the way down."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import kfp_server_api

PYTHON_TYPES = {"str": str, "int": int, "bool": bool, "object": object}


class MalformedError(Exception):
    """The API does not know such a body."""


def check_body(body: bytes, model: str) -> dict[str, Any]:
    """Return the content of a body that is of the model, which the generated client can read too."""
    content = json.loads(body)
    _check(content, model, model)
    kfp_server_api.ApiClient().deserialize(type("Answer", (), {"data": body.decode()}), model)
    return dict(content)


def _check(value: Any, kind: str, where: str) -> None:
    if match := re.fullmatch(r"list\[(.*)\]", kind):
        _require(isinstance(value, list), f"{where} is no list")
        for item in value:
            _check(item, match[1], where)
    elif match := re.fullmatch(r"dict\(str, (.*)\)", kind):
        _require(isinstance(value, dict), f"{where} is no mapping")
        for name, item in value.items():
            _check(item, match[1], f"{where}.{name}")
    elif kind == "datetime":
        _require(isinstance(value, str) and _is_time(value), f"{where} is no time")
    elif kind in PYTHON_TYPES:
        _require(isinstance(value, PYTHON_TYPES[kind]), f"{where} is no {kind}: {value!r}")
    else:
        _check_model(value, getattr(kfp_server_api, kind), where)


def _check_model(value: Any, model: Any, where: str) -> None:
    if not model.openapi_types:  # an enumeration
        known = [word for name, word in vars(model).items() if name.isupper()]
        _require(value in known, f"{where} is none of {known}: {value!r}")
        return
    _require(isinstance(value, dict), f"{where} is no object")
    kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for name, item in value.items():
        _require(name in kinds, f"{where} has no field {name}")
        _check(item, kinds[name], f"{where}.{name}")


def _is_time(text: str) -> bool:
    try:
        return bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _require(fine: bool, message: str) -> None:
    if not fine:
        raise MalformedError(message)
