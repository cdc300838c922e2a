"""deploy/ and the pipeline agree: what the one asks for, the other offers."""

import re
from pathlib import Path

import pytest
import yaml
from kustomize import by_key, containers, read_env

from ddm_core.cli import main

CHECKOUT = Path(__file__).parents[2]
RUNS = CHECKOUT / "deploy" / "example" / "runs"


def offered(path):
    """Keys of an env file, those behind a `#` too: what its reader can set."""
    lines = [line.removeprefix("#") for line in path.read_text().splitlines()]
    return {match[1] for line in lines if (match := re.match(r"([A-Z0-9_]+)=", line))}


@pytest.fixture(scope="module")
def platform_settings(tmp_path_factory):
    """What the compiled pipeline reads into environments: (ConfigMap's or Secret's name, keys, optional)."""
    output = tmp_path_factory.mktemp("pipeline") / "pipeline.yaml"
    assert main(["pipeline", "compile", "--params", str(CHECKOUT / "params.yaml"), "-o", str(output)]) == 0
    _, platform = yaml.safe_load_all(output.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    sources = {
        "configMapAsEnv": ("configMapName", "configMapKey"),
        "secretAsEnv": ("secretName", "secretKey"),
    }
    return [
        (entry[name], {pair[key] for pair in entry["keyToEnv"]}, entry["optional"])
        for executor in executors
        for field, (name, key) in sources.items()
        for entry in executor.get(field, [])
    ]


def test_what_the_pipeline_asks_for_is_offered(platform_settings, manifests):
    keys = {
        "ddm-settings": offered(RUNS / "settings.env"),
        "ddm-credentials": offered(RUNS / "secrets.env.template"),
    }
    asked = {name: set() for name, _, _ in platform_settings}
    for name, wanted, _ in platform_settings:
        asked[name] |= wanted
    assert asked == keys
    assert {("ConfigMap", "kubeflow", "ddm-settings"), ("Secret", "kubeflow", "ddm-credentials")} <= set(
        by_key(manifests)
    )


def test_what_the_pipeline_requires_is_set(platform_settings):
    required = set().union(*(keys for _, keys, optional in platform_settings if not optional))
    assert required <= set(read_env(RUNS / "settings.env"))


def test_the_account_of_runs_may_do_what_a_train_job_needs(manifests):
    """And no more: what `ddm_core/trainjob/cluster.py` calls, read from it."""
    rules = by_key(manifests)["Role", "kubeflow", "ddm-runner"]["rules"]
    allowed = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    source = (CHECKOUT / "ddm_core/trainjob/cluster.py").read_text()
    calls = set(re.findall(r"_(?:jobs|pods)\.(\w+)\(", source))
    needs = {
        "create_namespaced_custom_object": ("trainer.kubeflow.org", "trainjobs", "create"),
        "get_namespaced_custom_object": ("trainer.kubeflow.org", "trainjobs", "get"),
        "delete_namespaced_custom_object": ("trainer.kubeflow.org", "trainjobs", "delete"),
        "list_namespaced_pod": ("", "pods", "list"),
        "read_namespaced_pod_log": ("", "pods/log", "get"),
    }
    assert calls == set(needs)
    assert set(needs.values()) <= allowed
    trainer = {right for right in allowed if right[0] == "trainer.kubeflow.org"}
    assert trainer == {right for right in needs.values() if right[0] == "trainer.kubeflow.org"}


def test_runs_find_the_mlflow_server_and_it_answers_them(manifests):
    known = by_key(manifests)
    settings = known["ConfigMap", "kubeflow", "ddm-settings"]["data"]
    address = settings["MLFLOW_TRACKING_URI"].removeprefix("http://")
    name, namespace, port = re.fullmatch(r"(\w+)\.(\w+):(\d+)", address).groups()
    assert known["Service", namespace, name]["spec"]["ports"][0]["port"] == int(port)
    allowed = known["ConfigMap", namespace, "mlflow"]["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert address in allowed
    assert "*" not in "".join(allowed)
    (rule,) = known["NetworkPolicy", namespace, "mlflow"]["spec"]["ingress"]
    (origin,) = rule["from"]
    assert origin["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kubeflow"}


def test_the_server_finds_its_database(manifests):
    known = by_key(manifests)
    address = known["ConfigMap", "ddm", "mlflow"]["data"]["MLFLOW_BACKEND_STORE_URI"]
    pattern = r"postgresql\+psycopg2://(\w+)@(\w+):(\d+)/(\w+)"
    user, host, port, database = re.fullmatch(pattern, address).groups()
    assert known["Service", "ddm", host]["spec"]["ports"][0]["port"] == int(port)
    (container,) = containers(known["StatefulSet", "ddm", host])
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (variables["POSTGRES_USER"], variables["POSTGRES_DB"]) == (user, database)
    assert "PGPASSWORD" in known["Secret", "ddm", "mlflow"]["stringData"]
