"""The verbs of `ddm pipeline` that speak to a server: each parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.places import local_path
from ddm_core.verb_options import Verbs
from pipelines.options import (
    add_compile_options,
    add_exit_handler_option,
    add_parameter_options,
    read_parameters,
)

if TYPE_CHECKING:
    from pipelines.server import Server


def add_verbs(verbs: Verbs) -> None:
    """Add submit, status, logs and terminate."""
    _add_submit(verbs)

    status = _run_verb(verbs, "status", _status, "tell a run's state and that of its tasks")
    status.add_argument("--json", action="store_true", help="as JSON")

    logs = _run_verb(verbs, "logs", _logs, "print what a run's tasks wrote, those that failed first")
    logs.add_argument("--task", metavar="NAME", help="one task, such as report or train/keyed_ddm (all)")
    logs.add_argument("--follow", action="store_true", help="go on until the run ends")
    _add_interval(logs)

    _run_verb(verbs, "terminate", _terminate, "end a run")


def _add_submit(verbs: Verbs) -> None:
    summary = "start a run on a Kubeflow Pipelines server"
    submit = verbs.add_parser("submit", help=summary, description=summary)
    submit.set_defaults(run=_submit)
    add_parameter_options(submit)
    add_compile_options(submit)
    add_exit_handler_option(submit)
    submit.add_argument("--experiment", default="ddm", metavar="NAME", help="made if it is new (ddm)")
    submit.add_argument("--run-name", metavar="NAME", help="how the UI calls the run (ddm and the time)")
    submit.add_argument("--no-cache", action="store_true", help="run every task anew")
    submit.add_argument("--pipeline-root", metavar="URI", help="where artifacts go (the server's own)")
    submit.add_argument("--service-account", metavar="NAME", help="whom the pods run as (the server's own)")
    submit.add_argument("--recurring", metavar="CRON", help="run at these times, such as '30 4 * * 1'")
    submit.add_argument("--wait", action="store_true", help="wait for the end; fail when the run fails")
    submit.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="with --wait: wait no longer")
    _add_interval(submit)
    _add_connection_options(submit)


def _run_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(run=run)
    parser.add_argument("run_id", metavar="RUN", help="the run's id, as submit prints it")
    _add_connection_options(parser)
    return parser


def _add_connection_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "connection",
        "Without a credential file: KF_PIPELINES_TOKEN, then KF_PIPELINES_COOKIE, then the pod's own token.",
    )
    group.add_argument(
        "--host", metavar="URL", help="the server (KF_PIPELINES_ENDPOINT; in a cluster its own)"
    )
    group.add_argument(
        "--ui-host", metavar="URL", help="where people look (KF_PIPELINES_UI_ENDPOINT; --host)"
    )
    group.add_argument("--namespace", metavar="NAME", help="yours, on a server for many users")
    credential = group.add_mutually_exclusive_group()
    credential.add_argument("--token-file", type=local_path, metavar="PATH", help="file with a bearer token")
    credential.add_argument(
        "--cookie-file", type=local_path, metavar="PATH", help="file with a login's NAME=VALUE"
    )
    group.add_argument(
        "--ca-file", type=local_path, metavar="PATH", help="PEM of the CA that signed the server's"
    )


def _add_interval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval", type=_seconds, default=5, metavar="SECONDS", help="between two looks at the run (5)"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds above 0")
    return seconds


def _connect(options: argparse.Namespace) -> Server:
    from pipelines.server import connect

    return connect(
        options.host,
        ui_host=options.ui_host,
        namespace=options.namespace,
        token_file=options.token_file,
        cookie_file=options.cookie_file,
        ca_file=options.ca_file,
    )


def _submit(options: argparse.Namespace) -> None:
    from pipelines.arguments import load_params
    from pipelines.submit import RunRequest, submit
    from pipelines.watch import wait

    if options.recurring and options.wait:
        raise DdmError("--wait waits for one run, and --recurring makes many; leave one of them out")
    if options.timeout and not options.wait:
        raise DdmError("--timeout bounds the waiting; pass --wait too")
    request = RunRequest(
        defaults=load_params(options.params),
        params=read_parameters(options),
        experiment=options.experiment,
        name=options.run_name or f"ddm {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        image=options.image,
        gpus=options.gpu,
        nodes=options.nodes,
        cache=not options.no_cache,
        resources=options.resources,
        pipeline_root=options.pipeline_root,
        service_account=options.service_account,
        recurring=options.recurring,
        exit_handler=options.exit_handler,
    )
    server = _connect(options)
    made = submit(server, request)
    print(f"pipeline version {made.version}, {'uploaded' if made.uploaded else 'already there'}")
    print(f"{'recurring run' if options.recurring else 'run'} {made.id}\n{made.url}", flush=True)
    if options.wait:
        status = wait(server, made.id, interval=options.interval, timeout=options.timeout)
        print(f"run {made.id} {status.state}")


def _status(options: argparse.Namespace) -> None:
    from pipelines.console import describe, to_plain
    from pipelines.watch import look

    status = look(_connect(options), options.run_id)
    print(json.dumps(to_plain(status), indent=2) if options.json else describe(status))


def _logs(options: argparse.Namespace) -> None:
    from pipelines.logs import print_logs

    print_logs(
        _connect(options),
        options.run_id,
        task=options.task,
        follow=options.follow,
        interval=options.interval,
    )


def _terminate(options: argparse.Namespace) -> None:
    from pipelines.watch import terminate

    terminate(_connect(options), options.run_id)
    print(f"run {options.run_id} is being terminated")
