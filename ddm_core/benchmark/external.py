"""MLflow models as obfuscators of the grid: which version an address names now, and what its files are."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

from ddm_core.benchmark.settings import BenchmarkParams
from ddm_core.files import sha256_bytes, sha256_file
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
            train[name] = _resolved(settings)
    return dataclasses.replace(params, train=train)


def _resolved(settings: ExternalParams) -> ExternalParams:
    from ddm_core.serving.versions import find_version, versions
    from ddm_core.tracking import connect
    from ddm_core.tracking_address import explained

    client, uri = connect(), settings.uri
    if named := re.fullmatch(r"models:/([^/@]+)(?:@|/)([^/@]+)", uri):
        name, which = named.groups()
        with explained():
            if which == "latest":
                which = str(max(int(version.version) for version in versions(client, name)))
            uri = f"{MODELS}{name}/{find_version(client, name, which).version}"
    with explained(), tempfile.TemporaryDirectory() as temporary:
        from mlflow.artifacts import download_artifacts

        place = Path(download_artifacts(uri, dst_path=temporary, tracking_uri=client.tracking_uri))
        digest = _digest(place)
    return dataclasses.replace(settings, uri=uri, sha256=digest)


def _digest(folder: Path) -> str:
    """Return the SHA-256 over a folder's files, names and contents."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = (f"{path.relative_to(folder).as_posix()} {sha256_file(path)}" for path in files)
    return sha256_bytes("\n".join(lines).encode())
