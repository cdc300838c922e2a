"""The whole pipeline through `dvc repro`, as a user runs it: small, but real at every step."""

import csv
import hashlib
import itertools
import json
import re
import shutil
import sqlite3
import sys

import pytest
from small_project import (
    ATTACKERS,
    CHECKOUT,
    CONTROLS,
    OBFUSCATORS,
    change_training,
    git,
    make_project,
    read_yaml,
    run,
)

from ddm_core.results import CHANNELS

ATTACK_CELLS = {
    f"attack@{name}-{attacker}" for name, attacker in itertools.product(OBFUSCATORS, ATTACKERS + CONTROLS)
}
PER_OBFUSCATOR = {f"{stage}@{name}" for stage in ("train", "utility") for name in OBFUSCATORS}
STAGES = {"fetch", "prepare", "recognise", "report", "register"} | ATTACK_CELLS | PER_OBFUSCATOR
MEASURED = ("data", "models", "results", "reports")
NO_NONCE = {"ddm": {"nonce_reuse"}, "keyed_ddm": set()}
NOT_MEASURED = ("seconds", "commit")
TIMES_AND_IDENTIFIERS = ("speed.csv", "timing.json", "registration.json", "report.html")


@pytest.fixture(scope="module")
def project(tmp_path_factory, photo_folder):
    return make_project(tmp_path_factory.mktemp("pipeline") / "project", photo_folder)


@pytest.fixture(scope="module")
def first_run(project):
    return run(project, "dvc", "repro")


@pytest.fixture(scope="module")
def finished(project, first_run):
    """The project after its first run. Read only."""
    assert first_run.returncode == 0, first_run.stderr
    return project


@pytest.fixture(scope="module")
def metrics(finished):
    return strict_json((finished / "reports/metrics.json").read_text())


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def stages_run(output):
    return set(re.findall(r"^Running stage '(.+)':$", output, re.MULTILINE))


def digests(folder):
    """Relative path -> SHA-256 of every file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def measured_part(value):
    if isinstance(value, dict):
        return {key: measured_part(item) for key, item in value.items() if key not in NOT_MEASURED}
    return [measured_part(item) for item in value] if isinstance(value, list) else value


def measurements(project):
    """Everything the stages wrote, but for what a clock or a registry's numbering decides."""
    contents = {}
    for path in (file for part in MEASURED for file in (project / part).rglob("*")):
        if path.is_file() and path.name not in TIMES_AND_IDENTIFIERS:
            content = path.read_bytes()
            name = str(path.relative_to(project))
            contents[name] = measured_part(json.loads(content)) if path.suffix == ".json" else content
    return contents


def test_one_command_runs_every_stage(first_run):
    assert first_run.returncode == 0, first_run.stderr
    assert stages_run(first_run.stdout) == STAGES


def test_stages_speak_in_sentences(first_run):
    assert "data/raw: 30 photos of 5 people, source folder" in first_run.stdout
    assert "Result(" not in first_run.stdout
    assert "Traceback" not in first_run.stderr


def test_metrics_have_the_documented_shape(metrics):
    assert metrics["schema_version"] == 1
    assert metrics["chance_top1"] == 1 / 5
    assert list(metrics["obfuscators"]) == list(OBFUSCATORS)
    for name, entry in metrics["obfuscators"].items():
        assert entry["method"] == name
        assert entry["decrypts"] is True
        assert set(entry["attacks"]) == set(ATTACKERS)
        assert list(entry["utility"]) == list(CHANNELS)
        for cell in entry["attacks"].values():
            assert 0 <= cell["ci95"][0] <= cell["top1"] <= cell["ci95"][1] <= 1
            assert cell["n"] == 5
        assert entry["worst_case"]["top1"] == max(cell["top1"] for cell in entry["attacks"].values())
        for channel in entry["utility"].values():
            assert {"psnr_db", "ssim", "recognition_top1", "ci95", "n"} <= set(channel)


def test_the_kubeflow_graph_gives_the_same_metrics_bit_for_bit(finished, metrics, tmp_path):
    graph = ["ddm", "pipeline", "run", "--local", "-o", str(tmp_path), "--params-file", "params.yaml"]
    result = run(finished, *graph)
    assert result.returncode == 0, result.stderr
    by_kubeflow = strict_json((tmp_path / "metrics.json").read_text())
    assert measured_part(by_kubeflow) == measured_part(metrics)
    assert by_kubeflow["provenance"]["commit"] == metrics["provenance"]["commit"]
    for name in OBFUSCATORS:
        assert by_kubeflow["obfuscators"][name]["controls"].keys() == set(CONTROLS) - NO_NONCE[name]


def test_metrics_say_where_they_come_from(finished, metrics):
    origin = metrics["provenance"]
    manifest = strict_json((finished / "data/prepared/manifest.json").read_text())
    assert origin["dataset_digest"] == manifest["dataset_digest"]
    assert origin["commit"] == git(finished, "rev-parse", "HEAD")
    assert origin["dirty"] is False
    assert origin["seconds"] > 0
    settings = read_yaml(finished / "params.yaml")
    assert set(origin["params"]) == set(settings)
    # with every setting that params.yaml leaves at its default
    assert settings["train"]["ddm"].items() <= origin["params"]["train"]["ddm"].items()
    assert origin["params"]["train"]["ddm"]["max_gradient_norm"] == 1.0


