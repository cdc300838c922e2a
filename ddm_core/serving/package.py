"""A candidate as an MLflow model folder: code, safetensors, variants, signature, card; no pickle."""

from __future__ import annotations

import dataclasses
import io
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.files import write_text
from ddm_core.gate import measured
from ddm_core.learned_params import LEARNED
from ddm_core.obfuscators.store import Description, build_networks, describe
from ddm_core.serving.candidate import Candidate, decibels, identity_tags, percent, summary
from ddm_core.serving.parameters import Settings

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature
    from pandas import DataFrame

CARD = "model_card.md"
CARD_PAGE = "model_card.html"
VARIANTS = "variants"
_PACKAGE = Path(__file__).parents[1]
_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
_PAGE_TEMPLATE = Path(__file__).with_name("model_card.html.jinja")
# What `serving.model` imports, directly or through the modules beside it.
_REQUIREMENTS = (
    "mlflow", "torch", "numpy", "pandas", "pillow", "cryptography", "safetensors", "pyyaml", "reedsolo",
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
        model_config={"key_file": ""} if description.keyed else None,  # what may be set on loading
        metadata={"obfuscator": candidate.obfuscator, **identity_tags(candidate)},
        mlflow_model=model,
    )
    _write_variants(candidate, description, folder / VARIANTS)
    card = model_card(candidate, description)
    write_text(folder / CARD, card)
    write_text(folder / CARD_PAGE, card_page(card, candidate.name))


def _write_variants(candidate: Candidate, description: Description, folder: Path) -> None:
    from ddm_core.checkpoints import WEIGHTS, load_weights
    from ddm_core.obfuscators.ddm import DdmNetworks
    from ddm_core.obfuscators.keyed_networks import KeyedNetworks
    from ddm_core.serving.variants import write_variants

    if not has_networks(description):
        return
    networks = build_networks(description)
    assert isinstance(networks, DdmNetworks | KeyedNetworks)
    load_weights(networks, candidate.folder / WEIGHTS)
    write_variants(networks.eval().requires_grad_(False), description.channels, folder)


def requirements() -> list[str]:
    """Return exact versions, without the local part (`+cpu`) that no index has."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _REQUIREMENTS]


def model_card(candidate: Candidate, description: Description) -> str:
    """Return the model card as Markdown."""
    import jinja2

    # A name that the template misspells is an error, not an empty place. Markdown: nothing to escape.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    hidden = description.hidden_size
    return environment.from_string(_TEMPLATE.read_text()).render(
        candidate=candidate,
        description=description,
        trained_on=dataclasses.asdict(description.trained_on) if description.trained_on else {},
        judged_on=candidate.dataset,
        hidden_pixels=f"{hidden}x{hidden}",
        summary=summary(candidate),
        variants=has_networks(description),
        cells=_cell_sides(description),
        attackers=list(_section(candidate, "attacks")),
        channels=list(_section(candidate, "utility")),
        measured=lambda *path: measured(candidate.evidence, *path),
        percent=percent,
        decibels=decibels,
    )


def has_networks(description: Description) -> bool:
    """Return whether a method was trained; only then there is something to export."""
    return isinstance(description.params, LEARNED)


def _cell_sides(description: Description) -> dict[str, int]:
    from ddm_core.serving.variants import cell_sides

    return cell_sides(build_networks(description)) if has_networks(description) else {}


def card_page(card: str, title: str) -> str:
    """Return the model card as one self-contained HTML page; tags in its text are shown, not obeyed."""
    import jinja2
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    template = environment.from_string(_PAGE_TEMPLATE.read_text())
    return template.render(title=title, body=Markup(body))


def _section(candidate: Candidate, name: str) -> dict[str, Any]:
    section = candidate.evidence.get(name)
    return section if isinstance(section, dict) else {}


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    binary, text, defaults = DataType.binary, DataType.string, Settings()
    return ModelSignature(
        inputs=Schema([ColSpec(binary, "image"), ColSpec(binary, "nonce", required=False)]),
        outputs=Schema([ColSpec(binary, "image"), ColSpec(binary, "nonce")]),
        params=ParamSchema(
            [
                ParamSpec("operation", text, defaults.operation),
                ParamSpec("image_format", text, defaults.image_format),
                ParamSpec("quality", DataType.long, defaults.quality),
            ]
        ),
    )


def _example(description: Description) -> DataFrame:
    """Return a grey ramp: a picture of the right size that shows nobody."""
    from pandas import DataFrame
    from PIL import Image

    size = description.image_size
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).save(buffer, "PNG")
    return DataFrame({"image": [buffer.getvalue()]})
