"""MLflow models as obfuscators to be judged: our own become model folders again, others are called."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes, sha256_file, write_bytes
from ddm_core.tracking import connect
from ddm_core.tracking_address import explained

if TYPE_CHECKING:
    import numpy
    from mlflow.models import Model
    from torch import Tensor

IMAGE = "image"  # the column of encoded pictures, as in our own models


def load_foreign(uri: str) -> Callable[[Tensor], Any]:
    """Return the prediction function of the MLflow model `uri` on images [n, c, h, w] in [0, 1].

    A model whose signature has a column `image` gets encoded pictures (PNG); any other gets one float32 numpy
    array.

    Raises:
        DdmError: MLflow cannot be reached, has no such model, it cannot be loaded, or takes something else.
    """
    connect()
    with explained():
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(uri)
    columns = _columns(model.metadata)
    if columns and IMAGE not in columns:
        listed = ", ".join(columns)
        raise DdmError(f"{uri}: takes the columns {listed}; expected a tensor or a column '{IMAGE}'")

    def predict(images: Tensor) -> Any:  # noqa: ANN401 - the caller checks what a foreign model returns
        if columns:
            return _predict_pictures(model.predict, images)
        return model.predict(images.cpu().numpy())

    return predict


def resolve(uri: str) -> tuple[str, str]:
    """Return the address of the version that `uri` names now, and the SHA-256 over its files.

    Raises:
        DdmError: MLflow cannot be reached or has no such model.
    """
    from ddm_core.serving.versions import find_version, versions

    client = connect()
    with explained(), tempfile.TemporaryDirectory() as temporary:
        from mlflow.artifacts import download_artifacts

        if named := re.fullmatch(r"models:/([^/@]+)[@/]([^/@]+)", uri):
            name, which = named.groups()
            if which == "latest":
                which = str(max((int(found.version) for found in versions(client, name)), default=0))
            uri = f"models:/{name}/{find_version(client, name, which).version}"
        place = Path(download_artifacts(uri, dst_path=temporary, tracking_uri=client.tracking_uri))
        files = sorted(path for path in place.rglob("*") if path.is_file())
        lines = (f"{path.relative_to(place).as_posix()} {sha256_file(path)}" for path in files)
        return uri, sha256_bytes("\n".join(lines).encode())


def adopt(uri: str, folder: Path) -> bool:
    """Copy settings and weights into `folder` if the MLflow model `uri` is one of ours; return whether it is.

    So a registered model is attacked with everything an attacker has, its weights above all.

    Raises:
        DdmError: MLflow cannot be reached or has no such model.
    """
    from ddm_core.checkpoints import CONFIGURATION, WEIGHTS

    client = connect()
    with explained(), tempfile.TemporaryDirectory() as temporary:
        from mlflow.artifacts import download_artifacts
        from mlflow.models import Model

        place = Path(download_artifacts(uri, dst_path=temporary, tracking_uri=client.tracking_uri))
        artifacts = _artifacts(Model.load(str(place)))
        ours = [place / artifacts[name] for name in ("configuration", "weights") if name in artifacts]
        if [path.name for path in ours] != [CONFIGURATION, WEIGHTS]:
            return False
        for path in ours:
            write_bytes(folder / path.name, path.read_bytes())
    return True


def _artifacts(model: Model) -> dict[str, str]:
    flavour: Mapping[str, Any] = model.flavors.get("python_function", {})
    return {name: str(entry["path"]) for name, entry in (flavour.get("artifacts") or {}).items()}


def _columns(model: Model) -> list[str]:
    inputs = model.get_input_schema()  # type: ignore[no-untyped-call]
    if inputs is None or inputs.is_tensor_spec():
        return []
    return [str(name) for name in inputs.input_names()]


def _predict_pictures(predict: Callable[[Any], Any], images: Tensor) -> numpy.ndarray:
    import numpy
    from pandas import DataFrame

    from ddm_core.serving.pictures import decode_picture, encode_picture

    pictures = predict(DataFrame({IMAGE: [encode_picture(image.cpu()) for image in images]}))
    if not isinstance(pictures, DataFrame) or IMAGE not in pictures:
        raise TypeError(f"returned no table with a column '{IMAGE}'")
    _, channels, size, _ = images.shape
    decoded = [
        decode_picture(picture, channels, size, f"row {row}") for row, picture in enumerate(pictures[IMAGE])
    ]
    return numpy.stack([image.numpy() for image in decoded])
