"""Prints what the pods of a run wrote, through the API server."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError, did_you_mean
from pipelines.failures import TransientError
from pipelines.server import TIMEOUTS, Server, explained, refuse_login_page
from pipelines.tasks import FINISHED, Task
from pipelines.watch import RunStatus, look, looks

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

LOG = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"

WHY = "Kubernetes removes the pods of ended tasks after a while, and a task from the cache never had one"


class LogMissingError(DdmError):
    """The server has no log of that pod, no longer or not yet."""


@dataclass
class _Printed:
    """How many bytes of which pod are printed already, whether the last ended a line, and what is missing."""

    bytes: dict[str, int] = field(default_factory=dict)
    line_ended: bool = True
    missing: list[str] = field(default_factory=list)


def print_logs(
    server: Server, run_id: str, *, task: str | None = None, follow: bool = False, interval: float = 5
) -> None:
    """Print the logs of the tasks that `task` names, or of all; those that failed come first.

    `attack` names every `attack/…` too. With `follow`: in the order of their start, each as it grows, until
    the run ends; a server that does not stream is asked every `interval` seconds.

    Raises:
        DdmError: no such run or task, or no log is there.
    """
    if follow:
        _follow(server, run_id, task, interval)
        return
    status = look(server, run_id)
    printed = _Printed()
    for one in sorted(_choose(status, task), key=lambda one: one.state != "FAILED"):
        _print_task(server, run_id, one, printed)
    if printed.missing:
        line = f"run {run_id}: the server has no log of {', '.join(printed.missing)}; {WHY}; see {status.url}"
        if not printed.bytes:
            raise LogMissingError(line)
        print(f"ddm: {line}", file=sys.stderr)


def _follow(server: Server, run_id: str, task: str | None, interval: float) -> None:
    printed = _Printed()
    complete: set[str] = set()
    for status in looks(server, run_id, interval=interval):
        over = status.state in FINISHED
        for one in _choose(status, task, started=not over):
            if one.id in complete:
                continue
            _print_task(server, run_id, one, printed, follow=not over)
            if one.state not in FINISHED and not over:
                break  # another task's lines would come between its own
            complete.add(one.id)
        if over:
            return


def _choose(status: RunStatus, name: str | None, *, started: bool = False) -> list[Task]:
    """Return the tasks of that name; with `started` it may be one that is still to start."""
    chosen = [one for one in status.tasks if name in (None, one.name) or one.name.startswith(f"{name}/")]
    if not chosen and not started:
        names = {one.name for one in status.tasks} | {one.name.partition("/")[0] for one in status.tasks}
        if not names:
            raise DdmError(f"run {status.id} is {status.state}, and no task of it has started")
        raise DdmError(f"run {status.id}: no task '{name}' has started{did_you_mean(str(name), names)}")
    return chosen


def _print_task(server: Server, run_id: str, task: Task, printed: _Printed, *, follow: bool = False) -> None:
    for number, names in enumerate(task.pods, start=1):
        attempt = f", attempt {number} of {len(task.pods)}" if len(task.pods) > 1 else ""
        try:
            _print_pod(server, run_id, names, printed, f"{task.name} ({task.state}{attempt})", follow=follow)
        except LogMissingError:
            printed.missing.append(task.name + attempt)
        except TransientError:
            if not follow:  # the next look asks again, from where this broke off
                raise


def _print_pod(
    server: Server, run_id: str, names: tuple[str, ...], printed: _Printed, heading: str, *, follow: bool
) -> None:
    """Print what a pod wrote beyond what is printed of it; its name is the first that the server knows."""
    node = names[-1]
    what = f"the log of {heading}"
    with explained(server, what):
        response = _open(server, run_id, names, follow=follow)
        refuse_login_page(server, response.headers.get("Content-Type"))
        if node not in printed.bytes:
            _write(printed, (b"" if printed.line_ended else b"\n") + f"==> {heading}\n".encode())
        skip = printed.bytes.setdefault(node, 0)
        for chunk in response.stream(decode_content=True):
            fresh, skip = chunk[skip:], max(0, skip - len(chunk))
            printed.bytes[node] += len(fresh)
            _write(printed, fresh)


def _open(server: Server, run_id: str, names: tuple[str, ...], *, follow: bool) -> HTTPResponse:
    """Ask for a log that, with `follow`, goes on until the pod ends; servers up to 2.17 ignore `follow`."""
    from kfp_server_api import ApiException

    for pod in names:
        try:
            response: HTTPResponse = server.client.call_api(
                LOG,
                "GET",
                path_params={"run_id": run_id, "node_id": pod},
                query_params=[("follow", str(follow).lower())],
                auth_settings=["Bearer"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=TIMEOUTS,
            )
            return response
        except ApiException as error:
            if error.status not in (400, 404, 500):  # what the server says of a pod that is not there
                raise
    raise LogMissingError(f"{server.address}: has no log of pod {names[0]}")


def _write(printed: _Printed, text: bytes) -> None:
    """Bytes, because a chunk may end within a letter."""
    if text:
        printed.line_ended = text.endswith(b"\n")
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
