"""Component report: everything added up, as figures, a table and a page."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def report(
    fetch: dict,
    prepare: dict,
    train: list,
    recognise: dict,
    attack: dict,
    utility: dict,
    report: dict,
    register: dict,
    prepared: Input[Dataset],
    attacks: Input[list[Artifact]],
    utilities: Input[list[Artifact]],
    histories: Input[list[Artifact]],
    recogniser: Input[Model],
    evidence: Output[Artifact],
    page: Output[HTML],
    table: Output[Markdown],
    headline: Output[Metrics],
) -> None:
    """Add the measurements up: metrics.json and tables as `evidence`, the page, the result table."""
    from pathlib import Path

    from ddm_core.arguments import from_arguments
    from ddm_core.artifacts import publish_report
    from ddm_core.files import joined
    from ddm_core.stages.report import run

    sections = {
        "fetch": fetch,
        "prepare": prepare,
        "train": train,
        "recognise": recognise,
        "attack": attack,
        "utility": utility,
        "report": report,
        "register": register,
    }
    with (
        joined(Path(part.path) for part in attacks) as all_attacks,
        joined(Path(part.path) for part in utilities) as all_utilities,
        joined(Path(part.path) for part in histories) as all_histories,
    ):
        result = run(
            from_arguments(sections),
            prepared=Path(prepared.path),
            attacks=all_attacks,
            utility=all_utilities,
            histories=all_histories,
            recogniser=Path(recogniser.path),
            report=Path(evidence.path),
        )
    digests, figures = publish_report(
        result, page=Path(page.path), table=Path(table.path), headline=Path(headline.path)
    )
    evidence.metadata.update(digests)
    headline.metadata.update(figures)
