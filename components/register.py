"""Component register: the gate; only models that survived every attack become champion."""

from kfp.dsl import Artifact, Input, Markdown, Metrics, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def register(
    params: dict,
    evidence: Input[Artifact],
    models: Input[list[Model]],
    registration: Output[Artifact],
    verdict: Output[Markdown],
    checks: Output[Metrics],
) -> None:
    """Judge, register and promote the models that the parameters name."""
    from pathlib import Path

    from ddm_core.artifacts import publish_standings
    from ddm_core.files import joined
    from ddm_core.params import RegisterParams
    from ddm_core.stages import register
    from ddm_core.strict import parse

    with joined(Path(model.path) for model in models) as folder:
        result = register.run(
            parse(params, RegisterParams, "register"),
            metrics=Path(evidence.path) / "metrics.json",
            models=folder,
            registration=Path(registration.path),
        )
    figures = publish_standings(result, verdict=Path(verdict.path), checks=Path(checks.path))
    registration.metadata.update(figures)
    checks.metadata.update(figures)
