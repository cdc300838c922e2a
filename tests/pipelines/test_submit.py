"""`ddm pipeline submit`: what reaches the server, and what is refused before anything does."""

import json
import os
import subprocess

import pytest
import yaml
from kfp_server import IMAGE

from ddm_core.errors import DdmError
from pipelines.schedule import to_kfp_cron


def only(mapping):
    (value,) = mapping.values()
    return value


def test_a_submission_makes_the_experiment_the_pipeline_its_version_and_the_run(submit, server):
    said = submit("--experiment", "faces", "--run-name", "first")
    assert said.status == 0, said.err
    assert server.sent == [
        "POST /apis/v2beta1/experiments",
        "POST /apis/v2beta1/pipelines",
        "POST /apis/v2beta1/pipelines/upload_version",
        "POST /apis/v2beta1/runs",
    ]
    run = only(server.runs)
    assert run["display_name"] == "first"
    assert run["experiment_id"] == only(server.experiments)["experiment_id"]
    assert only(server.experiments)["display_name"] == "faces"
    assert only(server.pipelines)["display_name"] == "ddm"
    assert f"run {run['run_id']}\n{server.address}/#/runs/details/{run['run_id']}\n" in said.out
    assert said.err == ""


def test_a_version_is_named_after_release_and_content_and_its_tasks_run_on_the_image(submit, server):
    import ddm_core

    said = submit()
    version = only(server.versions)
    assert version["display_name"].startswith(f"{ddm_core.__version__}-")
    assert len(version["display_name"].split("-")[1]) == 12
    assert f"pipeline version {version['display_name']}, uploaded" in said.out
    executors = version["pipeline_spec"]["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {IMAGE}


def test_submitting_the_same_again_makes_a_run_of_the_version_that_is_there(submit, server):
    submit()
    said = submit()
    assert "already there" in said.out
    assert len(server.versions) == 1
    assert len(server.experiments) == 1
    assert len(server.pipelines) == 1
    assert len(server.runs) == 2


@pytest.mark.parametrize("change", ["--no-cache", "--gpu=1", f"--image={IMAGE[:-1]}b"])
def test_a_changed_pipeline_becomes_a_new_version_of_the_same_pipeline(submit, server, change):
    submit()
    assert "uploaded" in submit(change).out
    assert len(server.versions) == 2
    assert len(server.pipelines) == 1


def test_every_setting_reaches_the_run_as_a_parameter_of_its_own_type(submit, server, tmp_path):
    changes = tmp_path / "changes.yaml"
    changes.write_text("recognise: {epochs: 4}\n")
    said = submit("--params-file", changes, "--param", "attack.epochs=5", "--param", "train.mosaic8.block=4")
    assert said.status == 0, said.err
    parameters = only(server.runs)["runtime_config"]["parameters"]
    assert parameters["recognise"]["epochs"] == 4
    assert parameters["attack"]["epochs"] == 5
    assert [item["name"] for item in parameters["train"]] == ["none", "mosaic8"]
    assert parameters["train"][1]["block"] == 4


def test_runs_with_other_parameters_are_runs_of_the_same_version(submit, server):
    submit()
    assert "already there" in submit("--param", "attack.epochs=5").out
    first, second = server.runs.values()
    assert first["runtime_config"]["parameters"]["attack"]["epochs"] != 5
    assert second["runtime_config"]["parameters"]["attack"]["epochs"] == 5


def test_no_cache_switches_caching_off_in_every_task(submit, server):
    submit("--no-cache")
    assert "enableCache: true" not in yaml.safe_dump(only(server.versions)["pipeline_spec"])


UNPINNED = ["--param", "fetch.source=folder", "--param", "fetch.digest=null"]


def caches_fetch(version):
    dags = [part["dag"] for part in version["pipeline_spec"]["components"].values() if "dag" in part]
    (task,) = [dag["tasks"]["fetch"] for dag in dags if "fetch" in dag["tasks"]]
    return task["cachingOptions"].get("enableCache", False)


def test_a_run_on_photos_that_may_change_is_one_of_a_version_that_fetches_anew(submit, server):
    submit()
    said = submit(*UNPINNED, "--param", "fetch.uri=s3://faces/photos")
    assert said.status == 0
    assert said.err == (
        "ddm: fetch names where photos are and not which: every task runs anew in every run; --pin, or "
        "fetch.digest, names them, so that KFP's cache can be used\n"
    )
    assert [caches_fetch(version) for version in server.versions.values()] == [True, False]


def test_pinned_photos_are_named_by_their_digest_in_the_run(submit, server, photo_folder):
    from ddm_core.data.sources import list_photos, tree_digest

    content = {
        photo.relative: (photo_folder / photo.relative).read_bytes() for photo in list_photos(photo_folder)
    }
    said = submit(*UNPINNED, "--param", f"fetch.uri={photo_folder}", "--pin")
    assert said.status == 0, said.err
    digest = tree_digest(content)
    assert f"ddm: pinned: fetch.digest={digest}\n" in said.err
    assert "every task runs anew" not in said.err
    assert only(server.runs)["runtime_config"]["parameters"]["fetch"]["digest"] == digest
    assert caches_fetch(only(server.versions))


def test_photos_that_are_named_already_are_not_looked_at(submit, server):
    said = submit(*UNPINNED[:2], "--param", "fetch.uri=s3://nowhere/photos", "--pin")
    assert (said.status, said.err) == (0, "")  # params.yaml has a digest


@pytest.fixture
def repository(tmp_path):
    """A git repository with a branch and a tag, of which the branch has gone on."""
    folder = tmp_path / "faces"
    folder.mkdir()

    def git(*arguments):
        names = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")]
        environment = os.environ | dict.fromkeys(names, "a@example.org")
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet", "--initial-branch", "main")
    git("commit", "--quiet", "--allow-empty", "-m", "One")
    git("tag", "--annotate", "v1", "-m", "One")
    git("commit", "--quiet", "--allow-empty", "-m", "Two")
    git("branch", "team/main")
    git("commit", "--quiet", "--allow-empty", "-m", "Three")
    return folder, git


@pytest.mark.parametrize(
    ("revision", "commit"), [("main", "main"), ("v1", "v1^{commit}"), ("team/main", "main~1")]
)
def test_a_branch_or_tag_of_a_dvc_project_is_pinned_to_its_commit(
    submit, server, repository, revision, commit
):
    folder, git = repository
    said = submit(*UNPINNED, "--param", f"fetch.uri=dvc://{folder}@{revision}:data/raw", "--pin")
    assert said.status == 0, said.err
    uri = f"dvc://{folder}@{git('rev-parse', commit)}:data/raw"
    assert said.err == f"ddm: pinned: fetch.uri={uri}\n"
    assert only(server.runs)["runtime_config"]["parameters"]["fetch"]["uri"] == uri
    assert caches_fetch(only(server.versions))


def test_the_files_beside_the_photos_are_pinned_to_their_commits_with_them(submit, server, repository):
    """None of them is fetched: the project has none of these files."""
    folder, git = repository
    at = f"dvc://{folder}@main"
    settings = {
        "source": "facescrub",
        "uri": f"{at}:faces",
        "lists": f"[{at}:actors.txt, {at}:actresses.txt]",
        "corrections": f"{at}:corrections.tsv",
        "exclude_people": f"{at}:people.txt",
        "verification": f"{at}:lfw.bin",
        "digest": "null",
    }
    said = submit(*(f"--param=fetch.{name}={value}" for name, value in settings.items()), "--pin")
    assert said.status == 0, said.err
    fetch = only(server.runs)["runtime_config"]["parameters"]["fetch"]
    commit = f"dvc://{folder}@{git('rev-parse', 'main')}"
    assert (fetch["uri"], "digest" in fetch) == (f"{commit}:faces", False)
    assert fetch["lists"] == [f"{commit}:actors.txt", f"{commit}:actresses.txt"]
    beside = (fetch["corrections"], fetch["exclude_people"], fetch["verification"])
    assert beside == tuple(f"{commit}:{name}" for name in ("corrections.tsv", "people.txt", "lfw.bin"))
    assert caches_fetch(only(server.versions))


@pytest.mark.parametrize("place", ["lfw.bin", "s3://faces/lfw.bin"])
def test_a_file_beside_the_photos_that_may_change_is_refused_before_a_photo_is_fetched(submit, server, place):
    """A digest names the photos alone."""
    at = ("--param", "fetch.uri=s3://nowhere/photos", "--param", f"fetch.verification={place}")
    said = submit(*UNPINNED, *at, "--pin")
    assert said.status == 1
    assert said.err.startswith(
        "ddm: error: --pin: fetch.lists, fetch.corrections and fetch.verification name"
    )
    assert said.err.count("\n") == 1
    assert server.requests == []


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("dvc://{folder}@v9:data/raw", "has no branch or tag v9; name one of them, or a commit"),
        ("dvc://{folder}-nowhere@main:data/raw", "no git repository at"),
        ("{folder}-nowhere", "faces-nowhere"),
    ],
)
def test_what_cannot_be_pinned_is_refused_in_one_line_before_anything_is_asked(
    submit, server, repository, uri, line
):
    said = submit(*UNPINNED, "--param", f"fetch.uri={uri.format(folder=repository[0])}", "--pin")
    assert said.status == 1
    assert line in said.err
    assert said.err.count("\n") == 1
    assert server.requests == []


