"""Compiles the pipeline and its components to YAML: the same input gives the same bytes."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.files import write_text
from ddm_core.params import Params

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

PIPELINE_NAME = "ddm"


def compile_pipeline(
    params: Params,
    output: Path,
    *,
    image: str | None = None,
    gpus: int = 0,
    nodes: int = 1,
    cache: bool = True,
    resources: Path | None = None,
    exit_handler: bool = True,
    pinned: bool | None = None,
) -> None:
    """Write the pipeline's YAML: the graph, then a second document with what is Kubernetes's.

    `params` are the defaults of its parameters, `nodes` the nodes that train one obfuscator, `resources` a
    file in place of resources.yaml. `gpus`, `exit_handler` and `pinned` as in `build_pipeline`.

    Raises:
        DdmError: no image reference, a negative number of GPUs, no node, or a mistake in the resources.
    """
    from pipelines.ddm_pipeline import build_pipeline
    from pipelines.resources import load_resources

    check_image(image)
    if gpus < 0:
        raise DdmError(f"--gpu {gpus}: must not be negative; 0 is CPU only")
    if nodes < 1:
        raise DdmError(f"--nodes {nodes}: must be at least 1; 1 trains in the task's own pod")
    loaded = load_resources(resources)
    pipeline = build_pipeline(
        params,
        image=image,
        resources=loaded,
        gpus=gpus,
        nodes=nodes,
        cache=cache,
        parallelism=loaded.parallelism,
        exit_handler=exit_handler,
        pinned=pinned,
    )
    _write(pipeline, output)


def compile_components(folder: Path, *, image: str | None = None) -> list[Path]:
    """Write every component to `folder`/NAME.yaml, for `load_component_from_file`; return the files.

    Raises:
        DdmError: `image` is no image reference.
    """
    from kfp.dsl.base_component import BaseComponent

    from pipelines import ddm_pipeline

    check_image(image)
    files = []
    for component in vars(ddm_pipeline).values():
        if isinstance(component, BaseComponent):
            files.append(folder / f"{component.name.replace('-', '_')}.yaml")
            _write(_on_image(component, image), files[-1])
    return sorted(files)


def check_image(image: str | None) -> None:
    """Raise a DdmError if there is an image and its name has not the form of a container image's."""
    if image is None:
        return
    reference, at, digest = image.partition("@")
    if not re.fullmatch(r"[\w.:/-]+", reference) or (at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)):
        raise DdmError(f"--image {image}: is no image reference; expected REGISTRY/NAME@sha256:… or :TAG")


def _on_image(component: BaseComponent, image: str | None) -> BaseComponent:
    if image is None:
        return component
    moved = copy.deepcopy(component)
    moved.component_spec.implementation.container.image = image
    return moved


def _write(pipeline: BaseComponent, output: Path) -> None:
    from kfp.compiler import Compiler

    compile_to: Callable[..., None] = Compiler().compile
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.yaml"  # the compiler judges a name's ending
        compile_to(pipeline_func=pipeline, package_path=str(made))
        # The header repeats the defaults, in an order that differs from process to process.
        write_text(output, re.sub(r"(?m)^(# +\w+: \w+) \[Default: .*\]$", r"\1", made.read_text()))
