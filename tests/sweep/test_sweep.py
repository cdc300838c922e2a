"""`ddm sweep` from end to end: real trainings, attackers and gate, on photos of five people."""

import csv
import re
import signal
import subprocess
import time

import pytest
from small_sweep import command, read_yaml, run, small_params, small_space, write_yaml

from ddm_core.files import read_json
from ddm_core.params import parse_obfuscator
from ddm_core.sweep.tracked import EXPERIMENT
from ddm_core.tracking import connect

DEADLINE_SECONDS = 120
ARGUMENTS = ("keyed_ddm", "--space", "space.yaml")


def swept(project, *arguments):
    """Run a sweep that is to end well; return what it printed."""
    ended = run(project, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def trials(project, name="keyed_ddm"):
    with (project / f"results/sweeps/{name}/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_numbers(rows):
    return [{name: value for name, value in row.items() if name != "trial"} for row in rows]


def folders(project, name="keyed_ddm"):
    return sorted(path.name for path in (project / f"results/sweeps/{name}/trials").iterdir())


def change(project, obfuscator, **settings):
    params = read_yaml(project / "params.yaml")
    params["train"][obfuscator] |= settings
    write_yaml(project / "params.yaml", params)


def test_two_trials_find_the_better_settings_and_say_how_to_use_them(project):
    printed = swept(project, *ARGUMENTS, "--no-mlflow")
    rows = trials(project)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    better = max(rows, key=lambda row: float(row["psnr_db"]))
    written = (project / "results/sweeps/keyed_ddm/best.yaml").read_text()
    assert printed.endswith(written)
    assert f"trial {better['trial']} of 2" in written

    found = read_yaml(project / "results/sweeps/keyed_ddm/best.yaml")["train"]["keyed_ddm"]
    assert found["learning_rate"] == float(better["learning_rate"])
    base = small_params()["train"]["keyed_ddm"]
    assert found == base | {"learning_rate": found["learning_rate"]}
    parse_obfuscator(found, "best.yaml")

    picture = (project / "results/sweeps/keyed_ddm/trials.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    # What was measured is what the stages measured, and stays to be looked at.
    folder = project / f"results/sweeps/keyed_ddm/trials/{int(better['trial']):04}/results"
    measured = read_json(folder / "utility/keyed_ddm/result.json")["channels"]["png"]["psnr_db"]
    assert float(better["psnr_db"]) == pytest.approx(measured, abs=1e-3)
    assert (folder / "attacks/keyed_ddm/wrong_key/result.json").exists()


def test_settings_that_hide_beat_settings_that_restore_better_but_leak(project):
    """Keyless DDM leaks as soon as it restores: whoever runs its public decryption sees who it is."""
    params = small_params()
    params["train"]["ddm"]["warmup_steps"] = 0
    gate = params["register"]["gate"]
    gate["attackers"] = {"wrong_key": {"max_top1_upper95": 0.7}}
    gate["max_worst_case_top1_upper95"] = 0.7
    write_yaml(project / "params.yaml", params)
    space = small_space(settings={"steps": {"choices": [1, 200]}}, trials=3)
    write_yaml(project / "space.yaml", space)
    printed = swept(project, "ddm", "--space", "space.yaml", "--no-mlflow")
    rows = {row["steps"]: row for row in trials(project, "ddm")}
    assert float(rows["200"]["psnr_db"]) > float(rows["1"]["psnr_db"]) + 5
    assert (rows["200"]["private"], rows["1"]["private"]) == ("False", "True")
    assert read_yaml(project / "results/sweeps/ddm/best.yaml")["train"]["ddm"]["steps"] == 1
    assert "leaks" in printed


def test_a_training_that_falls_behind_is_given_up_and_leaves_no_folder(project):
    change(project, "keyed_ddm", steps=50)
    space = small_space(
        trials=2,
        seed=0,  # draws 1e-2 first
        settings={"learning_rate": {"choices": [1e-9, 1e-2]}},
        pruning={"startup_trials": 1},
    )
    write_yaml(project / "space.yaml", space)
    printed = swept(project, *ARGUMENTS, "--no-mlflow")
    complete, pruned = trials(project)
    assert (complete["state"], complete["learning_rate"]) == ("complete", "0.01")
    assert (pruned["state"], pruned["learning_rate"]) == ("pruned", "1e-09")
    assert re.fullmatch(r"[\d.]+ dB at step 25, below the median", pruned["reason"])
    assert re.search(r"^1 +pruned", printed, re.MULTILINE)
    assert folders(project) == ["0000"]


def test_a_training_that_breaks_counts_against_its_settings_alone(project):
    change(project, "keyed_ddm", steps=30)
    space = small_space(trials=2, settings={"learning_rate": {"choices": [1e-3, 1e30]}})
    write_yaml(project / "space.yaml", space)
    swept(project, *ARGUMENTS, "--no-mlflow")
    states = {row["learning_rate"]: row for row in trials(project)}
    assert states["0.001"]["state"] == "complete"
    assert states["1e+30"]["state"] == "broken"
    assert "the loss is not finite at step" in states["1e+30"]["reason"]
    assert len(folders(project)) == 1


def test_where_everybody_leaks_nothing_is_recommended(project):
    params = small_params()
    params["register"]["gate"]["attackers"] = {"wrong_key": {"max_top1_upper95": 0.7}}
    params["register"]["gate"]["max_worst_case_top1_upper95"] = 0.7
    params["train"]["ddm"]["steps"] = 200
    write_yaml(project / "params.yaml", params)
    write_yaml(project / "space.yaml", small_space(trials=1))
    ended = run(project, "ddm", "--space", "space.yaml", "--no-mlflow")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("ddm: error: no trial kept every attacker within")
    assert trials(project, "ddm")[0]["private"] == "False"
    assert not (project / "results/sweeps/ddm/best.yaml").exists()


def test_trials_side_by_side_are_the_same_trials(project):
    swept(project, *ARGUMENTS, "--no-mlflow", "--name", "one")
    swept(project, *ARGUMENTS, "--no-mlflow", "--name", "two", "--jobs", "2")
    assert trials(project, "one") == trials(project, "two")


# Broken off


def kill_in_the_second_training(project):
    """Start the sweep, and kill it with SIGKILL once the first trial is there and the second one trains."""
    process = subprocess.Popen(
        command(*ARGUMENTS), cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list((project / "results/sweeps/keyed_ddm").glob("trials/.0001.*.tmp/models")):
        assert process.poll() is None, "the sweep has ended"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE_SECONDS)
    assert [row["trial"] for row in trials(project)] == ["0"]


def test_a_sweep_that_was_killed_goes_on_and_ends_as_if_nothing_had_happened(project):
    change(project, "keyed_ddm", steps=100)
    kill_in_the_second_training(project)
    swept(project, *ARGUMENTS)
    assert [row["trial"] for row in trials(project)] == ["0", "2"]  # 1 is the one that failed
    assert folders(project) == ["0000", "0002"]
    assert list((project / "results").rglob("*.tmp")) == []

    swept(project, *ARGUMENTS, "--no-mlflow", "--name", "whole")
    assert without_numbers(trials(project)) == without_numbers(trials(project, "whole"))

    # One run in MLflow with two below it, whatever happened.
    client = connect()
    place = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = client.search_runs([place])
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 3
    assert parent.info.status == "FINISHED"
    assert {run.data.params["learning_rate"] for run in children} == {
        row["learning_rate"] for row in trials(project)
    }
    assert parent.data.metrics["best.psnr_db"] == max(run.data.metrics["psnr_db"] for run in children)
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"best.yaml", "trials.csv", "trials.png"}


def test_sigterm_ends_a_sweep_with_143_and_leaves_nothing_half_written(project):
    change(project, "keyed_ddm", steps=100_000)
    process = subprocess.Popen(
        command(*ARGUMENTS, "--no-mlflow"), cwd=project, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list((project / "results/sweeps/keyed_ddm").glob("trials/.0000.*.tmp/models")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 143
    assert "Traceback" not in said
    assert folders(project) == []


# Refusals


def refused(project, *arguments):
    ended = run(project, *arguments)
    assert ended.returncode == 1
    assert re.fullmatch(r"ddm: error: .+\n", ended.stderr), ended.stderr
    assert not (project / "results/sweeps").exists()
    return ended.stderr


def test_an_unknown_setting_is_refused_with_the_nearest_one_before_anything_is_written(project):
    space = small_space(settings={"lerning_rate": {"low": 1e-3, "high": 1e-2}})
    write_yaml(project / "space.yaml", space)
    said = refused(project, *ARGUMENTS)
    assert (
        "space.yaml: settings: 'lerning_rate' is no setting of keyed_ddm; did you mean 'learning_rate'?"
        in said
    )


def test_limits_that_even_guessing_would_break_are_refused(project):
    """Five test photos, one encryption each: one hit alone gives an upper bound of 62 %."""
    params = small_params()
    params["register"]["gate"]["max_worst_case_top1_upper95"] = 0.5
    write_yaml(project / "params.yaml", params)
    said = refused(project, *ARGUMENTS)
    assert "62.4 %, above the gate's 50.0 %; raise encryptions_per_photo" in said


def test_a_missing_recogniser_is_named_before_the_first_training(project):
    (project / "results/recogniser").unlink()
    assert "results/recogniser/recogniser.json: not found" in refused(project, *ARGUMENTS)