def test_a_run_can_do_without_the_exit_handler(submit, server):
    assert submit("--no-exit-handler").status == 0
    spec = only(server.versions)["pipeline_spec"]
    assert "exec-notify" not in spec["deploymentSpec"]["executors"]
    assert "exec-fetch" in spec["deploymentSpec"]["executors"]


def test_pipeline_root_and_service_account_are_the_runs(submit, server):
    submit("--pipeline-root", "s3://bucket/root", "--service-account", "runner")
    run = only(server.runs)
    assert run["runtime_config"]["pipeline_root"] == "s3://bucket/root"
    assert run["service_account"] == "runner"


@pytest.mark.parametrize("name", ["50 % + more", "Größe", 'with "quotes"'])
def test_an_experiment_is_found_again_whatever_its_name(submit, server, name):
    assert submit("--experiment", name).status == 0
    assert submit("--experiment", name).status == 0
    assert only(server.experiments)["display_name"] == name


def test_runs_of_many_users_live_in_their_namespace(submit, server):
    server.namespaces = {"team-a"}
    assert submit("--namespace", "team-a").status == 0
    assert only(server.experiments)["namespace"] == "team-a"
    assert only(server.pipelines)["namespace"] == "team-a"


def test_an_unknown_namespace_is_refused_in_one_line(submit, server):
    server.namespaces = {"team-a"}
    said = submit("--namespace", "team-b")
    assert said.status == 1
    assert "you may not use experiment 'ddm' in namespace 'team-b'" in said.err
    assert said.err.count("\n") == 1
    assert server.sent == []


