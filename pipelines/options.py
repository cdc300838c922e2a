"""Command-line options that several `ddm pipeline` verbs share. Light: imports neither kfp nor yaml."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.places import local_path
from ddm_core.verb_options import add_path

if TYPE_CHECKING:
    from ddm_core.params import Params


def add_parameter_options(parser: argparse.ArgumentParser, params_file: Path | None = None) -> None:
    """Add --params, --params-file (default `params_file`) and --param: where a run's settings come from."""
    add_path(parser, "--params", "params.yaml", "the parameter file")
    parser.add_argument(
        "--params-file",
        type=local_path,
        default=params_file,
        metavar="PATH",
        help="YAML of the same shape that changes some of them "
        f"({f'pipelines/{params_file.name}' if params_file else 'none'})",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="changes one more, such as train.keyed_ddm.steps=2000; may be repeated",
    )
    parser.set_defaults(pin=False)  # not every verb has --pin


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """Add --image, --gpu, --nodes, --resources and --pin: what the tasks run on, and on which photos."""
    parser.add_argument("--image", metavar="REF", help="container image of every task, pinned by digest")
    parser.add_argument(
        "--gpu", type=int, default=0, metavar="N", help="GPUs of a training; other tasks get one (0)"
    )
    parser.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="nodes that train together, by Kubeflow Trainer (1)"
    )
    parser.add_argument(
        "--resources",
        type=local_path,
        metavar="PATH",
        help="requests, limits, retries (pipelines/resources.yaml)",
    )
    parser.add_argument(
        "--pin",
        action="store_true",
        help="name the photos that are there now by digest or commit, so that no task runs twice for them",
    )


def add_exit_handler_option(parser: argparse.ArgumentParser) -> None:
    """Add --no-exit-handler, as `exit_handler`."""
    parser.add_argument(
        "--no-exit-handler",
        dest="exit_handler",
        action="store_false",
        help="leave out the task that tells of a failure, for a KFP that cannot run loops inside it",
    )


def read_parameters(options: argparse.Namespace) -> Params:
    """Return the settings that `add_parameter_options` describe, with `--pin` the photos named.

    Raises:
        DdmError: a file or a setting is wrong, or the photos to be named cannot be read.
    """
    from pipelines.arguments import load_params

    params = load_params(options.params, options.params_file, options.param)
    return _pinned(params) if options.pin else params


def _pinned(params: Params) -> Params:
    from pipelines.pinning import pin_photos

    fetch = pin_photos(params.fetch)
    for name, value in dataclasses.asdict(fetch).items():
        if value != getattr(params.fetch, name):
            shown = ", ".join(value) if isinstance(value, tuple) else value
            print(f"ddm: pinned: fetch.{name}={shown}", file=sys.stderr)
    return dataclasses.replace(params, fetch=fetch)
