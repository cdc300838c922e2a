"""Component train_job: what `train` does, on several nodes, as a TrainJob of Kubeflow Trainer."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def train_job(
    obfuscator: dict,
    settings: dict,
    prepared: Input[Dataset],
    model: Output[Model],
    history: Output[Artifact],
) -> None:
    """Follow the TrainJob that trains one obfuscator; `model` and `history` get a folder of its name."""
    from pathlib import Path

    from ddm_core.artifacts import facts
    from ddm_core.params import parse_obfuscator
    from ddm_core.strict import parse
    from ddm_core.trainjob import run
    from ddm_core.trainjob.settings import TrainJobSettings

    name = obfuscator.pop("name")
    result = run.run(
        parse_obfuscator(obfuscator, f"train: {name}"),
        parse(settings, TrainJobSettings, "train_job: settings"),
        name=name,
        prepared=Path(prepared.path),
        model=Path(model.path) / name,
        history=Path(history.path) / name,
    )
    model.metadata.update(facts(result), obfuscator=name, method=obfuscator["method"])
