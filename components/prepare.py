"""Component prepare: raw photos to squares of one size, splits, shards and a manifest."""

from kfp.dsl import Dataset, Input, Metrics, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def prepare(params: dict, raw: Input[Dataset], prepared: Output[Dataset], counts: Output[Metrics]) -> None:
    """Decode, crop, resize, split and shard the photos."""
    from pathlib import Path

    from ddm_core.artifacts import facts, publish_figures
    from ddm_core.params import PrepareParams
    from ddm_core.stages import prepare
    from ddm_core.strict import parse

    result = prepare.run(
        parse(params, PrepareParams, "prepare"), raw=Path(raw.path), prepared=Path(prepared.path)
    )
    prepared.metadata.update(facts(result))
    counts.metadata.update(publish_figures(result, Path(counts.path)))
