"""The TrainJob that is built is one that Kubeflow Trainer takes, and holds no secret."""

import dataclasses
import json
from pathlib import Path

import jsonschema
import kubeflow_trainer_api.models as published
import pytest

from ddm_core.errors import DdmError
from ddm_core.strict import parse
from ddm_core.trainjob.manifest import Owner, build_manifest
from ddm_core.trainjob.node import command
from ddm_core.trainjob.settings import TrainJobSettings

SCHEMA = json.loads(Path(__file__).with_name("trainjob.schema.json").read_text())
COMMAND = command("ddm", "s3://b/job", "s3://b/photos", "s3://b/checkpoints")


@pytest.fixture
def manifest(settings):
    return build_manifest("ddm-ddm-1", COMMAND, settings, Owner("a-pod", "its-uid"))


def node_pod(manifest):
    (patch,) = manifest["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert job["name"] == "node"
    return job["template"]["spec"]["template"]["spec"]


def test_it_fits_the_schema_of_the_custom_resource(manifest):
    jsonschema.validate(manifest, SCHEMA)


def test_the_published_models_read_it_without_losing_anything(manifest):
    """They are generated from the custom resource's definition, and drop what they do not know."""
    read = published.TrainerV1alpha1TrainJob.from_dict(json.loads(json.dumps(manifest)))
    assert read.to_dict() == manifest


@pytest.mark.parametrize("name", SCHEMA["$defs"])
def test_the_schema_has_the_fields_of_the_published_models(name):
    fields = getattr(published, name).model_fields
    wanted = {field.alias or key for key, field in fields.items()}
    assert set(SCHEMA["$defs"][name]["properties"]) == wanted
    required = {field.alias or key for key, field in fields.items() if field.is_required()}
    assert required <= set(SCHEMA["$defs"][name].get("required", []))


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "numNode"),
        ("spec", "trainer", "nodes"),
        ("spec", "trainer", "resourcesPerNode", "limit"),
        ("spec", "runtimePatches", 0, "trainingRuntimeSpec", "spec"),
    ],
)
def test_a_field_that_does_not_exist_is_refused(manifest, path):
    *parents, last = path
    place = manifest
    for parent in parents:
        place = place[parent]
    place[last] = 2
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


def test_every_node_gets_the_image_the_command_its_processes_and_resources(manifest):
    trainer = manifest["spec"]["trainer"]
    assert trainer["image"].startswith("registry.example/ddm@sha256:")
    assert trainer["command"] == COMMAND
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 1)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "1"
    assert manifest["spec"]["runtimeRef"]["name"] == "torch-distributed"
    assert manifest["spec"]["activeDeadlineSeconds"] == 600


def test_nodes_are_placed_and_have_room_for_what_processes_share(manifest):
    pod = node_pod(manifest)
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "tolerationSeconds": 60}]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == "/dev/shm"
    assert pod["volumes"] == [{"name": mount["name"], "emptyDir": {"medium": "Memory"}}]
    assert "env" not in container, "Trainer refuses variables of this container in a patch"


def test_credentials_are_named_not_contained(manifest):
    variables = {entry["name"]: entry for entry in manifest["spec"]["trainer"]["env"]}
    assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"] == {
        "secretKeyRef": {"name": "ddm-credentials", "key": "AWS_SECRET_ACCESS_KEY", "optional": True}
    }
    assert not any("value" in entry for entry in variables.values())


def test_it_goes_with_the_pod_that_made_it(manifest):
    (owner,) = manifest["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "a-pod", "uid": "its-uid"}


def test_settings_survive_the_way_through_kfp(settings):
    """KFP hands numbers on as floats."""
    sent = json.loads(json.dumps(dataclasses.asdict(settings)), parse_int=float)
    assert parse(sent, TrainJobSettings, "settings") == settings


def test_no_node_is_refused(settings):
    with pytest.raises(DdmError, match="settings: nodes, processes and timeout_seconds must be at least 1"):
        parse({**dataclasses.asdict(settings), "nodes": 0}, TrainJobSettings, "settings")
