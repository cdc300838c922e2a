"""The stage `train` on several nodes: hand the work over, make the TrainJob, follow it, take the results."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes, sha256_file
from ddm_core.params import ObfuscatorParams
from ddm_core.termination import sigterm_noted
from ddm_core.trainjob.cluster import Cluster, NameTakenError, NoSuchObjectError
from ddm_core.trainjob.follow import LOOK_SECONDS, follow
from ddm_core.trainjob.manifest import Owner, build_manifest
from ddm_core.trainjob.node import command
from ddm_core.trainjob.settings import TrainJobSettings

if TYPE_CHECKING:
    from ddm_core.stages.train import TrainResult

CHECKPOINTS = "DDM_CHECKPOINTS"
NAMESPACE, POD_NAME, POD_UID, WORKFLOW = "DDM_NAMESPACE", "DDM_POD_NAME", "DDM_POD_UID", "DDM_WORKFLOW"
"""Variables that tell a task where it runs; the pipeline sets them from the pod's own description."""

NAME_LETTERS = 24  # of an obfuscator's name in a job's: names of its pods must not pass 63
REMOVAL_SECONDS = 120.0


@dataclass(frozen=True)
class Task:
    """Where this task runs: its namespace, its pod, and its workflow, which retries it."""

    namespace: str
    owner: Owner | None
    workflow: str


def task_of(environment: Mapping[str, str]) -> Task:
    """Read the task's place from the environment.

    Raises:
        DdmError: it says no namespace.
    """
    namespace = environment.get(NAMESPACE)
    if not namespace:
        raise DdmError(f"{NAMESPACE} is not set; compile the pipeline with `ddm pipeline compile --nodes N`")
    pod, uid = environment.get(POD_NAME), environment.get(POD_UID)
    return Task(namespace, Owner(pod, uid) if pod and uid else None, environment.get(WORKFLOW, ""))


def run(
    params: ObfuscatorParams,
    settings: TrainJobSettings,
    *,
    name: str,
    prepared: Path,
    model: Path,
    history: Path,
    look_seconds: float = LOOK_SECONDS,
) -> TrainResult:
    """Train the obfuscator `name` on the nodes of a TrainJob; write `model` and `history`, each at once.

    Photos and results go through the S3 prefix DDM_CHECKPOINTS, where checkpoints lie too; what the nodes
    write appears on stdout. The job is removed however this ends. A method that has nothing to learn is
    made here.

    Raises:
        DdmError: DDM_CHECKPOINTS is no S3 prefix, the cluster refuses, or the training failed.
        SystemExit: SIGTERM came.
    """
    from ddm_core.learned_params import LEARNED
    from ddm_core.processes import Made
    from ddm_core.stages import train
    from ddm_core.trainjob.exchange import HISTORY, MODEL, received, remove

    if not isinstance(params, LEARNED):
        return train.run(params, name=name, prepared=prepared, model=model, history=history)
    place = _place(os.environ.get(CHECKPOINTS))
    task = task_of(os.environ)
    cluster = Cluster(task.namespace)
    job_name = _job_name(name, task.workflow)
    job = f"{place}/trainjobs/{task.namespace}/{job_name}"
    with sigterm_noted() as terminated:
        remove(job)  # a result that an earlier attempt left must not pass for this one's
        photos = _hand_over(params, name, prepared, place, job)
        manifest = build_manifest(job_name, command(name, job, photos, place), settings, task.owner)
        with _running(cluster, manifest):
            _say(f"the TrainJob {task.namespace}/{job_name} runs on {settings.nodes} nodes")
            follow(cluster, job_name, terminated=terminated, say=_say, look_seconds=look_seconds)
    with (
        tempfile.TemporaryDirectory() as temporary,
        received(MODEL, f"{job}/{MODEL}", Path(temporary, MODEL)) as made_model,
        received(HISTORY, f"{job}/{HISTORY}", Path(temporary, HISTORY)) as made_history,
    ):
        result = Made(made_model, made_history).copied_to(model, history)
    remove(job)
    return result


def _place(address: str | None) -> str:
    from ddm_core.storage import split_uri

    if not address or not address.startswith("s3://"):
        raise DdmError(
            f"training on several nodes needs {CHECKPOINTS}=s3://bucket/prefix in ddm-settings: the nodes"
            " find photos and checkpoints there, and leave the model"
        )
    bucket, prefix = split_uri(address)
    return f"s3://{bucket}/{prefix}".removesuffix("/")


def _job_name(name: str, workflow: str) -> str:
    """Return the same name for every attempt of a task, so that none runs beside the one before."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:NAME_LETTERS].strip("-")
    return f"ddm-{readable}-{sha256_bytes(f'{workflow}/{name}'.encode())[:10]}"


def _hand_over(params: ObfuscatorParams, name: str, prepared: Path, place: str, job: str) -> str:
    """Send settings and photos; return where the photos are. Trainings on the same photos share them."""
    from ddm_core.data.manifest import MANIFEST_NAME
    from ddm_core.processes import write_section
    from ddm_core.trainjob.exchange import PHOTOS, SETTINGS, is_there, send

    with tempfile.TemporaryDirectory() as temporary:
        write_section(Path(temporary), name, params)
        send(SETTINGS, Path(temporary), f"{job}/{SETTINGS}")
    photos = f"{place}/{PHOTOS}/{sha256_file(prepared / MANIFEST_NAME)[:16]}"
    if not is_there(PHOTOS, photos):
        send(PHOTOS, prepared, photos)
    return photos


@contextmanager
def _running(cluster: Cluster, manifest: Mapping[str, Any]) -> Iterator[None]:
    """Create a TrainJob, and remove it after the block, however that ends."""
    name = manifest["metadata"]["name"]
    try:
        cluster.create(manifest)
    except NameTakenError:  # an earlier attempt's, whose task was killed
        _say(f"removes the TrainJob {name} that an earlier attempt left")
        _remove(cluster, name)
        cluster.create(manifest)
    try:
        yield
    finally:
        cluster.delete(name)


def _remove(cluster: Cluster, name: str) -> None:
    cluster.delete(name)
    if not _until(lambda: _is_gone(cluster, name), REMOVAL_SECONDS):
        raise DdmError(f"the TrainJob {name} of an earlier attempt does not go; delete it, and run again")


def _is_gone(cluster: Cluster, name: str) -> bool:
    try:
        cluster.conditions(name)
    except NoSuchObjectError:
        return True
    return False


def _until(happens: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (happened := happens()) and time.monotonic() < deadline:
        time.sleep(1.0)
    return happened


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)
