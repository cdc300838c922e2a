"""`ddm pipeline run --local`: the whole graph on this machine, killed, resumed, changed."""

import json
import os
import re
import shutil
import signal
import time

import pytest
import yaml
from mlflow import MlflowClient
from small_project import CHECKOUT, run, small_params, start, write_yaml

from ddm_core.results import ATTACKERS, CONTROLS
from ddm_core.tracking import EXPERIMENT

OBFUSCATORS = ("none", "mosaic8")  # nothing to train: a run takes seconds
PEOPLE = 5
TASKS = 7 + len(OBFUSCATORS) * (3 + len(ATTACKERS + CONTROLS))
ALWAYS_RUN = 3  # register and notify, for what they do lies outside; fetch, for the photos may be others


def make_folder(folder, photos):
    """A folder with a params.yaml of two classical obfuscators and a copy of the photos."""
    shutil.copytree(photos, folder / "photos")
    params = small_params("photos")
    full = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    params["train"] = {name: full["train"][name] for name in OBFUSCATORS}
    params["report"]["headline"] = "none"
    params["register"]["models"] = {}
    write_yaml(folder / "params.yaml", params)
    return folder


def command(*settings):
    """The command with changed settings."""
    changes = [part for setting in settings for part in ("--param", setting)]
    return ["ddm", "pipeline", "run", "--local", "-o", "out", "--params-file", "params.yaml", *changes]


def run_again(folder, *settings):
    """Run to the end; return how many tasks ran, and how many came from an earlier run."""
    result = run(folder, *command(*settings))
    assert result.returncode == 0, result.stderr
    total, cached = counted(result)
    assert total == TASKS
    return total - cached, cached


def counted(result):
    """How many tasks a run had, and how many of them came from an earlier one."""
    return map(int, re.search(r"(\d+) tasks, (\d+) of them from an earlier run", result.stderr).groups())


def finished_tasks(folder):
    """What the cache has for each task that finished: the names of its outputs, and what is known of them."""
    entries = [path for path in (folder / "out/cache").rglob("*.json") if not path.stem.startswith("raw-")]
    return [json.loads(path.read_text()) for path in entries]


def runs_called(name, store):
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")


def half_written(folder):
    return list((folder / "out").rglob(".*.tmp"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory, photo_folder):
    """A folder whose first run was killed in the middle, and how many tasks it had finished."""
    folder = make_folder(tmp_path_factory.mktemp("local"), photo_folder)
    process = start(folder, *command())
    deadline = time.monotonic() + 120
    while len(finished_tasks(folder)) < 5:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (folder / "out/metrics.json").exists()
    return folder, len(finished_tasks(folder))


@pytest.fixture(scope="module")
def resumed(killed):
    folder, finished = killed
    return folder, finished, run_again(folder)


def test_after_a_kill_the_finished_tasks_are_not_run_again(resumed):
    _, finished, (ran, cached) = resumed
    assert cached == finished
    assert ran == TASKS - finished


def test_nothing_half_written_is_left(resumed):
    assert half_written(resumed[0]) == []


def test_the_results_lie_where_the_run_says(resumed):
    out = resumed[0] / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["obfuscators"]) == list(OBFUSCATORS)
    assert "<html" in (out / "report.html").read_text()[:200]
    assert json.loads((out / "registration.json").read_text())["models"] == []
    assert (out / "mlflow.db").exists()
    assert not (resumed[0] / "mlflow.db").exists()


def test_artifacts_carry_digests_and_figures(resumed):
    entries = [json.loads(path.read_text()) for path in sorted((resumed[0] / "out/cache").rglob("*.json"))]
    metadata = {name: item["metadata"] for entry in entries for name, item in entry.items()}
    assert re.fullmatch("[0-9a-f]{64}", metadata["raw"]["digest"])
    assert re.fullmatch("[0-9a-f]{64}", metadata["prepared"]["dataset_digest"])
    assert re.fullmatch("[0-9a-f]{64}", metadata["model"]["weights_sha256"])
    assert metadata["evidence"]["dataset_digest"] == metadata["prepared"]["dataset_digest"]
    assert set(metadata["headline"]) == {
        f"{name}_{figure}" for name in OBFUSCATORS for figure in ("worst_case_top1", "psnr_db")
    }


def attacks(folder):
    """The metadata of result and confusion matrix of every attack."""
    entries = [entry for entry in finished_tasks(folder) if {"result", "confusion"} <= set(entry)]
    return [(entry["result"]["metadata"], entry["confusion"]["metadata"]) for entry in entries]


def test_every_attack_has_a_result_with_figures_and_those_that_apply_a_confusion_matrix(resumed):
    found = attacks(resumed[0])
    assert {(result["obfuscator"], result["attacker"]) for result, _ in found} == {
        (obfuscator, attacker) for obfuscator in OBFUSCATORS for attacker in ATTACKERS + CONTROLS
    }
    applied = [(result, shown) for result, shown in found if result["applicable"]]
    assert {result["attacker"] for result, _ in applied} == {"clean", "retrained", "inversion"}
    for result, shown in applied:
        assert 0 <= result["top1"] <= 1
        rows = [row["row"] for row in shown["confusionMatrix"]["rows"]]
        assert len(rows) == len(shown["confusionMatrix"]["annotationSpecs"]) == PEOPLE
        assert sum(map(sum, rows)) == result["n"]
        assert sum(rows[person][person] for person in range(PEOPLE)) == round(result["top1"] * result["n"])


