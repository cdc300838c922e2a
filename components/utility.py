"""Component utility: what the receiver of one obfuscator's photos gets, channel by channel."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def utility(
    params: dict,
    prepared: Input[Dataset],
    model: Input[Model],
    recogniser: Input[Model],
    result: Output[Artifact],
    quality: Output[Metrics],
) -> None:
    """Measure one obfuscator's picture quality and recognisability; `result` gets a folder of its name."""
    from pathlib import Path

    from ddm_core.artifacts import facts, publish_figures
    from ddm_core.params import UtilityParams
    from ddm_core.stages import utility
    from ddm_core.strict import parse

    obfuscator = model.metadata["obfuscator"]
    measured = utility.run(
        parse(params, UtilityParams, "utility"),
        prepared=Path(prepared.path),
        model=Path(model.path) / obfuscator,
        recogniser=Path(recogniser.path),
        result=Path(result.path) / obfuscator,
    )
    result.metadata.update(facts(measured))
    quality.metadata.update(publish_figures(measured, Path(quality.path)))
