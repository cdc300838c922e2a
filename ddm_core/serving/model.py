"""The registered model: encoded photos in, encoded photos out.

Who starts the model names the key file (`model_config` or DDM_KEY_FILE). A request cannot: its sender may be
a stranger, and must neither choose among the server's files nor send a key that a log could keep.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pandas import DataFrame
from torch import Tensor

from ddm_core.errors import DdmError
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
from ddm_core.serving.parameters import Settings, read_settings
from ddm_core.serving.pictures import decode_picture, encode_picture

KEY_FILE_VARIABLE = "DDM_KEY_FILE"
_BATCH = 64  # photos at a time, so that memory does not grow with the request
_log = logging.getLogger(__name__)


class RequestError(DdmError, MlflowException):
    """A request that cannot be served.

    As MLflow's own exception its one line reaches an HTTP client; any other would go there as a traceback,
    with the server's paths.
    """

    def __init__(self, message: str) -> None:
        MlflowException.__init__(self, message, error_code=INVALID_PARAMETER_VALUE)


class ObfuscatorModel(PythonModel):
    """Encrypts or decrypts photos with the obfuscator that lies in the model's artifacts."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the obfuscator's settings and weights, and try the key file if one is named already.

        Raises:
            DdmError: damaged files, or a key file that cannot be used.
        """
        folder = Path(context.artifacts["weights"]).parent
        self._description = describe(folder)
        self._configured_key_file = str((context.model_config or {}).get("key_file") or "")
        # The key is read anew for every request; this one only fills the place and is forgotten.
        placeholder = generate_key() if self._description.keyed else None
        self._obfuscator = load_obfuscator(folder, master_key=placeholder)
        if self._description.keyed and (key_file := self._key_file()):
            read_key_file(key_file)

    def predict(
        self, context: PythonModelContext, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> DataFrame:
        """Return a table of `image` and `nonce` (12-byte nonce and 8-byte tag; empty when keyless).

        `model_input` is a table of `image` (an encoded picture of the model's size; grey or colour becomes
        the model's own) and, to decrypt with a keyed model, the `nonce` that encryption returned. `params`
        are the fields of `parameters.Settings`.

        Raises:
            RequestError: unknown parameter value, unreadable picture or one of another size, no key, wrong
                key.
        """
        try:
            return self._answer(model_input, read_settings(params or {}))
        except DdmError as error:
            raise RequestError(str(error)) from None

    def _answer(self, model_input: DataFrame, settings: Settings) -> DataFrame:
        obfuscator, key = self._obfuscator, None
        if isinstance(obfuscator, KeyedObfuscator):
            key = self._read_key()
            obfuscator = obfuscator.with_key(key)
        results = []
        for start in range(0, len(model_input), _BATCH):
            rows = model_input.iloc[start : start + _BATCH]
            pictures = list(rows["image"])
            if settings.operation == "encrypt":
                images = self._decode(pictures, self._description.image_size, start)
                results.append(_encrypt(obfuscator, images, key))
            else:
                images = self._decode(pictures, self._description.hidden_size, start)
                results.append(_decrypt(obfuscator, images, _read_nonces(rows, start, key)))
        encoding = settings.image_format, settings.quality
        return DataFrame(
            {
                "image": [encode_picture(image, *encoding) for images, _ in results for image in images],
                "nonce": [nonce for _, nonces in results for nonce in nonces],
            }
        )

    def _key_file(self) -> Path | None:
        named = self._configured_key_file or os.environ.get(KEY_FILE_VARIABLE)
        return Path(named) if named else None

    def _read_key(self) -> bytes:
        key_file = self._key_file()
        if key_file is None:
            raise DdmError(
                f"no key: set {KEY_FILE_VARIABLE} to the path of a key file where the model runs, "
                'or load it with model_config={"key_file": ...}'
            )
        try:
            return read_key_file(key_file)
        except DdmError as error:
            _log.error("%s", error)  # whoever runs the model may know the path, its clients need not
            raise DdmError("the key file of this model cannot be used; the model's log says why") from None

    def _decode(self, pictures: Sequence[object], side: int, start: int) -> Tensor:
        shape = self._description.channels, side
        numbered = enumerate(pictures, start)
        return torch.stack([decode_picture(picture, *shape, f"row {row}") for row, picture in numbered])


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
