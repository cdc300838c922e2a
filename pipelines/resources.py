"""What each task asks of the cluster: reads resources.yaml and applies it to KFP tasks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddm_core.errors import DdmError
from ddm_core.params import read_yaml
from ddm_core.strict import parse
from ddm_core.trainjob.manifest import SHARED_MEMORY
from ddm_core.trainjob.settings import Toleration, TrainJobSettings, Variable

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

DEFAULT_FILE = Path(__file__).with_name("resources.yaml")
TASKS = (
    "fetch",
    "prepare_share",
    "prepare",
    "train",
    "train_job",
    "recognise",
    "attack",
    "join",
    "utility",
    "report",
    "register",
    "notify",
)
MANY_GPUS = ("train",)
"""The tasks that use more than one GPU: one process each. More than one would lie idle in any other."""

UNITS = {"m": 1e-3, "": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
BINARY_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class TaskResources:
    """One task: CPU and memory as Kubernetes quantities, times in seconds, `retries` after a failure.

    A request must not be above its limit: the cluster would refuse the pod.
    """

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    gpu: bool
    timeout_seconds: int
    retries: int
    backoff_seconds: int
    backoff_max_seconds: int
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]

    def __post_init__(self) -> None:
        for name in ("cpu_request", "cpu_limit"):
            _require_quantity(name, getattr(self, name), r"\d+(\.\d+)?|\d+m", "2 or 500m")
        for name in ("memory_request", "memory_limit"):
            _require_quantity(name, getattr(self, name), r"\d+(\.\d+)?[KMGT]i?", "512Mi or 4Gi")
        for name in ("cpu", "memory"):
            request, limit = getattr(self, f"{name}_request"), getattr(self, f"{name}_limit")
            if _amount(request) > _amount(limit):
                raise ValueError(f"{name}_request {request} is above {name}_limit {limit}")
        if self.timeout_seconds < 1 or min(self.retries, self.backoff_seconds, self.backoff_max_seconds) < 0:
            raise ValueError("timeout_seconds must be above 0, retries and backoffs must not be negative")


@dataclass(frozen=True)
class GpuResources:
    """The accelerator's resource name, and where pods find nodes that have it."""

    resource: str
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]


@dataclass(frozen=True)
class Parallelism:
    """How many obfuscators, and attackers of one obfuscator, run at once; 0: no bound.

    `shares` is the number of tasks that decode the photos between them; the dataset is the same for any.
    """

    obfuscators: int = 0
    attackers: int = 0
    shares: int = 1

    def __post_init__(self) -> None:
        if min(self.obfuscators, self.attackers) < 0 or self.shares < 1:
            raise ValueError("obfuscators and attackers must not be negative, shares must be at least 1")


@dataclass(frozen=True)
class TrainerResources:
    """The training runtime of Kubeflow Trainer; `kind`: the cluster's, or the namespace's of the runs."""

    runtime: str
    kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"]


@dataclass(frozen=True)
class Resources:
    """The whole of resources.yaml."""

    tasks: dict[str, TaskResources]
    gpu: GpuResources
    trainer: TrainerResources
    parallelism: Parallelism


def load_resources(path: Path | None = None) -> Resources:
    """Read resources.yaml, by default the one beside this module.

    Raises:
        DdmError: missing file, unknown name, wrong type or quantity.
    """
    path = path or DEFAULT_FILE
    if not path.exists():
        raise DdmError(f"{path}: not found; name a file such as pipelines/resources.yaml")
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("defaults"), dict):
        raise DdmError(f"{path}: expected a mapping with defaults, tasks, gpu, trainer and parallelism")
    defaults, tasks = content["defaults"], content.get("tasks") or {}
    rest = {name: value for name, value in content.items() if name != "defaults"}
    _require_tasks(tasks, path)
    merged = {name: {**defaults, **(tasks.get(name) or {})} for name in TASKS}
    return parse({**rest, "tasks": merged}, Resources, str(path))