def test_the_report_folder_holds_what_dvc_yaml_declares_and_nothing_else(finished):
    stage = read_yaml(finished / "dvc.yaml")["stages"]["report"]
    plots = [path for entry in stage["plots"] for path in entry]
    declared = {*stage["outs"], *stage["metrics"], *plots}
    assert {f"reports/{path.name}" for path in (finished / "reports").iterdir()} == declared


def test_plots_name_columns_that_their_tables_have(finished):
    for entry in read_yaml(finished / "dvc.yaml")["stages"]["report"]["plots"]:
        for path, axes in entry.items():
            with (finished / path).open(newline="") as file:
                table = csv.DictReader(file)
                assert {axes["x"], axes["y"]} <= set(table.fieldnames)
                assert len(list(table)) > 0, path


def test_a_model_that_fails_the_gate_is_registered_with_the_reason_and_nobody_is_champion(finished):
    registration = strict_json((finished / "results/registration.json").read_text())
    ddm = registration["models"][0]
    assert ddm["obfuscator"] == "ddm"
    assert ddm["version"] == 1
    assert ddm["passed"] is False
    assert ddm["reason"].startswith("failed the gate, no alias moved: ")
    assert "more than 8.0 %" in ddm["reason"]
    assert [model["champion"] for model in registration["models"]] == [None, None]
    assert [model["aliases"] for model in registration["models"]] == [[], []]


def test_the_summary_shows_the_table_the_report_and_that_there_is_no_champion(finished):
    summary = run(finished, "ddm", "summary")
    assert summary.returncode == 0, summary.stderr
    assert "keyed_ddm" in summary.stdout
    assert str(finished / "reports/report.html") in summary.stdout
    assert "ddm: no version is champion" in summary.stdout
    assert "mlflow ui" in summary.stdout


def test_mlflow_keeps_everything_in_the_project_folder(finished):
    around = finished.parent
    assert list(around.rglob("mlflow.db")) == [finished / "mlflow.db"]
    assert list(around.rglob("mlartifacts")) == [finished / "mlartifacts"]
    assert list(around.rglob("mlruns")) == []
    with sqlite3.connect(finished / "mlflow.db") as database:
        runs = set(database.execute("select name, status from runs"))
    assert runs == {(f"train/{name}", "FINISHED") for name in OBFUSCATORS}


def test_a_second_run_has_nothing_to_do(finished):
    assert run(finished, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    again = run(finished, "dvc", "repro")
    assert again.returncode == 0
    assert stages_run(again.stdout) == set()


def test_dvc_shows_metrics_and_plots(finished, metrics):
    shown = run(finished, "dvc", "metrics", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    (revision,) = strict_json(shown.stdout).values()
    figures = revision["data"]["reports/metrics.json"]["data"]
    assert figures["chance_top1"] == metrics["chance_top1"]
    for name in OBFUSCATORS:
        shown_worst, worst = (source["obfuscators"][name]["worst_case"] for source in (figures, metrics))
        assert shown_worst["attacker"] == worst["attacker"]
        assert shown_worst["top1"] == worst["top1"]
    plots = run(finished, "dvc", "plots", "show", "--json")
    assert plots.returncode == 0, plots.stderr
    drawn = strict_json(plots.stdout)["data"]
    assert set(drawn) == {"reports/attacks.csv", "reports/channels.csv", "reports/training.csv"}


def test_other_settings_of_one_obfuscator_rerun_its_own_cells_alone(finished, tmp_path):
    # MLflow's store stays behind: it belongs to the folder in which it was made.
    other = shutil.copytree(
        finished, tmp_path / "project", ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts")
    )
    change_training(other, discrepancy_weight=0.7)
    again = run(other, "dvc", "repro")
    assert again.returncode == 0, again.stderr
    cells = {cell for cell in ATTACK_CELLS if cell.startswith("attack@ddm-")}
    assert stages_run(again.stdout) == {"train@ddm", "utility@ddm", "report", "register"} | cells
    for part in ("models", "results/attacks", "results/utility", "results/history"):
        assert digests(other / part / "keyed_ddm") == digests(finished / part / "keyed_ddm")
        assert digests(other / part / "ddm") != digests(finished / part / "ddm")


def test_another_run_with_the_same_settings_gives_the_same_bits(finished, first_run, tmp_path, photo_folder):
    other = make_project(tmp_path / "other", photo_folder)
    commands = "\n".join(re.findall(r"^> ddm (.+)$", first_run.stdout, re.MULTILINE))
    # One process for all stages: what ran before in a process must not matter either.
    one_process = (
        "import sys; from ddm_core.cli import main; sys.exit(any(main(line.split()) for line in sys.stdin))"
    )
    again = run(other, sys.executable, "-c", one_process, stdin=commands)
    assert again.returncode == 0, again.stderr
    first, second = measurements(finished), measurements(other)
    assert "models/keyed_ddm/weights.safetensors" in first
    assert [name for name in first | second if first.get(name) != second.get(name)] == []


def test_the_summary_as_markdown_has_the_form_of_the_table_in_the_readme(finished):
    told = run(finished, "ddm", "summary", "--markdown")
    assert told.returncode == 0, told.stderr
    heading, rule, *rows = told.stdout.splitlines()
    assert f"{heading}\n{rule}\n" in (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert [row.split(" | ")[0] for row in rows if row.startswith("|")] == ["| `ddm`", "| `keyed_ddm`"]