def test_an_attack_that_does_not_apply_shows_no_matrix(resumed):
    found = attacks(resumed[0])
    assert [shown for result, shown in found if not result["applicable"]] == [{}] * (
        len(OBFUSCATORS) * len({"wrong_key", *CONTROLS})
    )


def test_the_recogniser_shows_its_confusion_matrix(resumed):
    (shown,) = [
        entry["confusion"]["metadata"] for entry in finished_tasks(resumed[0]) if "recogniser" in entry
    ]
    assert len(shown["confusionMatrix"]["rows"]) == PEOPLE


def test_a_setting_of_the_report_runs_the_report_and_what_follows_it(resumed):
    assert run_again(resumed[0], "report.headline=mosaic8")[0] == 1 + ALWAYS_RUN


def test_a_run_without_an_exit_handler_has_one_task_less_and_shares_the_cache(resumed):
    result = run(resumed[0], *command(), "--no-exit-handler")
    assert result.returncode == 0, result.stderr
    total, cached = counted(result)
    assert total == TASKS - 1
    assert total - cached == ALWAYS_RUN - 1
    assert "notify" not in (resumed[0] / "out/run.log").read_text()


def test_other_photos_under_the_same_name_run_everything_and_the_same_ones_nothing(resumed):
    folder = resumed[0]
    before = fetched(folder)
    (next((folder / "photos").rglob("*.png"))).unlink()
    assert run_again(folder)[1] == 0
    assert run_again(folder)[0] == ALWAYS_RUN
    assert len(fetched(folder) - before) == 1  # a copy for each content, not for each run


def fetched(folder):
    return set((folder / "out").rglob("raw"))


def test_photos_with_a_digest_are_fetched_once(resumed):
    folder = resumed[0]
    refused = run(folder, *command("fetch.digest=" + "f" * 64))
    assert refused.returncode == 1
    digest = re.search(r"have digest ([0-9a-f]{64})", refused.stderr)[1]
    run_again(folder, f"fetch.digest={digest}")
    assert run_again(folder, f"fetch.digest={digest}")[0] == ALWAYS_RUN - 1


def test_a_failing_task_is_told_in_one_line_with_its_reason(tmp_path, photo_folder):
    folder = make_folder(tmp_path, photo_folder)
    for number in range(3):
        (folder / "photos" / "Anna Lee" / f"broken {number}.png").write_bytes(b"no picture")
    result = run(folder, *command())
    assert result.returncode == 1
    error = result.stderr.rstrip("\n").rpartition("\n")[2]
    assert error.startswith("ddm: error: task prepare failed: ")
    assert "files are unreadable" in error
    assert error.endswith("the whole log: out/run.log")
    assert "pipeline: failed" in (folder / "out/run.log").read_text()
    (recorded,) = runs_called("pipeline", folder / "out/mlflow.db")
    assert recorded.info.status == "FAILED"
    assert recorded.data.tags["ddm.pipeline_state"] == "FAILED"


def test_a_dvc_project_is_found_from_the_folder_in_which_it_was_named(tmp_path, photo_folder):
    folder = make_folder(tmp_path, photo_folder)
    result = run(folder, *command("fetch.uri=dvc://faces@main:data"))
    assert result.returncode == 1
    assert f"dvc://{folder}/faces@main:data: no git repository there" in result.stderr


def test_a_folder_with_other_files_is_refused_and_keeps_them(tmp_path, photo_folder):
    folder = make_folder(tmp_path, photo_folder)
    others = [folder / "out" / name for name in ("tmp/notes.txt", ".draft.tmp", "report.html")]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    result = run(folder, *command())
    assert result.returncode == 1
    assert result.stderr.startswith("ddm: error: out: holds files that no local run made")
    assert sorted(path for path in (folder / "out").rglob("*") if path.is_file()) == sorted(others)
    assert {path.read_text() for path in others} == {"mine"}


def test_an_image_without_a_container_runner_is_refused(tmp_path, photo_folder):
    folder = make_folder(tmp_path, photo_folder)
    result = run(folder, *command(), "--image", "ddm:1")
    assert result.returncode == 1
    assert "--image is what --runner docker runs tasks in" in result.stderr
    assert not (folder / "out").exists()


def test_two_runs_in_one_folder_do_not_get_into_each_others_way(tmp_path, photo_folder):
    folder = make_folder(tmp_path, photo_folder)
    process = start(folder, *command())
    try:
        while not (folder / "out/run.json").exists():
            assert process.poll() is None
            time.sleep(0.05)
        second = run(folder, *command())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert second.returncode == 1
    assert "another run is at work here" in second.stderr
