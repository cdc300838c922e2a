"""Component prepare: the decoded shares to splits, shards and a manifest."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    params: dict,
    raw: Input[Dataset],
    shares: Input[list[Artifact]],
    prepared: Output[Dataset],
    counts: Output[Metrics],
) -> None:
    """Merge the decoded shares: split and shard the photos."""
    from pathlib import Path

    from ddm_core.artifacts import facts, publish_figures
    from ddm_core.files import joined
    from ddm_core.params import PrepareParams
    from ddm_core.stages import prepare
    from ddm_core.strict import parse

    with joined(Path(share.path) for share in shares) as parts:
        result = prepare.merge(
            parse(params, PrepareParams, "prepare"),
            raw=Path(raw.path),
            prepared=Path(prepared.path),
            parts=parts,
        )
    prepared.metadata.update(facts(result))
    counts.metadata.update(publish_figures(result, Path(counts.path)))
