"""The TrainJob as Kubernetes takes it: trainer.kubeflow.org/v1alpha1.

Built here and not by the `kubeflow` SDK, whose 0.5 gives a node environment variables as plain values alone
(credentials would stand in the job, for everybody who may read it), cannot set the processes of a node
(the torch runtime then starts one a core), and knows no owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddm_core.trainjob.settings import Toleration, TrainJobSettings, Variable

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
KIND = "TrainJob"
PLURAL = "trainjobs"
NODE = "node"
"""The name of the job and of the container that train, in each of Trainer's runtimes."""

MANAGER = "ddm-pipeline/train"
"""Whose changes of the runtime these are."""

SHARED_MEMORY = "shared-memory"


@dataclass(frozen=True)
class Owner:
    """The pod whose removal removes the job too."""

    name: str
    uid: str


def build_manifest(
    name: str, command: Sequence[str], settings: TrainJobSettings, owner: Owner | None
) -> dict[str, Any]:
    """Return the TrainJob `name`, each of whose nodes runs `command`. Secrets are named, never contained."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/part-of": "ddm-pipeline"},
            "ownerReferences": [_reference(owner)] if owner else [],
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": settings.runtime_kind, "name": settings.runtime},
            "activeDeadlineSeconds": settings.timeout_seconds,
            "trainer": {
                "image": settings.image,
                "command": list(command),
                "numNodes": settings.nodes,
                "numProcPerNode": settings.processes,
                "resourcesPerNode": {"requests": settings.requests, "limits": settings.limits},
                "env": [_variable(variable) for variable in settings.environment],
            },
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": _nodes(_pod(settings))}],
        },
    }


def _reference(owner: Owner) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}


def _variable(variable: Variable) -> dict[str, Any]:
    reference = {"name": variable.source, "key": variable.name, "optional": variable.optional}
    field = {"ConfigMap": "configMapKeyRef", "Secret": "secretKeyRef"}[variable.kind]
    return {"name": variable.name, "valueFrom": {field: reference}}


def _nodes(pod: dict[str, Any]) -> dict[str, Any]:
    job = {"spec": {"template": {"spec": pod}}}
    return {"template": {"spec": {"replicatedJobs": [{"name": NODE, "template": job}]}}}


def _pod(settings: TrainJobSettings) -> dict[str, Any]:
    """Return what the pods have besides the runtime's own; processes on GPUs exchange much in /dev/shm."""
    mount = {"name": SHARED_MEMORY, "mountPath": "/dev/shm"}
    return {
        "nodeSelector": settings.node_selector,
        "tolerations": [_toleration(toleration) for toleration in settings.tolerations],
        "volumes": [{"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory"}}],
        "containers": [{"name": NODE, "volumeMounts": [mount]}],
    }


def _toleration(toleration: Toleration) -> dict[str, Any]:
    fields = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
        "tolerationSeconds": toleration.toleration_seconds,
    }
    return {name: value for name, value in fields.items() if value is not None}
