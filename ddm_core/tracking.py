"""Runs in MLflow: where they are kept and what a stage logs. Only this module and `serving` import mlflow.

Without settings everything stays in the project folder: `mlflow.db` (sqlite) and `mlartifacts/`, no server,
no account, no telemetry. MLFLOW_TRACKING_URI moves it; then the server decides where artifacts go.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ddm_core.errors import DdmError
from ddm_core.places import address_of
from ddm_core.reporting.provenance import read_commit
from ddm_core.tracking_address import explained, is_default, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

EXPERIMENT = "ddm"
WEIGHTS_TAG = "ddm.weights_sha256"
DATASET_TAG = "ddm.dataset_digest"
ORIGIN_TAG = "ddm.dataset_origin"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_FLUSH_SECONDS = 5.0
_FLUSH_METRICS = 500  # MLflow takes at most 1000 in one request
_PARAMS_PER_REQUEST = 100
_DIGEST_CHARACTERS = 36  # the widest digest that MLflow's dataset table holds


@dataclass(frozen=True)
class DatasetReference:
    """The photos a run read: a name, the hexadecimal digest of their content, where they lie."""

    name: str
    digest: str
    path: Path | str  # or the address


class Log(Protocol):
    """What a stage tells of itself while it works."""

    @property
    def run_id(self) -> str | None:
        """Return the id of the run in MLflow, if there is one."""

    def logged_steps(self, metric: str) -> set[int]:
        """Return the steps of a metric that the run had before it was taken up again."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Note metric values at an optimiser step."""

    def log_bytes(self, path: str, content: bytes) -> None:
        """Note a file."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Note tags."""


class NoLog:
    """Takes everything and keeps nothing, for a caller that tracks the run itself."""

    run_id = None

    def logged_steps(self, metric: str) -> set[int]:
        """Return no steps."""
        return set()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def log_bytes(self, path: str, content: bytes) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""


_listener: ContextVar[Log] = ContextVar("listener", default=NoLog())  # noqa: B039 - it keeps nothing


@contextmanager
def heard_by(log: Log) -> Iterator[None]:
    """Let `log` get what stages tell within the block while they are `untracked`."""
    before = _listener.set(log)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def untracked() -> Iterator[Log]:
    """Leave MLflow alone: yield the log of a caller that listens (`heard_by`), or one that keeps nothing."""
    yield _listener.get()


@dataclass
class TrackedRun:
    """An open run. Metrics are collected and sent in batches, so that tracking costs little."""

    run_id: str
    experiment_id: str
    _client: MlflowClient
    _resumed: bool = False
    _pending: list[Metric] = field(default_factory=list)
    _sent_at: float = field(default_factory=time.monotonic)

    def logged_steps(self, metric: str) -> set[int]:
        """Return the steps of a metric that the run had before it was taken up again; none of a new run."""
        if not self._resumed:
            return set()
        with explained():
            return {int(point.step) for point in self._client.get_metric_history(self.run_id, metric)}

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Note metric values at an optimiser step; they reach MLflow within seconds or at the end."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        waited = time.monotonic() - self._sent_at
        if waited > _FLUSH_SECONDS or len(self._pending) >= _FLUSH_METRICS:
            self.flush()

    def log_bytes(self, path: str, content: bytes) -> None:
        """Store a file, such as a PNG grid, under the run's artifacts at `path`."""
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as temporary, explained():
            (Path(temporary) / name).write_bytes(content)
            self._client.log_artifact(self.run_id, str(Path(temporary) / name), folder or None)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, such as `WEIGHTS_TAG` once the weights are written."""
        from mlflow.entities import RunTag

        with explained():
            self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def add_child(
        self, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Add a run below this one that has finished: of work that was done elsewhere.

        Raises:
            DdmError: MLflow cannot be reached or refuses.
        """
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        values = [Metric(metric, float(value), now, 0) for metric, value in metrics.items()]
        settings = [Param(key, str(value)) for key, value in _flatten(params)]
        with explained():
            all_tags = {"mlflow.runName": name, "mlflow.parentRunId": self.run_id, **tags}
            run_id = self._client.create_run(self.experiment_id, tags=all_tags).info.run_id
            self._client.log_batch(run_id, metrics=values, params=settings)
            self._client.set_terminated(run_id, "FINISHED")

    def flush(self) -> None:
        """Send the metrics noted so far."""
        with explained():
            for start in range(0, len(self._pending), _FLUSH_METRICS):
                self._client.log_batch(self.run_id, self._pending[start : start + _FLUSH_METRICS])
        self._pending.clear()
        self._sent_at = time.monotonic()


