"""Component join: the results that a loop collected, as one folder."""

from kfp.dsl import Artifact, Input, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def join(parts: Input[list[Artifact]], whole: Output[Artifact]) -> None:
    """Lay the folders of one loop over each other; no two may hold the same result."""
    from pathlib import Path

    from ddm_core.files import join_folders

    join_folders([Path(part.path) for part in parts], Path(whole.path))
