"""MLflow models as obfuscators of the grid: which version an address names now, and what its files are."""

from __future__ import annotations

import dataclasses

from ddm_core.benchmark.settings import BenchmarkParams
from ddm_core.obfuscator_params import ExternalParams

MODELS = "models:/"


def resolved(params: BenchmarkParams) -> BenchmarkParams:
    """Return the grid with the chosen MLflow models' versions in place of aliases, and their files' digest.

    So a cell depends on the very files that it judges: an alias that has moved is judged anew.

    Raises:
        DdmError: MLflow cannot be reached, or has no such model.
    """
    train = dict(params.train)
    for name in params.obfuscators:
        settings = train[name]
        if isinstance(settings, ExternalParams) and settings.uri.startswith(MODELS):
            from ddm_core.serving.foreign import resolve

            uri, sha256 = resolve(settings.uri)
            train[name] = dataclasses.replace(settings, uri=uri, sha256=sha256)
    return dataclasses.replace(params, train=train)
