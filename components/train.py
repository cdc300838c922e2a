"""Component train: one obfuscator of the parameters' `train` list."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def train(
    obfuscator: dict,
    prepared: Input[Dataset],
    model: Output[Model],
    history: Output[Artifact],
    process_count: int = 1,
) -> None:
    """Train one obfuscator, one process a GPU; `model` and `history` get a folder of its name."""
    import os
    from pathlib import Path

    from ddm_core import processes
    from ddm_core.artifacts import facts
    from ddm_core.checkpoint_options import options_for
    from ddm_core.params import parse_obfuscator

    name = obfuscator.pop("name")
    result = processes.run(
        parse_obfuscator(obfuscator, f"train: {name}"),
        name=name,
        prepared=Path(prepared.path),
        model=Path(model.path) / name,
        history=Path(history.path) / name,
        checkpoints=options_for(os.environ.get("DDM_CHECKPOINTS")),
        processes=process_count,
    )
    model.metadata.update(facts(result), obfuscator=name, method=obfuscator["method"])
