"""The graph: fetch, prepare, train and attack every obfuscator, report, register; one for every runner."""

import dataclasses
from contextlib import nullcontext
from itertools import groupby
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from components.attack import attack as attack_component
from components.fetch import fetch as fetch_component
from components.image import IMAGE
from components.join import join as join_component
from components.notify import notify as notify_component
from components.prepare import prepare as prepare_component
from components.prepare_share import prepare_share as prepare_share_component
from components.recognise import recognise as recognise_component
from components.register import register as register_component
from components.report import report as report_component
from components.train import train as train_component
from components.train_job import train_job as train_job_component
from components.utility import utility as utility_component
from ddm_core.arguments import to_arguments, without_empty
from ddm_core.params import Params
from ddm_core.results import ATTACKERS, CONTROLS
from ddm_core.trainjob.run import NAMESPACE, POD_NAME, POD_UID, WORKFLOW
from ddm_core.trainjob.settings import Variable
from pipelines.compile import PIPELINE_NAME
from pipelines.resources import Parallelism, Resources, apply_resources, train_job_settings

SETTINGS = "ddm-settings"
"""The ConfigMap with addresses, and the Secret with credentials; deploy/ has both."""
CREDENTIALS = "ddm-credentials"

TRACKING_URI = ("MLFLOW_TRACKING_URI",)
CHECKPOINT_SETTINGS = ("DDM_CHECKPOINTS",)
STORAGE_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
TRACKING_SETTINGS = ("MLFLOW_S3_ENDPOINT_URL", *STORAGE_SETTINGS)
STORAGE_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
TRACKING_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", *STORAGE_CREDENTIALS)

POD_FIELDS = {
    NAMESPACE: "metadata.namespace",
    POD_NAME: "metadata.name",
    POD_UID: "metadata.uid",
    WORKFLOW: "metadata.labels['workflows.argoproj.io/workflow']",
}


