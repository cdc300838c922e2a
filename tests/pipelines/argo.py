"""A run as Argo Workflows shows it to a Kubeflow Pipelines 2.17 server: nodes, their ids, pods and states.

The nodes come from the pipeline that was uploaded: drivers, loops, executors, attempts, the exit handler.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass
class Node:
    """`path` is what Argo calls the node's name; `display` is what is left of it within the DAG around."""

    path: str
    display: str
    template: str = ""
    state: str | None = None  # None: not there yet
    children: list[Node] = field(default_factory=list)
    started: datetime | None = None
    ended: datetime | None = None
    error: str | None = None
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))


def fnv1a(text: str) -> int:
    value = 2166136261
    for byte in text.encode():
        value = ((value ^ byte) * 16777619) % 2**32
    return value


class Workflow:
    """Its nodes, and `advance`, which lets one pod end and the next start.

    `failing` maps a path's end, such as `train.executor(0)`, to what the task says when it fails. Servers up
    to 2.17 do not pass that on, others may: `tells_errors`.
    """

    def __init__(
        self,
        name: str,
        spec: dict[str, Any],
        parameters: dict[str, Any],
        failing: dict[str, str],
        tells_errors: bool,
    ):
        self.name, self.spec, self.failing, self.tells_errors = name, spec, failing, tells_errors
        self.nodes: list[Node] = []
        self.clock = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.state = "PENDING"
        self._events = self._run(parameters)

    def advance(self) -> None:
        """Let one pod end and the next start; with the last the run ends."""
        if self.state not in ("SUCCEEDED", "FAILED", "CANCELED"):
            self.state = next(self._events)

    def id_of(self, node: Node) -> str:
        return self.name if node.path == self.name else f"{self.name}-{fnv1a(node.path)}"

    def pod_of(self, node: Node) -> str:
        return f"{self.name}-{node.template}-{fnv1a(node.path)}"

    def details(self) -> list[dict[str, Any]]:
        """Return the API's task details: no node's own id, no pod names, errors only where given."""
        return [
            self._detail(node) for node in sorted(self.nodes, key=lambda node: node.task_id) if node.state
        ]

    def _detail(self, node: Node) -> dict[str, Any]:
        children = [{"pod_name": self.id_of(child)} for child in node.children if child.state]
        return {
            "task_id": node.task_id,
            "display_name": node.display,
            "create_time": _iso(node.started),
            "start_time": _iso(node.started),
            "end_time": _iso(node.ended) if node.ended else "0001-01-01T00:00:00Z",
            "state": node.state,
            "state_history": [{"update_time": _iso(node.started), "state": node.state}],
            **({"child_tasks": children} if children else {}),
            **({"error": {"code": 2, "message": node.error}} if node.error and self.tells_errors else {}),
        }

    def _run(self, parameters: dict[str, Any]) -> Iterator[str]:
        top = self._add(None, self.name, self.name)
        self._start(top)
        yield "RUNNING"
        well = yield from self._task(top, [top], "root", {"dag": self.spec["root"]["dag"]}, parameters)
        self._end(top, well)
        while True:
            yield "SUCCEEDED" if well else "FAILED"

    def _task(
        self, around: Node, before: list[Node], name: str, component: dict[str, Any], scope: dict[str, Any]
    ) -> Iterator[str]:
        """A driver, then the node of the task; returns whether it went well."""
        template = "system-dag-driver" if "dag" in component else "system-container-driver"
        driver = self._add(around, f"{name}-driver", template=template)
        self._link(before, driver)
        if not (yield from self._pod(driver)):
            return False
        node = self._add(around, name)
        self._link([driver], node)
        self._start(node)
        inside = (
            self._dag(node, component["dag"], scope)
            if "dag" in component
            else self._executor(node, component)
        )
        well = yield from inside
        self._end(node, well)
        return well

    def _dag(self, around: Node, dag: dict[str, Any], scope: dict[str, Any]) -> Iterator[str]:
        left, done, well = dict(dag["tasks"]), {}, True
        while left:
            name = next(
                name for name, task in left.items() if set(task.get("dependentTasks", [])) <= set(done)
            )
            task = left.pop(name)
            before = [done[other] for other in task.get("dependentTasks", [])] or [around]
            if task.get("triggerPolicy", {}).get("strategy") == EXIT:
                hook = self._add(around, f"{task['dependentTasks'][0]}.onExit")
                self._link(before, hook)
                self._start(hook)
                handled = yield from self._component(hook, [hook], name, task, scope)
                self._end(hook, handled)
                well = well and handled
                continue
            done[name] = around
            if well:
                well = yield from self._component(around, before, name, task, scope)
                done[name] = next(node for node in reversed(self.nodes) if node.state)
        return well

    def _component(
        self, around: Node, before: list[Node], name: str, task: dict[str, Any], scope: dict[str, Any]
    ) -> Iterator[str]:
        component = dict(self.spec["components"][task["componentRef"]["name"]], retry="retryPolicy" in task)
        scope = self._scope(task, scope)
        if "parameterIterator" not in task:
            return (yield from self._task(around, before, name, component, scope))
        loop = self._add(around, name)
        self._link(before, loop)
        self._start(loop)
        driver = self._add(loop, "iteration-driver", template="system-dag-driver")
        self._link([loop], driver)
        yield from self._pod(driver)
        group = self._add(loop, "iteration-iterations")
        self._link([driver], group)
        self._start(group)
        well = True
        items = task["parameterIterator"]["items"]
        values = json.loads(items["raw"]) if "raw" in items else scope[items["inputParameter"]]
        for turn, value in enumerate(values):
            around_item = self._add(loop, f"iteration-iterations({turn}:{turn})")
            self._link([group], around_item)
            self._start(around_item)
            inner = {**scope, task["parameterIterator"]["itemInput"]: value}
            fine = yield from self._task(around_item, [around_item], "iteration-item", component, inner)
            self._end(around_item, fine)
            well = well and fine
        self._end(group, well)
        self._end(loop, well)
        return well

    @staticmethod
    def _scope(task: dict[str, Any], scope: dict[str, Any]) -> dict[str, Any]:
        given = {}
        for name, source in task.get("inputs", {}).get("parameters", {}).items():
            if source.get("componentInputParameter") in scope:
                given[name] = scope[source["componentInputParameter"]]
        return given

    def _executor(self, around: Node, component: dict[str, Any]) -> Iterator[str]:
        if not component["retry"]:
            pod = self._add(around, "executor", template="system-container-impl")
            self._link([around], pod)
            return (yield from self._pod(pod))
        retry = self._add(around, "executor")
        self._link([around], retry)
        self._start(retry)
        well = False
        for number in range(2):
            pod = self._add(around, f"executor({number})", template="retry-system-container-impl")
            self._link([retry], pod)
            if well := (yield from self._pod(pod)):
                break
        if not well:
            around.error = pod.error
        self._end(retry, well)
        return well

    def _pod(self, node: Node) -> Iterator[str]:
        self._start(node)
        yield "RUNNING"
        node.error = next((said for end, said in self.failing.items() if node.path.endswith(f".{end}")), None)
        self._end(node, node.error is None)
        return node.error is None

    def _add(self, around: Node | None, display: str, path: str | None = None, template: str = "") -> Node:
        node = Node(path or f"{around.path}.{display}", display, template)
        self.nodes.append(node)
        return node

    @staticmethod
    def _link(before: list[Node], node: Node) -> None:
        for other in before:
            other.children.append(node)

    def _start(self, node: Node) -> None:
        self.clock += timedelta(seconds=3)
        node.state, node.started = "RUNNING", self.clock

    def _end(self, node: Node, well: bool) -> None:
        self.clock += timedelta(seconds=1)
        node.state, node.ended = "SUCCEEDED" if well else "FAILED", self.clock


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
