"""Following a TrainJob: what its nodes write appears here, and how it ends is how this ends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ddm_core.errors import DdmError
from ddm_core.termination import EXIT_STATUS
from ddm_core.trainjob.cluster import Cluster, Ending, NoSuchObjectError, Pod

LOOK_SECONDS = 2.0
END_SECONDS = 0.1
"""Between two looks at whether SIGTERM came: in a pod of KFP there may be a second to remove the job."""
LAST_LINES = 10


def follow(
    cluster: Cluster,
    name: str,
    *,
    terminated: Callable[[], bool],
    say: Callable[[str], None],
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Wait until the TrainJob `name` is complete; `say` gets each line of its nodes, `node-1: …`.

    Raises:
        DdmError: it failed, with the last lines of the node that failed first; it was deleted; or the
            cluster refuses or does not answer.
        SystemExit: `terminated` says so.
    """
    nodes = Nodes(cluster, say)
    while True:
        try:
            conditions = cluster.conditions(name)  # before the logs: they are whole when it has ended
        except NoSuchObjectError:
            raise DdmError(f"somebody deleted the TrainJob {name}; run the task again") from None
        nodes.look(name)
        if "Complete" in conditions:
            return
        if "Failed" in conditions:
            reason = ": ".join(part for part in conditions["Failed"] if part)
            raise DdmError(f"the TrainJob {name} failed ({reason}); {nodes.blame()}")
        _pause(look_seconds, terminated)


def _pause(seconds: float, terminated: Callable[[], bool]) -> None:
    """Sleep, but not through SIGTERM."""
    end = time.monotonic() + seconds
    while not terminated():
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, END_SECONDS))
    raise SystemExit(EXIT_STATUS)


class Log(NamedTuple):
    """Lines that were read at a moment of the monotonic clock: their times (RFC 3339) and texts."""

    read_at: float
    lines: list[tuple[str, str]]


class Nodes:
    """What was seen of a TrainJob's nodes. A node's pod may restart or be replaced; its number stays."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        """Look at nodes of this cluster, and hand on what they write."""
        self._cluster = cluster
        self._say = say
        self._last_lines: dict[int, deque[str]] = {}
        self._failures: dict[int, Ending] = {}  # the first of each node
        self._seen: dict[str, Pod] = {}
        self._last_time: dict[str, str] = {}  # of a pod's lines
        self._read_at: dict[str, float] = {}

    def look(self, name: str) -> None:
        """Say what is new of the TrainJob `name`: lines, restarts, and why a node does not run."""
        pods = self._cluster.pods(name)
        for pod in pods:
            self._note(pod)
        begun = [pod for pod in pods if pod.phase != "Pending"]
        logs = {pod.name: self._log(pod) for pod in begun}
        # A container that was restarted meanwhile may have written what was just read: its turn comes later.
        restarts = {pod.name: pod.restarts for pod in self._cluster.pods(name)}
        for pod in begun:
            log = logs[pod.name]
            if log and restarts.get(pod.name, pod.restarts) == pod.restarts:
                self._read_at[pod.name] = log.read_at
                self._hand_on(pod, log.lines)

    def _note(self, pod: Pod) -> None:
        before = self._seen.get(pod.name)
        if pod.trouble and (before is None or pod.trouble != before.trouble):
            self._say(f"node-{pod.node}: {pod.trouble}")
        for ending in (pod.restarted_after, pod.ended):
            if ending and ending.status != 0:
                self._failures.setdefault(pod.node, ending)
        if pod.phase != "Pending" and pod.restarts > (before.restarts if before else 0):
            last = self._log(pod, previous=True)
            self._hand_on(pod, last.lines if last else [])
            status = pod.restarted_after.status if pod.restarted_after else "unknown"
            self._say(f"node-{pod.node}: ended with status {status}, restarts")
        self._seen[pod.name] = pod

    def blame(self) -> str:
        """Return the node that failed first, its exit status and its last lines, in one line."""
        if not self._failures:
            return "no node says why"
        node, ending = min(self._failures.items(), key=lambda failure: failure[1])
        lines = " | ".join(self._last_lines.get(node, ())) or "none"
        return f"node-{node} ended with status {ending.status}, its last lines: {lines}"

    def _log(self, pod: Pod, *, previous: bool = False) -> Log | None:
        """Return what a container has written since the last time that its pod was read."""
        now = time.monotonic()
        passed = now - self._read_at[pod.name] if pod.name in self._read_at else None
        try:
            lines = self._cluster.log(pod.name, seconds=passed, previous=previous)
        except NoSuchObjectError:
            return None
        return None if lines is None else Log(now, lines)

    def _hand_on(self, pod: Pod, lines: list[tuple[str, str]]) -> None:
        last_lines = self._last_lines.setdefault(pod.node, deque(maxlen=LAST_LINES))
        for written, line in lines:
            # Fractions of a second end in no zero: as texts they sort as times do, once the Z is gone.
            if written.removesuffix("Z") > self._last_time.get(pod.name, ""):
                self._last_time[pod.name] = written.removesuffix("Z")
                if line.strip():
                    last_lines.append(line)
                    self._say(f"node-{pod.node}: {line}")
