"""`ddm pipeline VERB`: parses, calls one function, prints its result. A verb imports kfp when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ddm_core.places import local_path
from ddm_core.verb_options import Verbs
from pipelines.options import (
    add_compile_options,
    add_exit_handler_option,
    add_parameter_options,
    read_parameters,
)
from pipelines.server_cli import add_verbs as add_server_verbs

SMALL = Path(__file__).with_name("small.yaml")


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `pipeline` and its own verbs to a command line."""
    summary = "the Kubeflow pipeline: compile, run here, submit, watch"
    parser = verbs.add_parser("pipeline", help=summary, description=summary)
    inner = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_compile(inner)
    _add_components(inner)
    _add_run(inner)
    add_server_verbs(inner)


def _add_compile(verbs: Verbs) -> None:
    summary = "write the pipeline's YAML, for KFP 2.14 or newer"
    parser = verbs.add_parser("compile", help=summary, description=summary)
    parser.set_defaults(run=_compile)
    parser.add_argument(
        "-o", "--output", type=local_path, required=True, metavar="PATH", help="file to write"
    )
    add_parameter_options(parser)
    add_compile_options(parser)
    add_exit_handler_option(parser)


def _add_components(verbs: Verbs) -> None:
    summary = "write every component's YAML, for other pipelines"
    parser = verbs.add_parser("components", help=summary, description=summary)
    parser.set_defaults(run=_components)
    parser.add_argument(
        "-o", "--output", type=local_path, required=True, metavar="PATH", help="folder to write to"
    )
    parser.add_argument("--image", metavar="REF", help="container image, pinned by digest")


def _add_run(verbs: Verbs) -> None:
    summary = "run the whole graph on this machine"
    parser = verbs.add_parser("run", help=summary, description=summary)
    parser.set_defaults(run=_run)
    parser.add_argument("--local", action="store_true", required=True, help="without a cluster")
    parser.add_argument(
        "--runner",
        choices=("subprocess", "docker"),
        default="subprocess",
        help="each task as a process here, or in the image (subprocess)",
    )
    parser.add_argument("--image", metavar="REF", help="for --runner docker (what make image builds)")
    parser.add_argument(
        "-o",
        "--output",
        type=local_path,
        default=Path("build/local"),
        metavar="PATH",
        help="folder (build/local)",
    )
    add_parameter_options(parser, SMALL)
    add_exit_handler_option(parser)


def _compile(options: argparse.Namespace) -> None:
    from pipelines.compile import compile_pipeline

    compile_pipeline(
        read_parameters(options),
        options.output,
        image=options.image,
        gpus=options.gpu,
        nodes=options.nodes,
        resources=options.resources,
        exit_handler=options.exit_handler,
    )
    print(f"{options.output} is written")


def _components(options: argparse.Namespace) -> None:
    from pipelines.compile import compile_components

    for path in compile_components(options.output, image=options.image):
        print(path)


def _run(options: argparse.Namespace) -> None:
    from ddm_core.files import read_json
    from ddm_core.reporting.table import result_table
    from pipelines.local import run_locally

    params = read_parameters(options)
    result = run_locally(
        params,
        options.output,
        runner=options.runner,
        image=options.image,
        exit_handler=options.exit_handler,
    )
    print(result_table(read_json(result.metrics)))
    print(f"\n{result.tasks} tasks, {result.cached} of them from an earlier run", file=sys.stderr)
    print(f"Report: {result.report.resolve()}")
    for model in read_json(result.registration)["models"]:
        print(f"{model['name']} version {model['version']}: {model['reason']}")