def apply_resources(task: PipelineTask, name: str, resources: Resources, gpus: int) -> None:
    """Give the KFP task `name` its requests, limits, GPUs, nodes, retries and timeout.

    `gpus` are those of a training; every other task with `gpu: true` gets one, if there are any.
    """
    from kfp import kubernetes

    wanted = resources.tasks[name]
    task.set_cpu_request(wanted.cpu_request).set_cpu_limit(wanted.cpu_limit)
    task.set_memory_request(wanted.memory_request).set_memory_limit(wanted.memory_limit)
    kubernetes.set_timeout(task, wanted.timeout_seconds)
    if wanted.retries:
        task.set_retry(
            num_retries=wanted.retries,
            backoff_duration=f"{wanted.backoff_seconds}s",
            backoff_factor=2.0,
            backoff_max_duration=f"{wanted.backoff_max_seconds}s",
        )
    _place(task, wanted.node_selector, wanted.tolerations)
    if wanted.gpu and gpus:
        count = gpus if name in MANY_GPUS else 1
        if count > 1:  # too small by default for what its processes exchange
            kubernetes.empty_dir_mount(task, SHARED_MEMORY, "/dev/shm", medium="Memory")
        task.set_accelerator_type(resources.gpu.resource).set_accelerator_limit(count)
        _place(task, resources.gpu.node_selector, resources.gpu.tolerations)


def train_job_settings(
    resources: Resources, *, image: str, nodes: int, gpus: int, environment: tuple[Variable, ...]
) -> TrainJobSettings:
    """Return what a TrainJob asks of the cluster: on each of `nodes` nodes what the task `train` asks for."""
    wanted = resources.tasks["train"]
    gpus = gpus if wanted.gpu else 0
    return TrainJobSettings(
        image=image,
        nodes=nodes,
        processes=max(1, gpus),
        runtime=resources.trainer.runtime,
        runtime_kind=resources.trainer.kind,
        timeout_seconds=wanted.timeout_seconds,
        requests={"cpu": wanted.cpu_request, "memory": wanted.memory_request},
        limits={
            "cpu": wanted.cpu_limit,
            "memory": wanted.memory_limit,
            **({resources.gpu.resource: str(gpus)} if gpus else {}),
        },
        node_selector={**wanted.node_selector, **(resources.gpu.node_selector if gpus else {})},
        tolerations=(*wanted.tolerations, *(resources.gpu.tolerations if gpus else ())),
        environment=environment,
    )


def _place(task: PipelineTask, node_selector: dict[str, str], tolerations: tuple[Toleration, ...]) -> None:
    from kfp import kubernetes

    for label, value in node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in tolerations:
        given: dict[str, Any] = {name: item for name, item in vars(toleration).items() if item is not None}
        kubernetes.add_toleration(task, **given)


def _require_tasks(tasks: Any, path: Path) -> None:  # noqa: ANN401 - YAML decides
    if not isinstance(tasks, dict):
        raise DdmError(f"{path}: tasks: expected a mapping of task to its resources")
    for name, changes in tasks.items():
        if name not in TASKS:
            raise DdmError(f"{path}: tasks: '{name}' is no task of the pipeline; known: {', '.join(TASKS)}")
        if not isinstance(changes, dict | None):
            raise DdmError(f"{path}: tasks: {name}: expected a mapping such as {{memory_limit: 8Gi}}")


def _amount(quantity: str) -> float:
    """Return a quantity's number, in cores or bytes."""
    number = quantity.rstrip("mKMGTi")
    return float(number) * {**UNITS, **BINARY_UNITS}[quantity.removeprefix(number)]


def _require_quantity(name: str, value: str, pattern: str, example: str) -> None:
    if not re.fullmatch(pattern, value):
        raise ValueError(f"{name} is '{value}'; write a quantity such as {example}")
