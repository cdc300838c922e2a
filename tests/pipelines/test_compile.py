"""What lands in the pipeline's YAML: one image, resources, retries, settings by reference, never a secret."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ddm_core.cli import main
from ddm_core.strict import parse
from ddm_core.trainjob.settings import TrainJobSettings
from pipelines.resources import load_resources

CHECKOUT = Path(__file__).parents[2]
IMAGE = "registry.example/ddm@sha256:" + "0" * 64
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-must-stay-here",
    "MLFLOW_TRACKING_PASSWORD": "hunter2hunter2",
    "MLFLOW_TRACKING_URI": "https://anna:hunter2hunter2@mlflow.example",
}
USES_GPU = {"train", "recognise", "attack", "utility"}
SPEAKS_TO_MLFLOW = {"train", "register", "notify"}


def compiled(folder, *options):
    """Both documents of the YAML: the graph, and what is Kubernetes's."""
    path = folder / "pipeline.yaml"
    arguments = ["pipeline", "compile", "-o", str(path), "--params", str(CHECKOUT / "params.yaml"), *options]
    assert main(arguments) == 0
    return tuple(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        yield compiled(tmp_path_factory.mktemp("default"), "--image", IMAGE)


def executors(graph):
    return {name.removeprefix("exec-"): part for name, part in graph["deploymentSpec"]["executors"].items()}


def on_kubernetes(platform):
    parts = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): part for name, part in parts.items()}


def tasks(graph):
    dags = [graph["root"]["dag"], *(part["dag"] for part in graph["components"].values() if "dag" in part)]
    every = {name: task for dag in dags for name, task in dag["tasks"].items()}
    return {name: task for name, task in every.items() if name in executors(graph)}


def test_every_task_runs_on_the_given_image(default):
    assert {part["container"]["image"] for part in executors(default[0]).values()} == {IMAGE}


