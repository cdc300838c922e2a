"""Obfuscators of others, judged as they are: any importable callable, or an MLflow model.

A callable gets float32 images [n, c, h, w] in [0, 1], and the photos' nonces where it has a parameter of that
name, and returns images of the same shape: a tensor or a numpy array of floats in [0, 1]. What it returns is
checked and rounded to 8 bits, as a file would. It must hide photos that it has never seen, one by one.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from ddm_core.channel import round_to_8_bits
from ddm_core.errors import DdmError, did_you_mean

MODELS = "models:/"
_SLACK = 1e-3  # beyond [0, 1]: a quarter of a grey level, which float arithmetic may leave


@dataclass(frozen=True)
class External:
    """Somebody else's code under the name `uri`."""

    uri: str
    function: Callable[..., Any] = field(repr=False)
    takes_nonces: bool = False

    @torch.no_grad()
    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return what the code makes of the images.

        Raises:
            DdmError: the code raises, or what it returns is no images of the same shape in [0, 1].
        """
        given = images.clone()  # code that works in place must not change the caller's photos
        try:
            returned = self.function(given, nonces=nonces) if self.takes_nonces else self.function(given)
        except Exception as error:
            raise DdmError(f"{self.uri}: raised {_one_line(error)}") from None
        return round_to_8_bits(self._checked(returned, images))

    def _checked(self, returned: object, images: Tensor) -> Tensor:
        if isinstance(returned, numpy.ndarray) and returned.dtype.kind in "fiub":
            returned = torch.from_numpy(numpy.ascontiguousarray(returned))
        if not isinstance(returned, Tensor):
            raise self._error(f"a {type(returned).__name__}", "a tensor or numpy array of images")
        if returned.shape != images.shape:
            raise self._error(
                f"shape {list(returned.shape)}", f"{list(images.shape)}, the shape it was given"
            )
        if not returned.is_floating_point():
            raise self._error(f"values of type {_type_name(returned)}", "floats in [0, 1]")
        if not returned.isfinite().all():
            raise self._error("values that are not finite", "floats in [0, 1]")
        least, most = returned.min().item(), returned.max().item()
        if least < -_SLACK or most > 1 + _SLACK:
            raise self._error(f"values from {least:.4g} to {most:.4g}", "floats in [0, 1]")
        return returned.detach().float().to(images.device)

    def _error(self, got: str, expected: str) -> DdmError:
        return DdmError(f"{self.uri}: returned {got}; expected {expected}")


def load_external(uri: str) -> External:
    """Return the obfuscator that `uri` names: module:function or models:/name/version.

    Modules are looked for in the current folder, too.

    Raises:
        DdmError: nothing there, it cannot be imported or loaded, or it takes something else than images.
    """
    if uri.startswith(MODELS):
        from ddm_core.serving.foreign import load_foreign

        return External(uri, load_foreign(uri))
    function = _import(uri)
    return External(uri, function, _takes_nonces(uri, function))


def _import(uri: str) -> Callable[..., Any]:
    module_name, _, path = uri.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # the installed command does not look there by itself
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise DdmError(f"{uri}: cannot import {module_name}: {_one_line(error)}") from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise DdmError(f"{uri}: {module_name} has no '{path}'{did_you_mean(name, _public(found))}")
        found = getattr(found, name)
    if not callable(found):
        raise DdmError(f"{uri}: is no function but of type {type(found).__name__}; name one of images")
    function: Callable[..., Any] = found
    return function


def _takes_nonces(uri: str, function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C do not tell
        return False
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [each.name for each in parameters if each.default is each.empty and each.kind not in variable]
    unknown = [name for name in required[1:] if name != "nonces"]
    if unknown or not parameters:
        takes = ", ".join(each.name for each in parameters) or "nothing"
        raise DdmError(f"{uri}: takes {takes}; expected (images) or (images, nonces)")
    return any(each.name == "nonces" for each in parameters)


def _public(found: object) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


def _type_name(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
