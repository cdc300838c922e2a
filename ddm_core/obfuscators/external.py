"""Obfuscators of others, judged as they are: any importable callable or object, or an MLflow model.

A callable gets float32 images [n, c, h, w] in [0, 1], and the photos' nonces where it has a parameter of that
name, and returns images of the same shape: a tensor or a numpy array of floats in [0, 1]. What it returns is
checked and rounded to 8 bits, as a file would. It must hide photos that it has never seen, one by one.

An object may offer what ours do (ddm_core.obfuscators.protocol): `encrypt(images, nonces)`, to restore photos
`decrypt(images, nonces)`, and to be judged as a keyed method `with_key(master_key)`, which returns the same
under another 32-byte key. Every attacker that makes sense for what it offers is then tried.
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
from ddm_core.obfuscator_params import EXTERNAL_OFFERS

MODELS = "models:/"
_SLACK = 1e-3  # beyond [0, 1]: a quarter of a grey level, which float arithmetic may leave


@dataclass(frozen=True)
class External:
    """Somebody else's code under the name `uri`; `code` is the callable, or the object that has `encrypt`."""

    uri: str
    code: Any = field(repr=False)

    @property
    def offers(self) -> tuple[str, ...]:
        """What it can do besides encrypting photos, of EXTERNAL_OFFERS."""
        takes = _takes_nonces(self.uri, self._function("encrypt"))
        found = {"nonces": takes, **{name: _has(self.code, name) for name in ("decrypt", "with_key")}}
        return tuple(name for name in EXTERNAL_OFFERS if found[name])

    @torch.no_grad()
    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return what the code makes of the images.

        Raises:
            DdmError: the code raises, or what it returns is no images of the same shape in [0, 1].
        """
        return round_to_8_bits(self._call("encrypt", images, nonces))

    def _function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self.code, name) if _has(self.code, "encrypt") else self.code
        return function

    def _call(self, name: str, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        function = self._function(name)
        given = images.clone()  # code that works in place must not change the caller's photos
        try:
            takes_nonces = _takes_nonces(self.uri, function)
            returned = function(given, nonces=nonces) if takes_nonces else function(given)
        except DdmError:
            raise
        except Exception as error:
            raise DdmError(f"{self.uri}: raised {_one_line(error)}") from None
        return self._checked(returned, images)

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


class ExternalDecrypting(External):
    """Code of others whose receiver can restore the photo."""

    @torch.no_grad()
    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return what the code restores.

        Raises:
            DdmError: the code raises, or what it returns is no images of the same shape in [0, 1].
        """
        return self._call("decrypt", images, nonces).clamp(0, 1)


class ExternalRandomised(External):
    """Code of others that reads nonces: one photo has many obfuscations."""

    def with_key(self, master_key: bytes) -> External:
        """Return the same under another master key; code that knows no key from outside stays as it is.

        Raises:
            DdmError: the code raises, or returns something that does not encrypt.
        """
        if not _has(self.code, "with_key"):
            return self
        try:
            other = self.code.with_key(master_key)
        except Exception as error:
            raise DdmError(f"{self.uri}: with_key raised {_one_line(error)}") from None
        if not _has(other, "encrypt"):
            raise DdmError(
                f"{self.uri}: with_key returned a {type(other).__name__}; expected an object with encrypt"
            )
        return _as_what_it_offers(self.uri, other)


class ExternalKeyed(ExternalDecrypting, ExternalRandomised):
    """Code of others that restores photos, and whose obfuscations depend on the nonce."""


def load_external(uri: str, *, master_key: bytes | None = None) -> External:
    """Return the obfuscator that `uri` names, module:function or models:/name/version, under a master key.

    Modules are looked for in the current folder, too. Code that knows no keys neglects `master_key`.

    Raises:
        DdmError: nothing there, it cannot be imported or loaded, or it takes something else than images.
    """
    if uri.startswith(MODELS):
        from ddm_core.serving.foreign import load_foreign

        return External(uri, load_foreign(uri))
    found = _as_what_it_offers(uri, _import(uri))
    if master_key is not None and isinstance(found, ExternalRandomised):
        return found.with_key(master_key)
    return found


def _as_what_it_offers(uri: str, code: object) -> External:
    offers = External(uri, code).offers
    randomised, decrypts = not {"nonces", "with_key"}.isdisjoint(offers), "decrypt" in offers
    kinds = {
        (False, False): External,
        (False, True): ExternalDecrypting,
        (True, False): ExternalRandomised,
        (True, True): ExternalKeyed,
    }
    return kinds[randomised, decrypts](uri, code)


def _has(code: object, name: str) -> bool:
    """Tell whether an object offers a method; a class is no object yet, and its methods lack one."""
    return not isinstance(code, type) and callable(getattr(code, name, None))


def _import(uri: str) -> object:
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
    if not callable(found) and not _has(found, "encrypt"):
        raise DdmError(f"{uri}: is no function but of type {type(found).__name__}; name one of images")
    return found


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
