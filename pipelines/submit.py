"""Brings the pipeline onto a Kubeflow Pipelines server and starts a run of it."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_core import __version__
from ddm_core.arguments import to_arguments
from ddm_core.errors import DdmError
from ddm_core.files import sha256_file
from ddm_core.params import Params
from pipelines.compile import PIPELINE_NAME, check_image, compile_pipeline
from pipelines.failures import NotFoundError, foreign_answer
from pipelines.schedule import to_kfp_cron
from pipelines.server import Server, call

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class RunRequest:
    """What is to run and how.

    `defaults` go into the uploaded pipeline and `params` into the run, so that runs with other parameters
    are runs of the same version. `image` is a reference that the cluster can pull, `recurring` is a cron
    expression. Without `pipeline_root` and `service_account` the server's own are used. `gpus` and
    `exit_handler` as in `build_pipeline`.
    """

    defaults: Params
    params: Params
    experiment: str
    name: str
    image: str | None
    gpus: int = 0
    nodes: int = 1
    cache: bool = True
    resources: Path | None = None
    pipeline_root: str | None = None
    service_account: str | None = None
    recurring: str | None = None
    exit_handler: bool = True


@dataclass(frozen=True)
class Submission:
    """What was made: a run's or a recurring run's id and page, and the version that it runs."""

    id: str
    url: str
    version: str
    uploaded: bool


def submit(server: Server, request: RunRequest) -> Submission:
    """Compile the pipeline, upload it unless the server has that version, and create the run.

    Everything that can be wrong with the request itself is said before anything is sent.

    Raises:
        DdmError: the image is missing or malformed, the cron expression is wrong, the pipeline does not
            compile, or the server refuses.
    """
    image = _check_image(request.image)
    _warn_of_moving_photos(request)
    cron = to_kfp_cron(request.recurring) if request.recurring else None
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{PIPELINE_NAME}.yaml"  # the server judges the file by its name's ending
        compile_pipeline(
            request.defaults,
            package,
            image=image,
            gpus=request.gpus,
            nodes=request.nodes,
            cache=request.cache,
            resources=request.resources,
            exit_handler=request.exit_handler,
            pinned=request.params.fetch.is_pinned,
        )
        namespace = _find_namespace(server)
        experiment = _find_or_create_experiment(server, request.experiment, namespace)
        pipeline = _find_or_create_pipeline(server, namespace)
        version = f"{__version__}-{sha256_file(package)[:12]}"
        version_id, uploaded = _find_or_upload_version(server, pipeline, version, package)
    reference = {"pipeline_id": pipeline, "pipeline_version_id": version_id}
    started = _start(server, request, cron, experiment, reference)
    page = "recurringrun" if cron else "runs"
    return Submission(
        id=started, url=f"{server.ui}/#/{page}/details/{started}", version=version, uploaded=uploaded
    )


def _check_image(image: str | None) -> str:
    if not image:
        raise DdmError(
            "no image is named, and a cluster cannot pull one from this machine; push it to a registry and "
            "pass --image REGISTRY/NAME@sha256:…"
        )
    check_image(image)
    if "@" not in image:
        print(
            f"ddm: --image {image} has no digest: what the tag means may change, and cached results would "
            "not notice; pin it as NAME@sha256:…",
            file=sys.stderr,
        )
    return image


def _warn_of_moving_photos(request: RunRequest) -> None:
    if request.cache and not request.params.fetch.is_pinned:
        print(
            "ddm: fetch names where photos are and not which: every task runs anew in every run; --pin, or "
            "fetch.digest, names them, so that KFP's cache can be used",
            file=sys.stderr,
        )


def _find_namespace(server: Server) -> str | None:
    """Return the namespace that runs belong to: None on a server for one user."""
    from kfp_server_api import HealthzServiceApi

    health = call(server, HealthzServiceApi(server.client).healthz_service_get_healthz, what="its state")
    if health.multi_user is None:
        raise foreign_answer(server, "its state")
    if not health.multi_user:
        if server.namespace:
            raise DdmError(f"{server.address}: keeps no namespaces apart; leave --namespace out")
        return None
    if server.namespace:
        return server.namespace
    if NAMESPACE_FILE.exists():
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    raise DdmError(f"{server.address}: serves many users; pass --namespace with yours")


def _find_or_create_experiment(server: Server, name: str, namespace: str | None) -> str:
    from kfp_server_api import ExperimentServiceApi, V2beta1Experiment

    api = ExperimentServiceApi(server.client)
    what = f"experiment '{name}'" + (f" in namespace '{namespace}'" if namespace else "")
    scope = {"namespace": namespace} if namespace else {}
    listed = call(
        server, api.experiment_service_list_experiments, what=what, filter=_is_called(name), **scope
    )
    if listed.experiments:
        return str(listed.experiments[0].experiment_id)
    wanted = V2beta1Experiment(display_name=name, namespace=namespace)
    return str(call(server, api.experiment_service_create_experiment, wanted, what=what).experiment_id)


def _find_or_create_pipeline(server: Server, namespace: str | None) -> str:
    """An empty pipeline is created first: the server would name an uploaded one's first version after it."""
    from kfp_server_api import PipelineServiceApi, V2beta1Pipeline

    api = PipelineServiceApi(server.client)
    what = f"pipeline '{PIPELINE_NAME}'"
    scope = {"namespace": namespace} if namespace else {}
    try:
        found = call(server, api.pipeline_service_get_pipeline_by_name, PIPELINE_NAME, what=what, **scope)
    except NotFoundError:
        wanted = V2beta1Pipeline(display_name=PIPELINE_NAME, namespace=namespace)
        found = call(server, api.pipeline_service_create_pipeline, wanted, what=what)
    return str(found.pipeline_id)


