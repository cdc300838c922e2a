"""Component attack: one attacker against one obfuscator."""

from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def attack(
    params: dict,
    attacker: str,
    prepared: Input[Dataset],
    model: Input[Model],
    recogniser: Input[Model],
    result: Output[Artifact],
    accuracy: Output[Metrics],
    confusion: Output[ClassificationMetrics],
) -> None:
    """Let one attacker loose on one obfuscator; `result` gets OBFUSCATOR/ATTACKER."""
    from pathlib import Path

    from ddm_core.artifacts import facts, publish_confusion, publish_figures
    from ddm_core.params import AttackParams
    from ddm_core.stages import attack
    from ddm_core.strict import parse

    obfuscator = model.metadata["obfuscator"]
    folder = Path(result.path) / obfuscator / attacker
    measured = attack.run(
        parse(params, AttackParams, "attack"),
        attacker=attacker,
        prepared=Path(prepared.path),
        model=Path(model.path) / obfuscator,
        recogniser=Path(recogniser.path),
        result=folder,
    )
    publish_confusion(folder, Path(confusion.path), confusion.log_confusion_matrix)
    result.metadata.update(facts(measured))
    accuracy.metadata.update(publish_figures(measured, Path(accuracy.path)))
