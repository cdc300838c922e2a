"""Command-line options that several `ddm pipeline` verbs share. Light: imports neither kfp nor yaml."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.places import local_path

if TYPE_CHECKING:
    from ddm_core.params import Params


def add_parameter_options(parser: argparse.ArgumentParser, params_file: Path | None = None) -> None:
    """Add --params, --params-file (default `params_file`) and --param: where a run's settings come from."""
    parser.add_argument(
        "--params",
        type=local_path,
        default=Path("params.yaml"),
        metavar="PATH",
        help="the parameter file (params.yaml)",
    )
    parser.add_argument(
        "--params-file",
        type=local_path,
        default=params_file,
        metavar="PATH",
        help=f"YAML of the same shape that changes some of them ({params_file or 'none'})",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="changes one more, such as train.keyed_ddm.steps=2000; may be repeated",
    )


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """Add --image, --gpu and --resources: what the tasks run on."""
    parser.add_argument("--image", metavar="REF", help="container image of every task, pinned by digest")
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="GPUs of a task that uses one (0)")
    parser.add_argument(
        "--resources",
        type=local_path,
        metavar="PATH",
        help="requests, limits, retries (pipelines/resources.yaml)",
    )


def read_parameters(options: argparse.Namespace) -> Params:
    """Return the settings that `add_parameter_options` describe.

    Raises:
        DdmError: a file or a setting is wrong.
    """
    from pipelines.arguments import load_params

    return load_params(options.params, options.params_file, options.param)
