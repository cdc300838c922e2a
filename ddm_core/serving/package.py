"""A candidate as an MLflow model folder: code, safetensors, signature, requirements, card; no pickle."""

from __future__ import annotations

import io
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.files import write_text
from ddm_core.gate import measured
from ddm_core.obfuscators.store import Description, describe
from ddm_core.serving.candidate import Candidate, decibels, identity_tags, percent, summary

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature
    from pandas import DataFrame

CARD = "model_card.md"
_PACKAGE = Path(__file__).parents[1]
_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
# What `serving.model` imports, directly or through the modules beside it.
_REQUIREMENTS = (
    "mlflow", "torch", "numpy", "pandas", "pillow", "cryptography", "safetensors", "pyyaml",
)  # fmt: skip


def write_model_folder(candidate: Candidate, folder: Path, model: Model) -> None:
    """Write the model into `folder` (new); `model` carries its MLflow id.

    The code travels with the weights (`code_paths`): this package is on no index that a server could
    install it from, and photos hidden by a version must be restored by the very code that hid them.
    """
    import mlflow.pyfunc

    from ddm_core.checkpoints import CONFIGURATION, WEIGHTS

    description = describe(candidate.folder)
    mlflow.pyfunc.save_model(
        folder,
        python_model=Path(__file__).with_name("entry.py"),
        artifacts={
            "configuration": str(candidate.folder / CONFIGURATION),
            "weights": str(candidate.folder / WEIGHTS),
        },
        code_paths=[str(_PACKAGE)],
        pip_requirements=requirements(),
        signature=_signature(),
        input_example=(_example(description), {"operation": "encrypt"}),
        metadata={"obfuscator": candidate.obfuscator, **identity_tags(candidate)},
        mlflow_model=model,
    )
    write_text(folder / CARD, model_card(candidate, description))


def requirements() -> list[str]:
    """Return exact versions, without the local part (`+cpu`) that no index has."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _REQUIREMENTS]


def model_card(candidate: Candidate, description: Description) -> str:
    """Return the model card as Markdown."""
    import jinja2

    # A name that the template misspells is an error, not an empty place. Markdown: nothing to escape.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_TEMPLATE.read_text()).render(
        candidate=candidate,
        description=description,
        summary=summary(candidate),
        attackers=list(_section(candidate, "attacks")),
        channels=list(_section(candidate, "utility")),
        measured=lambda *path: measured(candidate.evidence, *path),
        percent=percent,
        decibels=decibels,
    )


def _section(candidate: Candidate, name: str) -> dict[str, Any]:
    section = candidate.evidence.get(name)
    return section if isinstance(section, dict) else {}


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    binary, text = DataType.binary, DataType.string
    return ModelSignature(
        inputs=Schema([ColSpec(binary, "image"), ColSpec(binary, "nonce", required=False)]),
        outputs=Schema([ColSpec(binary, "image"), ColSpec(binary, "nonce")]),
        params=ParamSchema([ParamSpec("operation", text, "encrypt"), ParamSpec("key_file", text, "")]),
    )


def _example(description: Description) -> DataFrame:
    """Return a grey ramp: a picture of the right size that shows nobody."""
    from pandas import DataFrame
    from PIL import Image

    size = description.image_size
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).save(buffer, "PNG")
    return DataFrame({"image": [buffer.getvalue()]})