def build_pipeline(
    params: Params,
    *,
    image: str | None = None,
    resources: Resources | None = None,
    gpus: int = 0,
    nodes: int = 1,
    cache: bool = True,
    parallelism: Parallelism | None = None,
    exit_handler: bool = True,
    pinned: bool | None = None,
) -> BaseComponent:
    """Return the KFP pipeline whose parameters default to `params`: one a section, `train` as a list.

    With `resources` every task gets its share of the cluster and its settings from a ConfigMap and a Secret;
    without, the graph is bare, for a local runner. `gpus` are those of a training; other tasks that use one
    get one. `cache` false: every task runs anew. `parallelism` bounds what runs side by side. With `nodes`
    above 1, and `resources`, a TrainJob trains each obfuscator. Without `exit_handler` nothing tells of a
    failure.

    `pinned` says whether the parameters of all runs name their photos (`FetchParams.is_pinned`), by default
    as `params` do. Only then is fetch taken from the cache: its key knows the parameters, not the photos.
    """
    pinned = params.fetch.is_pinned if pinned is None else pinned
    cached = {"fetch": pinned, "register": False, "notify": False}  # what the last two do lies outside

    def place(task: dsl.PipelineTask) -> dsl.PipelineTask:
        name = task.component_spec.name.replace("-", "_")
        task.set_caching_options(cache and cached.get(name, True))
        if image:
            task.set_container_image(image)
        if resources:
            apply_resources(task, name, resources, gpus)
            _use_settings(task, name)
        return task

    def start_training(**inputs: Any) -> dsl.PipelineTask:  # noqa: ANN401 - channels of the graph
        if nodes == 1 or resources is None:
            takes_gpus = resources is not None and resources.tasks["train"].gpu
            return train_component(process_count=max(1, gpus) if takes_gpus else 1, **inputs)
        settings = train_job_settings(
            resources, image=image or IMAGE, nodes=nodes, gpus=gpus, environment=_variables("train")
        )
        task = train_job_component(settings=without_empty(dataclasses.asdict(settings)), **inputs)
        for name, field in POD_FIELDS.items():
            kubernetes.use_field_path_as_env(task, name, field)
        return task

    defaults = to_arguments(params)
    limits = parallelism or Parallelism()

    @dsl.pipeline(name=PIPELINE_NAME, description="Train photo obfuscators, attack them, promote survivors")
    def ddm(  # noqa: PLR0917 - KFP passes them by name
        fetch: dict = defaults["fetch"],
        prepare: dict = defaults["prepare"],
        # Not a bare list, whose items KFP would hand on as text.
        train: list[dict] = defaults["train"],
        recognise: dict = defaults["recognise"],
        attack: dict = defaults["attack"],
        utility: dict = defaults["utility"],
        report: dict = defaults["report"],
        register: dict = defaults["register"],
    ) -> None:
        # Called here: a task belongs to the group that is open when it is made.
        with dsl.ExitHandler(place(notify_component()), name="pipeline") if exit_handler else nullcontext():
            raw = place(fetch_component(params=fetch, pinned=cache and pinned)).outputs["raw"]
            shares = [f"{index}/{limits.shares}" for index in range(limits.shares)]
            with dsl.ParallelFor(shares, name="shares") as share:
                decoded = place(prepare_share_component(params=prepare, share=share, raw=raw))
            merged = prepare_component(
                params=prepare, raw=raw, shares=dsl.Collected(decoded.outputs["parts"])
            )
            prepared = place(merged).outputs["prepared"]
            recognition = place(recognise_component(params=recognise, prepared=prepared))
            recogniser = recognition.outputs["recogniser"]
            with dsl.ParallelFor(train, name="obfuscators", parallelism=limits.obfuscators) as obfuscator:
                trained = place(start_training(obfuscator=obfuscator, prepared=prepared))
                measured: dict[str, Any] = {
                    "prepared": prepared,
                    "model": trained.outputs["model"],
                    "recogniser": recogniser,
                }
                useful = place(utility_component(params=utility, **measured))
                attackers = [*ATTACKERS, *CONTROLS]
                with dsl.ParallelFor(attackers, name="attackers", parallelism=limits.attackers) as attacker:
                    attacked = place(attack_component(params=attack, attacker=attacker, **measured))
                attacks = place(join_component(parts=dsl.Collected(attacked.outputs["result"])))
            reported = place(
                report_component(
                    fetch=fetch,
                    prepare=prepare,
                    train=train,
                    recognise=recognise,
                    attack=attack,
                    utility=utility,
                    report=report,
                    register=register,
                    prepared=prepared,
                    attacks=dsl.Collected(attacks.outputs["whole"]),
                    utilities=dsl.Collected(useful.outputs["result"]),
                    histories=dsl.Collected(trained.outputs["history"]),
                    recogniser=recogniser,
                )
            )
            place(
                register_component(
                    params=register,
                    evidence=reported.outputs["evidence"],
                    models=dsl.Collected(trained.outputs["model"]),
                )
            )

    return ddm


def _use_settings(task: dsl.PipelineTask, name: str) -> None:
    """Give a task that speaks to MLflow or S3 their addresses and credentials, and no other task."""
    attach = {"ConfigMap": kubernetes.use_config_map_as_env, "Secret": kubernetes.use_secret_as_env}
    for (kind, source, optional), variables in groupby(
        _variables(name), lambda variable: (variable.kind, variable.source, variable.optional)
    ):
        names = {variable.name: variable.name for variable in variables}
        attach[kind](task, source, names, optional=optional)


def _variables(name: str) -> tuple[Variable, ...]:
    """Return the environment variables of a task that settings and credentials give their values."""
    found: list[Variable] = []
    if name in ("train", "train_job", "register", "notify"):
        # Required: a pod that fell back to a store of its own would lose what it tracks. But for the exit
        # handler, which is to tell of the very run that lacks it.
        optional = name == "notify"
        found += [Variable(key, "ConfigMap", SETTINGS, optional=optional) for key in TRACKING_URI]
        found += [Variable(key, "ConfigMap", SETTINGS, optional=True) for key in TRACKING_SETTINGS]
        found += [Variable(key, "Secret", CREDENTIALS, optional=True) for key in TRACKING_CREDENTIALS]
    if name in ("train", "train_job"):
        optional = name == "train"  # without it a TrainJob's nodes have nowhere to leave the model
        found += [Variable(key, "ConfigMap", SETTINGS, optional=optional) for key in CHECKPOINT_SETTINGS]
    if name == "fetch":
        found += [Variable(key, "ConfigMap", SETTINGS, optional=True) for key in STORAGE_SETTINGS]
        found += [Variable(key, "Secret", CREDENTIALS, optional=True) for key in STORAGE_CREDENTIALS]
    return tuple(found)
