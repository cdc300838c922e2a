"""What a TrainJob asks of the cluster. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OPERATORS = ("Equal", "Exists")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True)
class Toleration:
    """As in a pod's specification."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("operator", OPERATORS), ("effect", EFFECTS)):
            value = getattr(self, name)
            if value not in (None, *known):
                raise ValueError(f"{name} is '{value}'; expected one of {', '.join(known)}")


@dataclass(frozen=True)
class Variable:
    """An environment variable that a key of its name in a ConfigMap or a Secret gives its value."""

    name: str
    kind: Literal["ConfigMap", "Secret"]
    source: str
    optional: bool


@dataclass(frozen=True)
class TrainJobSettings:
    """A TrainJob's nodes: how many, on which image, with how many processes and what resources each.

    `runtime` is the name of the training runtime, `runtime_kind` whether the cluster or the namespace has
    it. `requests` and `limits` are a node's, as Kubernetes quantities. After `timeout_seconds` the cluster
    ends the job.
    """

    image: str
    nodes: int
    processes: int
    runtime: str
    runtime_kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"]
    timeout_seconds: int
    requests: dict[str, str]
    limits: dict[str, str]
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    environment: tuple[Variable, ...]

    def __post_init__(self) -> None:
        if min(self.nodes, self.processes, self.timeout_seconds) < 1:
            raise ValueError("nodes, processes and timeout_seconds must be at least 1")
