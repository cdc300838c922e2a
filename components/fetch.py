"""Component fetch: the raw photos, from the URI and with the digest that the parameters name."""

from kfp.dsl import Dataset, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def fetch(params: dict, raw: Output[Dataset]) -> None:
    """Lay the raw photos into one folder and check their digest."""
    from pathlib import Path

    from ddm_core.artifacts import facts
    from ddm_core.params import FetchParams
    from ddm_core.stages import fetch
    from ddm_core.strict import parse

    result = fetch.run(parse(params, FetchParams, "fetch"), raw=Path(raw.path))
    raw.metadata.update(facts(result))