def test_a_server_for_many_users_asks_for_a_namespace_and_one_for_one_user_for_none(submit, server):
    said = submit("--namespace", "team-a")
    assert "leave --namespace out" in said.err
    server.namespaces = {"team-a"}
    assert "pass --namespace" in submit().err
    assert server.sent == []


def test_a_recurring_run_starts_by_cron_and_one_at_a_time(submit, server):
    said = submit("--recurring", "30 4 * * 1", "--run-name", "weekly")
    assert said.status == 0, said.err
    made = only(server.recurring)
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 4 * * 1"}}
    assert (made["max_concurrency"], made["mode"], made["no_catchup"]) == ("1", "ENABLE", True)
    assert made["display_name"] == "weekly"
    assert server.runs == {}
    assert f"{server.address}/#/recurringrun/details/{made['recurring_run_id']}" in said.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--param", "attack.epoch=5"], "attack: unknown key 'epoch'; did you mean 'epochs'?"),
        (["--param", "atack.epochs=5"], "unknown key 'atack'; did you mean 'attack'?"),
        (["--param", "attack.epochs=many"], "attack: epochs"),
        (["--recurring", "61 * * * *"], "minute '61' is not within 0-59"),
        (["--recurring", "* * *"], "has 3 fields"),
        (["--recurring", "0 4 * * *", "--wait"], "leave one of them out"),
        (["--timeout", "5"], "pass --wait too"),
        (["--image", "ddm@sha256:abc"], "is no image reference"),
        (["--image", "two words"], "is no image reference"),
        (["--gpu", "-1"], "--gpu -1"),
        (["--resources", "/nowhere.yaml"], "/nowhere.yaml: not found"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line_before_anything_is_asked(submit, server, arguments, line):
    said = submit(*arguments)
    assert said.status == 1
    assert line in said.err
    assert said.err.count("\n") == 1
    assert server.requests == []


def test_an_image_must_be_named_because_a_cluster_cannot_pull_a_local_one(submit, server):
    said = submit(image=None)
    assert said.status == 1
    assert "push it to a registry and pass --image REGISTRY/NAME@sha256:…" in said.err
    assert server.requests == []


def test_an_image_without_digest_is_accepted_with_a_warning(submit, server):
    said = submit(image="registry.example.org:5000/team/ddm:1.0")
    assert said.status == 0
    assert said.err.startswith("ddm: --image registry.example.org:5000/team/ddm:1.0 has no digest")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 4 * * *", "0 0 4 * * *"),
        ("*/15 0-6,22 1 JAN-mar ?", "0 */15 0-6,22 1 JAN-mar ?"),
        ("30 0 4 * * SUN", "30 0 4 * * SUN"),
        ("5/10 * * * 1-5", "0 5/10 * * * 1-5"),
    ],
)
def test_cron_of_five_fields_gets_a_second(cron, expected):
    assert to_kfp_cron(cron) == expected


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "*/0 * * * *",
        "5-1 * * * *",
        "1-2-3 * * * *",
        "a * * * *",
        "1, * * * *",
        "-1 * * * *",
        "* * * * * * *",
    ],
)
def test_cron_that_no_server_would_take_is_refused(cron):
    with pytest.raises(DdmError, match="--recurring"):
        to_kfp_cron(cron)


def test_the_server_of_these_tests_refuses_what_the_api_does_not_know(server):
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    for path, body in [
        ("experiments", {"display_name": "a", "colour": "red"}),
        ("experiments", {"display_name": 1}),
        ("pipelines", {"display_name": "a", "tags": {"team": 2}}),
        ("recurringruns", {"display_name": "a", "mode": "SOMETIMES"}),
        ("runs", {"display_name": "a", "runtime_config": {"parameters": []}}),
        ("runs", {"display_name": "a", "created_at": "yesterday"}),
    ]:
        with pytest.raises(HTTPError, match="400"):
            urlopen(Request(f"{server.address}/apis/v2beta1/{path}", json.dumps(body).encode()))
    assert len(server.faults) == 6
    server.faults.clear()
