"""The registered model: encoded photos in, encoded photos out.

Who starts the model names the key file (`model_config` or DDM_KEY_FILE). A request cannot: its sender may be
a stranger, and must neither choose among the server's files nor send a key that a log could keep.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pandas import DataFrame

from ddm_core.errors import DdmError
from ddm_core.key_files import read_key_ring
from ddm_core.key_ring import KeyRing
from ddm_core.keys import generate_key
from ddm_core.obfuscators.protocol import KeyedObfuscator
from ddm_core.obfuscators.store import describe, load_obfuscator
from ddm_core.photos.model import load_model
from ddm_core.serving import any_size, fixed_size
from ddm_core.serving.parameters import Settings, read_settings

KEY_FILE_VARIABLE = "DDM_KEY_FILE"
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
        if self._description.takes_any_size:
            self._photo_model = load_model(folder)
        else:
            # The keys are read anew for every request; this one only fills the place and is forgotten.
            placeholder = generate_key() if self._description.keyed else None
            self._obfuscator = load_obfuscator(folder, master_key=placeholder)
        if self._description.keyed and (key_file := self._key_file()):
            read_key_ring(key_file)

    def predict(
        self, context: PythonModelContext, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> DataFrame:
        """Return a table of `image` and `nonce`.

        `model_input` is a table of `image`, encoded pictures. A model for photos of any size makes of them
        what `ddm encrypt` and `ddm decrypt` do, and every nonce is empty. Any other takes pictures of its own
        size, grey or colour; encryption returns the 12-byte nonce with its 8-byte tag (empty where there is
        no key), and decryption wants it back in `nonce`. The key file's newest key encrypts, all of them
        decrypt. `params` are the fields of `parameters.Settings`.

        Raises:
            RequestError: unknown parameter value, unreadable picture or one of another size, no key, wrong
                key.
        """
        try:
            pictures, nonces = self._answer(model_input, read_settings(params or {}))
        except DdmError as error:
            raise RequestError(str(error)) from None
        return DataFrame({"image": pictures, "nonce": nonces})

    def _answer(self, table: DataFrame, settings: Settings) -> tuple[list[bytes], list[bytes]]:
        if self._description.takes_any_size:
            return any_size.answer(self._photo_model, self._read_ring(), table, settings)
        ring = self._read_ring() if isinstance(self._obfuscator, KeyedObfuscator) else None
        return fixed_size.answer(self._obfuscator, self._description, ring, table, settings)

    def _key_file(self) -> Path | None:
        named = self._configured_key_file or os.environ.get(KEY_FILE_VARIABLE)
        return Path(named) if named else None

    def _read_ring(self) -> KeyRing:
        key_file = self._key_file()
        if key_file is None:
            raise DdmError(
                f"no key: set {KEY_FILE_VARIABLE} to the path of a key file where the model runs, "
                'or load it with model_config={"key_file": ...}'
            )
        try:
            return read_key_ring(key_file)
        except DdmError as error:
            _log.error("%s", error)  # whoever runs the model may know the path, its clients need not
            raise DdmError("the key file of this model cannot be used; the model's log says why") from None
