"""The Kubernetes API as far as a TrainJob needs it. No other module imports the client."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.trainjob.manifest import GROUP, NODE, PLURAL, VERSION

JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"
NODE_LABEL = "batch.kubernetes.io/job-completion-index"
ANSWER_SECONDS = (10, 60)  # to connect, to answer
OUTAGE_SECONDS = 600.0  # an API server that is replaced, a network that is mended
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
OVERLAP_SECONDS = 5  # of two readings of a log: lines on their way are not lost
TEMPORARY = (429, 500, 502, 503, 504)
RIGHTS = "deploy/base/runs/runner.yaml lists the rights; --service-account ddm-runner has them"


class NoSuchObjectError(Exception):
    """There is no object of that name, no longer or not yet."""


class NameTakenError(Exception):
    """There is an object of that name."""


@dataclass(frozen=True, order=True)
class Ending:
    """When a container ended, and the status that it exited with."""

    time: datetime
    status: int


@dataclass(frozen=True)
class Pod:
    """A node's pod: how often its container was restarted, and after which end; how it ended for good.

    `trouble` is what else keeps it from running, in the cluster's words.
    """

    name: str
    node: int
    phase: str
    restarts: int
    restarted_after: Ending | None
    ended: Ending | None
    trouble: str | None


class Cluster:
    """The TrainJobs of one namespace, their pods and logs. All questions wait for a server that is away."""

    def __init__(self, namespace: str, outage_seconds: float = OUTAGE_SECONDS) -> None:
        """Connect with the pod's own account, outside a cluster as kubectl does.

        Raises:
            DdmError: neither is there.
        """
        from kubernetes import client, config

        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config()
            else:
                config.load_kube_config(os.environ.get("KUBECONFIG"))
        except config.ConfigException as error:
            raise DdmError(f"no Kubernetes cluster is known here ({error}); run this task in one") from None
        self.namespace = namespace
        self.outage_seconds = outage_seconds
        self._jobs = client.CustomObjectsApi()
        self._pods = client.CoreV1Api()
        self._place = (GROUP, VERSION, namespace, PLURAL)

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Create a TrainJob.

        Raises:
            NameTakenError: there is one of that name.
            DdmError: the cluster refuses, has no Kubeflow Trainer, or does not answer.
        """
        try:
            self._ask(
                "create the TrainJob",
                lambda: self._jobs.create_namespaced_custom_object(
                    *self._place, manifest, _request_timeout=ANSWER_SECONDS
                ),
            )
        except NoSuchObjectError:
            raise DdmError(
                f"the namespace {self.namespace} cannot have TrainJobs; install Kubeflow Trainer v2, or"
                " train on one node"
            ) from None

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        """Return what is true of a TrainJob, such as Complete or Failed, with reason and message.

        Raises:
            NoSuchObjectError: it is gone.
            DdmError: the cluster refuses or does not answer.
        """
        job = self._ask(
            "read the TrainJob",
            lambda: self._jobs.get_namespaced_custom_object(
                *self._place, name, _request_timeout=ANSWER_SECONDS
            ),
        )
        conditions = job.get("status", {}).get("conditions") or []
        return {
            condition["type"]: (condition.get("reason", ""), condition.get("message", ""))
            for condition in conditions
            if condition["status"] == "True"
        }

    def pods(self, name: str) -> list[Pod]:
        """Return the pods of a TrainJob's nodes, in the order of the nodes; raises as `conditions`."""
        label = f"{JOB_LABEL}={name}"
        found = self._ask(
            "list the TrainJob's pods",
            lambda: self._pods.list_namespaced_pod(
                self.namespace, label_selector=label, _request_timeout=ANSWER_SECONDS
            ),
        )
        pods = [_pod(pod) for pod in found.items if NODE_LABEL in (pod.metadata.labels or {})]
        return sorted(pods, key=lambda pod: (pod.node, pod.name))

    def log(
        self, pod: str, *, seconds: float | None = None, previous: bool = False
    ) -> list[tuple[str, str]] | None:
        """Return time (RFC 3339, in UTC) and text of the lines that a pod wrote, the last `seconds` alone.

        `previous` reads the container that was restarted. None: there is no log yet, or the machine that has
        it does not answer; the job may go on without that machine.

        Raises:
            NoSuchObjectError: the pod is gone.
            DdmError: the cluster refuses or does not answer.
        """
        options: dict[str, Any] = {"previous": True} if previous else {}
        if seconds is not None:
            options["since_seconds"] = math.ceil(seconds) + OVERLAP_SECONDS
        answer = self._ask(
            "read the log of a pod",
            lambda: self._pods.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=NODE,
                timestamps=True,
                _preload_content=False,  # it would take a line of JSON for more than text
                _request_timeout=ANSWER_SECONDS,
                **options,
            ),
            without=(400, *TEMPORARY),
        )
        if answer is None:
            return None
        text = answer.data.decode("utf-8", "replace")
        return [
            (time_, said) for line in text.split("\n") if line for time_, _, said in [line.partition(" ")]
        ]

    def delete(self, name: str) -> None:
        """Delete a TrainJob, and with it what it made, if it is there.

        Raises:
            DdmError: the cluster refuses or does not answer.
        """
        try:
            self._ask(
                "delete the TrainJob",
                lambda: self._jobs.delete_namespaced_custom_object(
                    *self._place, name, propagation_policy="Foreground", _request_timeout=ANSWER_SECONDS
                ),
            )
        except NoSuchObjectError:
            return

    def _ask(self, what: str, ask: Callable[[], Any], without: tuple[int, ...] = ()) -> Any:  # noqa: ANN401
        """Return the answer to what may be asked again; None instead of the statuses `without`."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        deadline, pause = time.monotonic() + self.outage_seconds, FIRST_PAUSE
        while True:
            with _explained(what):
                try:
                    return ask()
                except ApiException as error:
                    if error.status in without:
                        return None
                    if error.status not in TEMPORARY or time.monotonic() + pause > deadline:
                        raise
                except HTTPError:
                    if time.monotonic() + pause > deadline:
                        raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status == 404:
            raise NoSuchObjectError from None
        if error.status == 409:
            raise NameTakenError from None
        hint = f"; {RIGHTS}" if error.status in (401, 403) else ""
        raise DdmError(f"Kubernetes refuses to {what}: {_message(error)}{hint}") from None
    except HTTPError as error:
        reason = " ".join(str(error).split())
        raise DdmError(f"Kubernetes does not answer when asked to {what} ({reason})") from None


def _message(error: Any) -> str:  # noqa: ANN401 - the client is untyped
    """Return what the server says in its Status, else the HTTP status."""
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())
    except (TypeError, ValueError, KeyError):
        return f"HTTP {error.status} {error.reason}"


def _pod(pod: Any) -> Pod:  # noqa: ANN401 - the client is untyped
    statuses = [status for status in pod.status.container_statuses or [] if status.name == NODE]
    state, last = (statuses[0].state, statuses[0].last_state) if statuses else (None, None)
    return Pod(
        name=pod.metadata.name,
        node=int(pod.metadata.labels[NODE_LABEL]),
        phase=pod.status.phase or "Pending",
        restarts=statuses[0].restart_count if statuses else 0,
        restarted_after=_ending(last),
        ended=_ending(state),
        trouble=_trouble(pod, state),
    )


def _ending(state: Any) -> Ending | None:  # noqa: ANN401 - the client is untyped
    if not state or not state.terminated:
        return None
    return Ending(state.terminated.finished_at or datetime.now(UTC), state.terminated.exit_code)


def _trouble(pod: Any, state: Any) -> str | None:  # noqa: ANN401 - the client is untyped
    """Return why a pod does not start, or was ended, in the cluster's words."""
    unscheduled = [
        condition
        for condition in pod.status.conditions or []
        if condition.type == "PodScheduled" and condition.status == "False"
    ]
    waiting = [state.waiting] if state and state.waiting else []
    for part in (pod.status, *waiting, *unscheduled):
        if part.reason and part.reason not in ("ContainerCreating", "PodInitializing"):
            return ": ".join(text for text in (part.reason, part.message) if text)
    return None
