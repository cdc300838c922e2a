"""Looks at a run on the server: waits for its end, tells its state, terminates it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ddm_core.errors import DdmError
from pipelines.console import clock
from pipelines.failures import NotFoundError, TransientError, foreign_answer
from pipelines.loops import loop_turns
from pipelines.server import Server, call
from pipelines.tasks import FINISHED, Task, message_of, tasks_of, time_of

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

OUTAGE_SECONDS = 900
"""How long a server may be away before waiting ends."""
LONGEST_PAUSE_SECONDS = 30

PROGRESS = "{desc}: {n_fmt} of {total_fmt} started tasks done, {elapsed}{postfix}"


@dataclass(frozen=True)
class RunStatus:
    """A run by now; times are UTC."""

    id: str
    name: str
    state: str
    created: datetime | None
    finished: datetime | None
    error: str | None
    url: str
    tasks: list[Task]


def look(server: Server, run_id: str) -> RunStatus:
    """Ask for a run.

    Raises:
        DdmError: there is no such run, or the server cannot be asked.
    """
    from kfp_server_api import RunServiceApi

    run: V2beta1Run = call(
        server, RunServiceApi(server.client).run_service_get_run, run_id, what=f"run {run_id}"
    )
    if run.run_id != run_id:
        raise foreign_answer(server, f"run {run_id}")
    state = run.state or "PENDING"
    return RunStatus(
        id=run_id,
        name=run.display_name or run_id,
        state=state,
        created=time_of(run.created_at),
        finished=time_of(run.finished_at) if state in FINISHED else None,
        error=message_of(run.error),
        url=server.run_url(run_id),
        tasks=tasks_of(run, _turns(server, run)),
    )


def _turns(server: Server, run: V2beta1Run) -> dict[str, list[str]]:
    version = run.pipeline_version_reference
    specification = run.pipeline_spec
    if specification is None and version and version.pipeline_version_id:
        specification = _specification(server, version.pipeline_id, version.pipeline_version_id)
    parameters = run.runtime_config.parameters if run.runtime_config else None
    return loop_turns(specification or {}, parameters or {})


@lru_cache  # a version does not change, and every look at a run needs it
def _specification(server: Server, pipeline: str, version: str) -> Any:  # noqa: ANN401 - plain data
    from kfp_server_api import PipelineServiceApi

    read = PipelineServiceApi(server.client).pipeline_service_get_pipeline_version
    try:
        return call(server, read, pipeline, version, what=f"pipeline version {version}").pipeline_spec
    except NotFoundError:  # deleted since: the run can be told without it
        return None


def wait(server: Server, run_id: str, *, interval: float = 5, timeout: float | None = None) -> RunStatus:
    """Print each change of a task's state, and on a terminal a progress bar, until the run has succeeded.

    It looks every `interval` seconds. A server that fails or is away for a while is asked again.

    Raises:
        DdmError: the run failed or was cancelled; it still runs after `timeout` seconds; the server stays
            away, or refuses to answer.
    """
    end = None if timeout is None else time.monotonic() + timeout
    shown: dict[str, str] = {}
    bar: tqdm[Any] = tqdm(bar_format=PROGRESS, disable=not sys.stderr.isatty(), leave=False)
    with _goes_on(server, run_id), bar:
        for status in looks(server, run_id, interval=interval):
            _show_changes(status, shown)
            _show_progress(status, bar)
            if status.state in FINISHED:
                break
            if end is not None and time.monotonic() > end:
                raise DdmError(f"run {run_id} is {status.state} after {timeout:g} s of waiting")
    if status.state != "SUCCEEDED":
        raise DdmError(_verdict(status))
    return status


def looks(server: Server, run_id: str, *, interval: float) -> Iterator[RunStatus]:
    """Look at a run every `interval` seconds; while the server is away, ever more slowly.

    Raises:
        DdmError: the server is away for more than OUTAGE_SECONDS, or refuses.
    """
    pause, seen = interval, time.monotonic()
    while True:
        try:
            status = look(server, run_id)
        except TransientError as error:
            if time.monotonic() - seen > OUTAGE_SECONDS:
                raise
            with tqdm.external_write_mode(file=sys.stderr):
                print(f"ddm: {error}; asking again in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            yield status
            pause, seen = interval, time.monotonic()
            time.sleep(interval)


def terminate(server: Server, run_id: str) -> None:
    """Ask the server to end a run.

    Raises:
        DdmError: there is no such run, or it is finished already.
    """
    from kfp_server_api import RunServiceApi

    status = look(server, run_id)
    if status.state in FINISHED:
        raise DdmError(f"run {run_id} is finished already ({status.state}); there is nothing to terminate")
    call(server, RunServiceApi(server.client).run_service_terminate_run, run_id, what=f"run {run_id}")


@contextmanager
def _goes_on(server: Server, run_id: str) -> Iterator[None]:
    """Say, when waiting ends before the run does, that the run does not end with it."""
    note = f"the run goes on at {server.run_url(run_id)}; to end it: ddm pipeline terminate {run_id}"
    try:
        yield
    except KeyboardInterrupt:
        print(f"ddm: {note}", file=sys.stderr)
        raise
    except DdmError as error:
        raise DdmError(f"{error}; {note}") from None


def _show_changes(status: RunStatus, shown: dict[str, str]) -> None:
    for task in status.tasks:
        if shown.get(task.id) == task.state:
            continue
        shown[task.id] = task.state
        took = f" after {clock(task.seconds)}" if task.state in FINISHED and task.seconds is not None else ""
        with tqdm.external_write_mode(file=sys.stdout):
            print(f"{datetime.now():%H:%M:%S}  {task.name}  {task.state}{took}", flush=True)


def _show_progress(status: RunStatus, bar: tqdm[Any]) -> None:
    running = [task.name for task in status.tasks if task.state not in FINISHED]
    bar.total = len(status.tasks)
    bar.n = bar.total - len(running)
    bar.set_description(status.state, refresh=False)
    bar.set_postfix_str(", ".join(running)[:60])


def _verdict(status: RunStatus) -> str:
    failed = [task for task in status.tasks if task.state == "FAILED"]
    reasons = [f"{task.name}: {task.error}" if task.error else task.name for task in failed]
    if status.error:
        reasons.append(status.error)
    why = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
    return f"run {status.id} {status.state}{why}; see {status.url} or ddm pipeline logs {status.id}"
