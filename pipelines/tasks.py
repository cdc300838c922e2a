"""The tasks of a run as people know them, read from what the API server tells of its Argo workflow.

The server lists the workflow's nodes: for the task `train` its driver `train-driver`, a node `train` around
it, within that `executor`, and with retries `executor(0)`, `executor(1)`, which are the pods. It gives each
node's display name and the ids of the nodes after it, but neither its own id nor its pod's name. Argo makes
an id of the workflow's name and the 32-bit FNV-1a hash of the node's path, so a path can be tried out: it is
right when its hash is among the ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

FINISHED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
"""The states that a run or task does not leave."""

_DRIVER = re.compile(r"(.+)-driver(\(\d+\))?")
_LOOP = re.compile(r"\.([^.()]+)\.[^.()]+\((\d+):[^)]*\)")


@dataclass(frozen=True)
class Task:
    """One task: `train/keyed_ddm` is that of one turn of a loop; a `driver` prepares a task's start.

    `pods` has, for each attempt, the names that its pod may have: they depend on Argo's version.
    """

    id: str
    name: str
    state: str
    started: datetime | None
    finished: datetime | None
    error: str | None
    pods: tuple[tuple[str, ...], ...]

    @property
    def seconds(self) -> float | None:
        """How long it ran, or runs by now."""
        if self.started is None:
            return None
        return max(0.0, ((self.finished or datetime.now(UTC)) - self.started).total_seconds())


def tasks_of(run: V2beta1Run, turns: Mapping[str, list[str]]) -> list[Task]:
    """Return the tasks that have started, the oldest first; drivers only where they failed.

    `turns` has for each loop the names of its turns; others are called by their number.
    """
    details = (run.run_details.task_details if run.run_details else None) or []
    paths = _node_paths(details)
    tasks = [task for detail in details if (task := _task(detail, paths, turns))]
    return sorted(tasks, key=lambda task: (task.started or datetime.max.replace(tzinfo=UTC), task.name))


def time_of(time: datetime | None) -> datetime | None:
    """Return a time that the server gave, None where it stands for "not yet" (the year 1 or 1970)."""
    return None if time is None or time.year <= 1970 else time.astimezone(UTC)


def message_of(status: Any) -> str | None:  # noqa: ANN401 - GoogleRpcStatus or None, untyped
    """Return an error's message in one line."""
    return " ".join(status.message.split()) if status and status.message else None


def _task(
    detail: V2beta1PipelineTaskDetail, paths: dict[str, str], turns: Mapping[str, list[str]]
) -> Task | None:
    display = detail.display_name or detail.task_id
    state = detail.state or "PENDING"
    path = _executor_path(detail, display, paths)
    driver = _DRIVER.fullmatch(display)
    if path is not None:
        name = "/".join([display, *_turns(path, turns)])
        pods = _pods(path, paths)
    elif driver and not driver[2] and state == "FAILED":
        name = f"{driver[1]} (driver)"
        pods = _driver_pods(display, paths)
    elif detail.pod_name and not paths and not driver:  # another engine than Argo
        name, pods = display, ()
    else:
        return None
    return Task(
        id=detail.task_id,
        name=name,
        state=state,
        started=time_of(detail.start_time),
        finished=time_of(detail.end_time) if state in FINISHED else None,
        error=_error(detail),
        pods=((detail.pod_name,),) if detail.pod_name else pods,
    )


def _error(detail: V2beta1PipelineTaskDetail) -> str | None:
    statuses = [detail.error, *(status.error for status in reversed(detail.state_history or []))]
    return next((message for status in statuses if (message := message_of(status))), None)


def _children(detail: V2beta1PipelineTaskDetail) -> list[str]:
    return [child.pod_name for child in detail.child_tasks or [] if child.pod_name]


def _executor_path(detail: V2beta1PipelineTaskDetail, display: str, paths: dict[str, str]) -> str | None:
    """Return the path of the executor that a task's node holds, None for every other node."""
    found = (paths.get(child, "") for child in _children(detail))
    return next((path for path in found if path.endswith(f".{display}.executor")), None)


def _pods(executor: str, paths: dict[str, str]) -> tuple[tuple[str, ...], ...]:
    ids = {path: node for node, path in paths.items()}
    attempts: list[tuple[str, ...]] = []
    while (attempt := f"{executor}({len(attempts)})") in ids:
        attempts.append(_pod_names(ids[attempt], "retry-system-container-impl", "system-container-impl"))
    return tuple(attempts) or (_pod_names(ids[executor], "system-container-impl"),)


def _driver_pods(display: str, paths: dict[str, str]) -> tuple[tuple[str, ...], ...]:
    drivers = [node for node, path in paths.items() if path.endswith(f".{display}")]
    return tuple(_pod_names(node, "system-container-driver", "system-dag-driver") for node in drivers)


def _pod_names(node: str, *templates: str) -> tuple[str, ...]:
    """Argo names a pod after its template since 3.4; with POD_NAMES=v1, and before, it is the node's id."""
    workflow, _, number = node.rpartition("-")
    return (*(f"{workflow}-{template}-{number}" for template in templates), node)


def _turns(path: str, turns: Mapping[str, list[str]]) -> list[str]:
    """Return which turn of each loop around it a node belongs to, the outermost first."""
    numbers = [(loop, int(number)) for loop, number in _LOOP.findall(path)]
    named = [(turns.get(loop, []), number) for loop, number in numbers]
    return [names[number] if number < len(names) else str(number) for names, number in named]


def _node_paths(details: Iterable[V2beta1PipelineTaskDetail]) -> dict[str, str]:
    """Return node id -> path within the workflow."""
    ids = {child for detail in details for child in _children(detail)}
    displays = sorted({detail.display_name for detail in details if detail.display_name})
    workflow = next(iter(ids), "").rpartition("-")[0]
    paths: dict[str, str] = {}
    known = [("", _fnv1a(workflow))]
    while known:
        path, value = known.pop()
        for display in displays:
            number = _fnv1a(f".{display}", value)
            node = f"{workflow}-{number}"
            if node in ids and node not in paths:
                paths[node] = f"{path}.{display}"
                known.append((paths[node], number))
    return paths


@lru_cache(maxsize=1 << 17)  # every look at a run asks for the same ones
def _fnv1a(text: str, value: int = 0x811C9DC5) -> int:
    """Return the 32-bit FNV-1a hash, continued from `value`: a path's hash goes on from its beginning's."""
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