@contextmanager
def track_run(
    *,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    dataset: DatasetReference | None = None,
    experiment: str = EXPERIMENT,
    resume: str | None = None,
) -> Iterator[TrackedRun]:
    """Open a run; it ends FINISHED, FAILED on an exception, or KILLED on an interrupt.

    `resume` is the id of an earlier run of the same work that is taken up again if MLflow still has it.

    `params` may be nested (`{"gate": {"min_psnr_db": 32}}` is logged as `gate.min_psnr_db`). The git commit
    becomes a tag and the data set an input of the run. MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true, MLflow's
    own setting, adds CPU, memory, disk, network and, with `nvidia-ml-py`, GPU every ten seconds.

    Raises:
        DdmError: MLflow cannot be reached or refuses; credentials in its address are masked.
    """
    client = connect()
    with explained():
        all_tags = {"mlflow.runName": name, **_commit_tags(), **(tags or {})}
        if dataset:
            all_tags[DATASET_TAG] = dataset.digest
        place = experiment_id(client, experiment)
        resumed = resume is not None and _take_up(client, resume)
        run_id = resume if resume and resumed else client.create_run(place, tags=all_tags).info.run_id
    run = TrackedRun(run_id, place, client, resumed)
    try:
        with explained():
            _log_params(client, run_id, params)
            if dataset:
                _log_dataset(client, run_id, dataset)
        with _system_metrics(run_id, resumed):
            yield run
        run.flush()
    except BaseException as error:
        # The first error is the one to tell, even where MLflow itself is what broke.
        with suppress(DdmError):
            run.flush()
        with suppress(DdmError), explained():
            client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    with explained():
        client.set_terminated(run_id, "FINISHED")


def record_failure(name: str, tags: Mapping[str, str], experiment: str = EXPERIMENT) -> None:
    """Add a run that only says that something failed.

    Raises:
        DdmError: MLflow cannot be reached or refuses.
    """
    client = connect()
    with explained():
        run = client.create_run(experiment_id(client, experiment), tags={"mlflow.runName": name, **tags})
        client.set_terminated(run.info.run_id, "FAILED")


def find_training_run(weights_digest: str, experiment: str = EXPERIMENT) -> str | None:
    """Return the id of the latest run that tagged itself with these weights (SHA-256), or `None`."""
    client = connect()
    with explained():
        runs = client.search_runs(
            [experiment_id(client, experiment)],
            f"tags.`{WEIGHTS_TAG}` = '{weights_digest}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
    return str(runs[0].info.run_id) if runs else None


def connect() -> MlflowClient:
    """Return a client of the tracking store and registry, after trying that it answers.

    Raises:
        DdmError: it does not.
    """
    # Read when mlflow is imported, therefore set before; who sets them otherwise is obeyed.
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    uri = tracking_uri()
    with explained(), _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment, created where it is missing.

    Raises:
        DdmError: `mlflow.db` was made in another folder, which still holds its artifacts.
    """
    place = (Path.cwd() / "mlartifacts").as_uri() if is_default() else None
    found = client.get_experiment_by_name(name)
    if found is None:
        return _create_experiment(client, name, place)
    if place and found.artifact_location != place:
        raise DdmError(
            f"mlflow.db keeps its artifacts in {found.artifact_location}, not in this folder; move the"
            " project back, or move mlflow.db and mlartifacts/ away to start anew"
        )
    return str(found.experiment_id)


def _create_experiment(client: MlflowClient, name: str, place: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException as error:
        # Trainings that run side by side all find it missing, and one of them is first.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


@contextmanager
def _system_metrics(run_id: str, resumed: bool) -> Iterator[None]:
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():  # type: ignore[no-untyped-call]
        yield
        return
    with explained():
        monitor = SystemMetricsMonitor(run_id, resume_logging=resumed)  # type: ignore[no-untyped-call]
        monitor.start()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        monitor.finish()  # type: ignore[no-untyped-call]


def _take_up(client: MlflowClient, run_id: str) -> bool:
    """Set a run RUNNING again; return whether there is such a run."""
    from mlflow.exceptions import MlflowException

    try:
        known = client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    if known:
        client.update_run(run_id, status="RUNNING")
    return known


def _commit_tags() -> dict[str, str]:
    commit, dirty = read_commit(Path.cwd())
    return {"mlflow.source.git.commit": commit, "mlflow.source.git.dirty": str(dirty).lower()}


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    flat = [Param(name, str(value)) for name, value in _flatten(params)]
    for start in range(0, len(flat), _PARAMS_PER_REQUEST):
        client.log_batch(run_id, params=flat[start : start + _PARAMS_PER_REQUEST])


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _log_dataset(client: MlflowClient, run_id: str, dataset: DatasetReference) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    uri = dataset.path if isinstance(dataset.path, str) else address_of(dataset.path)
    source = json.dumps({"uri": uri})
    entity = Dataset(dataset.name, dataset.digest[:_DIGEST_CHARACTERS], "local", source)
    inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        # Of trainings that run side by side one is first to note the data set; MLflow gives the others a
        # unique constraint's error, and finds the data set when asked again.
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run_id, inputs)
