"""The registered model: encoded photos in, encoded photos out, the key by the name of its file only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pandas import DataFrame
from torch import Tensor

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.key_files import read_key_file
from ddm_core.keys import (
    NONCE_BYTES,
    TAG_BYTES,
    check_nonce_tag,
    fresh_nonces,
    generate_key,
    nonce_tag,
)
from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator, Obfuscator
from ddm_core.obfuscators.store import describe, load_obfuscator
from ddm_core.serving.pictures import decode_picture, encode_picture

KEY_FILE_VARIABLE = "DDM_KEY_FILE"
OPERATIONS = ("encrypt", "decrypt")
_BATCH = 64  # photos at a time, so that memory does not grow with the request


class ObfuscatorModel(PythonModel):
    """Encrypts or decrypts photos with the obfuscator that lies in the model's artifacts."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the obfuscator's settings and weights; no key is needed before the first request."""
        folder = Path(context.artifacts["weights"]).parent
        self._description = describe(folder)
        # Requests bring their own key (`with_key`); this one only fills the place and is forgotten.
        placeholder = generate_key() if self._description.keyed else None
        self._obfuscator = load_obfuscator(folder, master_key=placeholder)

    def predict(
        self, context: PythonModelContext, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> DataFrame:
        """Return a table of `image` (PNG) and `nonce` (12-byte nonce and 8-byte tag; empty when keyless).

        `model_input` is a table of `image` (an encoded picture of the model's size; grey or colour becomes
        the model's own) and, to decrypt with a keyed model, the `nonce` that encryption returned. `params`
        are `operation` (encrypt or decrypt) and `key_file` (default: the environment's DDM_KEY_FILE).

        Raises:
            DdmError: unknown operation, unreadable picture or one of another size, no key, wrong key.
        """
        settings = params or {}
        operation = settings.get("operation") or OPERATIONS[0]
        if operation not in OPERATIONS:
            raise DdmError(f"operation: unknown '{operation}'{did_you_mean(operation, OPERATIONS)}")
        obfuscator, key = self._obfuscator, None
        if isinstance(obfuscator, KeyedObfuscator):
            key = _read_key(settings)
            obfuscator = obfuscator.with_key(key)
        results = []
        for start in range(0, len(model_input), _BATCH):
            rows = model_input.iloc[start : start + _BATCH]
            pictures = list(rows["image"])
            if operation == "encrypt":
                images = self._decode(pictures, self._description.image_size, start)
                results.append(_encrypt(obfuscator, images, key))
            else:
                images = self._decode(pictures, self._description.hidden_size, start)
                results.append(_decrypt(obfuscator, images, _read_nonces(rows, start, key)))
        return DataFrame(
            {
                "image": [encode_picture(image) for images, _ in results for image in images],
                "nonce": [nonce for _, nonces in results for nonce in nonces],
            }
        )

    def _decode(self, pictures: Sequence[object], side: int, start: int) -> Tensor:
        shape = self._description.channels, side
        numbered = enumerate(pictures, start)
        return torch.stack([decode_picture(picture, *shape, f"row {row}") for row, picture in numbered])


def _read_key(settings: Mapping[str, Any]) -> bytes:
    key_file = settings.get("key_file") or os.environ.get(KEY_FILE_VARIABLE)
    if not key_file:
        raise DdmError(f"no key: set {KEY_FILE_VARIABLE} or the parameter key_file to the path of a key file")
    return read_key_file(Path(key_file))


def _encrypt(obfuscator: Obfuscator, images: Tensor, key: bytes | None) -> tuple[Tensor, list[bytes]]:
    nonces = fresh_nonces(len(images))
    hidden = obfuscator.encrypt(images, nonces)
    return hidden, [b"" if key is None else nonce + nonce_tag(key, nonce) for nonce in nonces]


def _decrypt(obfuscator: Obfuscator, images: Tensor, tagged: list[bytes]) -> tuple[Tensor, list[bytes]]:
    if not isinstance(obfuscator, DecryptingObfuscator):
        raise DdmError("this model cannot decrypt; load one that can, such as keyed_ddm")
    return obfuscator.decrypt(images, [nonce[:NONCE_BYTES] for nonce in tagged]), tagged


def _read_nonces(rows: DataFrame, start: int, key: bytes | None) -> list[bytes]:
    if key is None:
        return [b""] * len(rows)
    cells = rows["nonce"] if "nonce" in rows else [None] * len(rows)
    return [_checked_nonce(cell, key, f"row {row}") for row, cell in enumerate(cells, start)]


def _checked_nonce(cell: object, key: bytes, where: str) -> bytes:
    if not isinstance(cell, bytes) or len(cell) != NONCE_BYTES + TAG_BYTES:
        expected = NONCE_BYTES + TAG_BYTES
        raise DdmError(f"{where}: decrypting needs the {expected}-byte nonce that encryption returned")
    try:
        check_nonce_tag(key, cell[:NONCE_BYTES], cell[NONCE_BYTES:])
    except DdmError as error:
        raise DdmError(f"{where}: {error}") from None
    return cell