def _find_or_upload_version(server: Server, pipeline: str, name: str, package: Path) -> tuple[str, bool]:
    """Return the version's id, and whether it had to be uploaded. Its name tells its content."""
    from kfp_server_api import PipelineServiceApi, PipelineUploadServiceApi

    what = f"version '{name}' of pipeline '{PIPELINE_NAME}'"
    find = PipelineServiceApi(server.client).pipeline_service_list_pipeline_versions
    listed = call(server, find, pipeline, what=what, filter=_is_called(name))
    if listed.pipeline_versions:
        return str(listed.pipeline_versions[0].pipeline_version_id), False
    upload = PipelineUploadServiceApi(server.client).upload_pipeline_version
    made = call(server, upload, str(package), what=what, name=name, pipelineid=pipeline)
    return str(made.pipeline_version_id), True


def _start(
    server: Server, request: RunRequest, cron: str | None, experiment: str, reference: dict[str, str]
) -> str:
    """Create the run, or with `cron` the recurring run; return its id."""
    import kfp_server_api as api

    common: dict[str, Any] = {
        "display_name": request.name,
        "experiment_id": experiment,
        "service_account": request.service_account,
        "pipeline_version_reference": api.V2beta1PipelineVersionReference(**reference),
        "runtime_config": api.V2beta1RuntimeConfig(
            parameters=to_arguments(request.params), pipeline_root=request.pipeline_root
        ),
    }
    if cron is None:
        create = api.RunServiceApi(server.client).run_service_create_run
        what = f"run '{request.name}'"
        return str(call(server, create, api.V2beta1Run(**common), what=what).run_id)
    recurring = api.V2beta1RecurringRun(
        **common,
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,  # a cluster that was down does not run what it missed
    )
    create = api.RecurringRunServiceApi(server.client).recurring_run_service_create_recurring_run
    what = f"recurring run '{request.name}'"
    return str(call(server, create, recurring, what=what).recurring_run_id)


def _is_called(name: str) -> str:
    """Return the API's filter for a display name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
    text = json.dumps({"predicates": [predicate]})
    # The server undoes URL quoting once more than HTTP does, which would change these two.
    return text.replace("+", r"\u002b").replace("%", r"\u0025")