def test_every_task_has_requests_and_limits(default):
    for name, part in executors(default[0]).items():
        wanted = {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"}
        assert wanted <= set(part["container"]["resources"]), name


def test_every_task_but_the_exit_handler_is_retried_with_backoff(default):
    for name, task in tasks(default[0]).items():
        policy = task.get("retryPolicy")
        if name == "notify":
            assert policy is None
        else:
            assert policy == {
                "maxRetryCount": 2,
                "backoffDuration": "30s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "600s",
            }, name


def test_every_task_has_its_timeout(default):
    timeouts = {name: int(part["activeDeadlineSeconds"]) for name, part in on_kubernetes(default[1]).items()}
    hours = {"train": 24, "recognise": 4, "attack": 4}
    assert timeouts == {name: 3600 * hours.get(name, 1) for name in executors(default[0])}


def test_retries_and_a_timeout_of_the_resources_reach_the_task(tmp_path):
    path = tmp_path / "resources.yaml"
    wanted = "  fetch: {retries: 5, backoff_seconds: 7, backoff_max_seconds: 90, timeout_seconds: 61}"
    path.write_text(RESOURCES.read_text().replace("  fetch: {}", wanted))
    graph, platform = compiled(tmp_path, "--resources", str(path))
    policy = tasks(graph)["fetch"]["retryPolicy"]
    assert (policy["maxRetryCount"], policy["backoffDuration"], policy["backoffMaxDuration"]) == (
        5,
        "7s",
        "90s",
    )
    assert on_kubernetes(platform)["fetch"]["activeDeadlineSeconds"] == "61"


def test_no_secret_of_the_environment_reaches_the_yaml(default, tmp_path, monkeypatch):
    text = yaml.safe_dump_all(default)
    assert [value for value in SECRETS.values() if value in text] == []


def test_settings_come_from_the_config_map_and_the_secret(default):
    sources = {}
    for name, part in on_kubernetes(default[1]).items():
        named = [
            (entry.get("configMapName") or entry.get("secretName"), pair["envVar"])
            for entry in [*part.get("configMapAsEnv", []), *part.get("secretAsEnv", [])]
            for pair in entry["keyToEnv"]
        ]
        sources[name] = set(named)
    for name in SPEAKS_TO_MLFLOW:
        assert ("ddm-settings", "MLFLOW_TRACKING_URI") in sources[name]
        assert ("ddm-credentials", "MLFLOW_TRACKING_PASSWORD") in sources[name]
        assert ("ddm-credentials", "AWS_SECRET_ACCESS_KEY") in sources[name]
    assert {variable for _, variable in sources["fetch"]} == {
        "AWS_ENDPOINT_URL",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }


def test_tasks_that_need_no_credentials_get_none(default):
    needless = set(executors(default[0])) - SPEAKS_TO_MLFLOW - {"fetch"}
    parts = on_kubernetes(default[1])
    assert [name for name in needless if {"secretAsEnv", "configMapAsEnv"} & set(parts[name])] == []


def settings_of(platform, task):
    """Variable -> (the ConfigMap that it comes from, whether that may be missing)."""
    return {
        pair["envVar"]: (entry["configMapName"], entry.get("optional", False))
        for entry in on_kubernetes(platform)[task]["configMapAsEnv"]
        for pair in entry["keyToEnv"]
    }


@pytest.mark.parametrize("task", ["train", "register"])
def test_a_pod_that_tracks_does_not_start_without_the_address_of_mlflow(default, task):
    assert settings_of(default[1], task)["MLFLOW_TRACKING_URI"] == ("ddm-settings", False)


def test_the_exit_handler_starts_without_the_settings_whose_lack_it_may_have_to_tell(default):
    settings = settings_of(default[1], "notify")
    assert settings["MLFLOW_TRACKING_URI"] == ("ddm-settings", True)
    assert all(optional for _, optional in settings.values())


def test_only_train_learns_where_checkpoints_are_and_does_without_them(default):
    assert settings_of(default[1], "train")["DDM_CHECKPOINTS"] == ("ddm-settings", True)
    others = (SPEAKS_TO_MLFLOW | {"fetch"}) - {"train"}
    assert [task for task in others if "DDM_CHECKPOINTS" in settings_of(default[1], task)] == []


def test_without_gpus_no_task_asks_for_one(default):
    assert not any("accelerator" in part["container"]["resources"] for part in executors(default[0]).values())
    assert not any("tolerations" in part for part in on_kubernetes(default[1]).values())


def test_gpus_go_to_the_tasks_that_use_them(tmp_path):
    graph, platform = compiled(tmp_path, "--gpu", "2")
    wanted = {
        name: part["container"]["resources"]["accelerator"]
        for name, part in executors(graph).items()
        if "accelerator" in part["container"]["resources"]
    }
    assert set(wanted) == USES_GPU
    assert {accelerator["resourceType"] for accelerator in wanted.values()} == {"nvidia.com/gpu"}
    counts = {name: int(accelerator["resourceCount"]) for name, accelerator in wanted.items()}
    assert counts == dict.fromkeys(USES_GPU, 1) | {"train": 2}, "none that would lie idle is reserved"
    tolerant = {name for name, part in on_kubernetes(platform).items() if "tolerations" in part}
    assert tolerant == USES_GPU


@pytest.fixture(scope="module")
def on_two_nodes(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("nodes"), "--image", IMAGE, "--nodes", "2", "--gpu", "4")


def job_settings(graph):
    parameters = tasks(graph)["train-job"]["inputs"]["parameters"]
    return parse(parameters["settings"]["runtimeValue"]["constant"], TrainJobSettings, "settings")


def test_several_gpus_of_a_pod_are_several_processes_with_room_to_exchange(tmp_path):
    graph, platform = compiled(tmp_path, "--gpu", "4")
    count = tasks(graph)["train"]["inputs"]["parameters"]["process_count"]
    assert count["runtimeValue"]["constant"] == 4
    mounts = {name: part.get("emptyDirMounts") for name, part in on_kubernetes(platform).items()}
    (mount,) = mounts.pop("train")
    assert (mount["mountPath"], mount["medium"]) == ("/dev/shm", "Memory")
    assert not any(mounts.values()), "no other task runs several processes"


def test_each_node_of_a_train_job_gets_what_the_task_train_asks_for(on_two_nodes):
    settings = job_settings(on_two_nodes[0])
    wanted = load_resources().tasks["train"]
    assert (settings.nodes, settings.processes, settings.image) == (2, 4, IMAGE)
    assert settings.requests == {"cpu": wanted.cpu_request, "memory": wanted.memory_request}
    assert settings.limits["nvidia.com/gpu"] == "4"
    assert settings.timeout_seconds == wanted.timeout_seconds
    assert [toleration.key for toleration in settings.tolerations] == ["nvidia.com/gpu"]
    variables = {variable.name: variable for variable in settings.environment}
    assert {"MLFLOW_TRACKING_URI", "DDM_CHECKPOINTS", "AWS_SECRET_ACCESS_KEY"} <= set(variables)
    assert variables["AWS_SECRET_ACCESS_KEY"].kind == "Secret"


def test_the_task_that_follows_a_train_job_is_small_and_knows_where_it_is(on_two_nodes):
    graph, platform = on_two_nodes
    assert "train" not in executors(graph)
    assert "accelerator" not in executors(graph)["train-job"]["container"]["resources"]
    part = on_kubernetes(platform)["train-job"]
    assert {field["name"]: field["fieldPath"] for field in part["fieldPathAsEnv"]} == {
        "DDM_NAMESPACE": "metadata.namespace",
        "DDM_POD_NAME": "metadata.name",
        "DDM_POD_UID": "metadata.uid",
        "DDM_WORKFLOW": "metadata.labels['workflows.argoproj.io/workflow']",
    }
    entries = [entry for entry in part["configMapAsEnv"] if not entry["optional"]]
    required = {pair["envVar"] for entry in entries for pair in entry["keyToEnv"]}
    assert required == {"MLFLOW_TRACKING_URI", "DDM_CHECKPOINTS"}
    assert int(part["activeDeadlineSeconds"]) > job_settings(graph).timeout_seconds


def test_no_node_is_refused(tmp_path, capsys):
    command = ["pipeline", "compile", "-o", str(tmp_path / "p.yaml"), "--nodes", "0"]
    assert main([*command, "--params", str(CHECKOUT / "params.yaml")]) == 1
    assert "--nodes 0: must be at least 1" in capsys.readouterr().err


def uncached(graph):
    return {name for name, task in tasks(graph).items() if not task["cachingOptions"].get("enableCache")}


def test_the_register_and_the_exit_handler_are_never_taken_from_a_cache(default):
    assert uncached(default[0]) == {"register", "notify"}


DIGEST = "fetch.digest=" + "a" * 64
COMMIT = "b" * 40
BUCKET = ("fetch.source=folder", "fetch.uri=s3://faces/photos")


@pytest.mark.parametrize(
    "fetch",
    [
        ("fetch.digest=null",),  # a package ships them
        (*BUCKET, DIGEST),
        ("fetch.source=folder", f"fetch.uri=dvc:///srv/faces@{COMMIT}:data", "fetch.digest=null"),
        (*BUCKET, DIGEST, "fetch.exclude_people=people.txt"),
    ],
)
def test_photos_that_the_parameters_name_are_fetched_once(tmp_path, fetch):
    graph, _ = compiled(tmp_path, *parameters(*fetch))
    assert uncached(graph) == {"register", "notify"}
    assert pinned(graph) is True


@pytest.mark.parametrize(
    "fetch",
    [
        (*BUCKET, "fetch.digest=null"),
        ("fetch.source=folder", "fetch.uri=/srv/faces", "fetch.digest=null"),
        ("fetch.source=folder", "fetch.uri=dvc:///srv/faces@main:data", "fetch.digest=null"),
        ("fetch.source=folder", f"fetch.uri=dvc:///srv/faces@{COMMIT[:12]}:data", "fetch.digest=null"),
        ("fetch.digest=null", "fetch.exclude_people=people.txt"),
        ("fetch.source=lfw", "fetch.uri=/srv/lfw", DIGEST, "fetch.lists=[people.txt]"),
    ],
)
def test_photos_that_may_be_others_tomorrow_are_fetched_anew_by_every_run(tmp_path, fetch):
    graph, _ = compiled(tmp_path, *parameters(*fetch))
    assert uncached(graph) == {"fetch", "register", "notify"}
    assert pinned(graph) is False


def parameters(*settings):
    return [part for setting in settings for part in ("--param", setting)]


def pinned(graph):
    """Whether fetch is told to refuse what is not pinned."""
    return tasks(graph)["fetch"]["inputs"]["parameters"]["pinned"]["runtimeValue"]["constant"]


def test_the_digest_reaches_the_key_of_the_fetch_and_a_setting_of_the_report_does_not(default):
    """KFP's key holds a task's own parameters."""
    inputs = tasks(default[0])["fetch"]["inputs"]
    assert set(inputs["parameters"]) == {"params", "pinned"}
    (handler,) = [
        task for name, task in default[0]["root"]["dag"]["tasks"].items() if name.startswith("exit-handler")
    ]
    outer = inputs["parameters"]["params"]["componentInputParameter"]
    assert handler["inputs"]["parameters"][outer] == {"componentInputParameter": "fetch"}
    defaults = default[0]["root"]["inputDefinitions"]["parameters"]
    assert "digest" in defaults["fetch"]["defaultValue"]


def test_without_an_exit_handler_the_graph_is_otherwise_the_same(default, tmp_path):
    graph, platform = compiled(tmp_path, "--image", IMAGE, "--no-exit-handler")
    assert set(executors(default[0])) - set(executors(graph)) == {"notify"}
    assert set(on_kubernetes(platform)) == set(executors(graph))
    text = yaml.safe_dump(graph)
    assert "exit-handler" not in text
    assert "taskFinalStatus" not in text
    assert set(graph["root"]["dag"]["tasks"]) >= {"fetch", "prepare", "report", "register"}


def test_the_same_input_gives_the_same_bytes_in_every_process(tmp_path):
    results = []
    for number in range(3):
        path = tmp_path / f"{number}.yaml"
        command = [sys.executable, "-m", "ddm_core.cli", "pipeline", "compile", "-o", str(path), "--gpu", "1"]
        subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
        results.append(path.read_bytes())
    assert results[0] == results[1] == results[2]


def test_parameters_default_to_the_settings(tmp_path):
    graph, _ = compiled(tmp_path, "--param", "attack.epochs=5")
    assert graph["root"]["inputDefinitions"]["parameters"]["attack"]["defaultValue"]["epochs"] == 5


RESOURCES = CHECKOUT / "pipelines/resources.yaml"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  train: {", "  trian: {", "'trian' is no task of the pipeline"),
        ('cpu_request: "1"', 'cpu_requset: "1"', "unknown key 'cpu_requset'; did you mean 'cpu_request'?"),
        ("memory_limit: 4Gi", "memory_limit: lots", "memory_limit is 'lots'; write a quantity such as"),
        ("retries: 2", "retries: -1", "must not be negative"),
        ("defaults:", "default:", "expected a mapping with defaults"),
        ("tasks:", "tasks: all\nrest:", "tasks: expected a mapping of task to its resources"),
        ("  fetch: {}", "  fetch: 8Gi", "fetch: expected a mapping such as {memory_limit: 8Gi}"),
        ('cpu_request: "1"', "cpu_request: 2500m", "cpu_request 2500m is above cpu_limit 2"),
        ("memory_request: 2Gi", "memory_request: 5G", "memory_request 5G is above memory_limit 4Gi"),
        ("operator: Exists", "operator: Exist", "operator is 'Exist'; expected one of Equal, Exists"),
        ("effect: NoSchedule", "effect: Never", "effect is 'Never'; expected one of NoSchedule"),
    ],
)
def test_a_mistake_in_the_resources_is_one_line(tmp_path, capsys, old, new, message):
    path = tmp_path / "resources.yaml"
    text = RESOURCES.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    output = tmp_path / "pipeline.yaml"
    command = ["pipeline", "compile", "-o", str(output), "--params", str(CHECKOUT / "params.yaml")]
    assert main([*command, "--resources", str(path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_resources_that_are_not_there_are_told_as_such(tmp_path, capsys):
    command = ["pipeline", "compile", "-o", str(tmp_path / "pipeline.yaml"), "--resources", "nowhere.yaml"]
    assert main([*command, "--params", str(CHECKOUT / "params.yaml")]) == 1
    assert "nowhere.yaml: not found; name a file such as pipelines/resources.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["compile", "components"])
@pytest.mark.parametrize("image", ["two words", "ddm@sha256:abc", ""])
def test_what_is_no_image_reference_is_refused(tmp_path, capsys, monkeypatch, verb, image):
    monkeypatch.chdir(CHECKOUT)
    output = tmp_path / "output"
    assert main(["pipeline", verb, "-o", str(output), "--image", image]) == 1
    assert "is no image reference" in capsys.readouterr().err
    assert not output.exists()


def test_a_node_selector_and_a_toleration_of_the_resources_reach_the_pod(tmp_path):
    path = tmp_path / "resources.yaml"
    wanted = (
        "  node_selector: {pool: faces}\n"
        "  tolerations: [{key: spot, operator: Equal, value: 'yes', toleration_seconds: 60}]"
    )
    text = RESOURCES.read_text()
    start, end = text.index("  node_selector: {}"), text.index("\n\ntasks:")
    path.write_text(text[:start] + wanted + text[end:])
    _, platform = compiled(tmp_path, "--resources", str(path))
    part = on_kubernetes(platform)["fetch"]
    assert part["nodeSelector"]["labels"] == {"pool": "faces"}
    (toleration,) = part["tolerations"]
    assert (toleration["key"], toleration["value"]) == ("spot", "yes")
