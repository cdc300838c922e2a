"""Component prepare_share: one share of the photos decoded; prepare merges the shares."""

from kfp.dsl import Artifact, Dataset, Input, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def prepare_share(params: dict, share: str, raw: Input[Dataset], parts: Output[Artifact]) -> None:
    """Decode one share, such as 0/4, of the raw photos."""
    from pathlib import Path

    from ddm_core.artifacts import facts
    from ddm_core.data.parts_folder import parse_share
    from ddm_core.params import PrepareParams
    from ddm_core.stages import prepare
    from ddm_core.strict import parse

    folder = Path(parts.path)
    result = prepare.run_share(
        parse(params, PrepareParams, "prepare"),
        share=parse_share(share),
        raw=Path(raw.path),
        prepared=folder.with_name("prepared"),
        parts=folder,
    )
    parts.metadata.update(facts(result))
