"""Component fetch: the raw photos, from the URI and with the digest that the parameters name."""

from kfp.dsl import Dataset, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def fetch(params: dict, raw: Output[Dataset], pinned: bool = False) -> None:
    """Lay the raw photos into one folder and check their digest.

    `pinned`: refuse parameters that do not name their photos, for a task that is taken from a cache.
    """
    from pathlib import Path

    from ddm_core.artifacts import facts
    from ddm_core.fetch_params import FetchParams, require_pinned
    from ddm_core.stages import fetch
    from ddm_core.strict import parse

    wanted = require_pinned(parse(params, FetchParams, "fetch"), pinned=pinned)
    result = fetch.run(wanted, raw=Path(raw.path))
    raw.metadata.update(facts(result))
