"""Component recognise: the recogniser trained on clean photos."""

from kfp.dsl import ClassificationMetrics, Dataset, Input, Metrics, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def recognise(
    params: dict,
    prepared: Input[Dataset],
    recogniser: Output[Model],
    accuracy: Output[Metrics],
    confusion: Output[ClassificationMetrics],
) -> None:
    """Train the recogniser on clean photos and test it on clean photos."""
    from pathlib import Path

    from ddm_core.artifacts import facts, publish_confusion, publish_figures
    from ddm_core.params import RecogniseParams
    from ddm_core.stages import recognise
    from ddm_core.strict import parse

    folder = Path(recogniser.path)
    result = recognise.run(
        parse(params, RecogniseParams, "recognise"), prepared=Path(prepared.path), recogniser=folder
    )
    recogniser.metadata.update(facts(result))
    accuracy.metadata.update(publish_figures(result, Path(accuracy.path)))
    publish_confusion(folder, Path(confusion.path), confusion.log_confusion_matrix)
