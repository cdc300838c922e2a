"""`ddm benchmark` as people meet it: what it writes, what it keeps, how it fails."""

import re
import shutil
import sqlite3
from pathlib import Path

import jsonschema
import pandas
import pytest
from small_benchmark import (
    ATTACKERS,
    CELLS,
    CONTROL_ATTACKERS,
    CONTROLS,
    OBFUSCATORS,
    measured,
    read_yaml,
    run,
    write_yaml,
)

import ddm_core.benchmark
from ddm_core.benchmark.markdown import BEGIN, END
from ddm_core.benchmark.results_file import read_results
from ddm_core.cli import main
from ddm_core.files import read_json

SCHEMAS = Path(ddm_core.benchmark.__file__).parent
CELL_FILES = {"result.json", "cell.json", "confusion.json"}


def table_of(folder):
    return pandas.read_parquet(folder / "benchmark/results/table.parquet")


def records(folder):
    """Relative path of every record below the results -> its content."""
    results = folder / "benchmark/results"
    return {str(path.relative_to(results)): read_json(path) for path in sorted(results.rglob("cell.json"))}


def change(folder, section, **settings):
    path = folder / "benchmark/params.yaml"
    params = read_yaml(path)
    params[section] |= settings
    write_yaml(path, params)


CONTROL_CELLS = {(name, attacker) for name in CONTROLS for attacker in CONTROL_ATTACKERS}


def counts(result):
    """How many cells ran and how many were there."""
    return tuple(map(int, re.search(r"(\d+) cells ran, (\d+) were there", result.stdout).groups()))


@pytest.fixture
def copied(finished, project):
    """A project of one's own with the finished results."""
    shutil.copytree(finished[0] / "benchmark/results", project / "benchmark/results")
    return project


def test_one_command_fills_the_whole_grid(finished):
    folder, result = finished
    assert result.returncode == 0, result.stderr
    assert counts(result) == (CELLS, 0)
    places = {f"cells/seed0/{name}/{attacker}" for name in OBFUSCATORS for attacker in ATTACKERS}
    places |= {f"{kind}/seed0/{name}" for name in OBFUSCATORS for kind in ("models", "utility")}
    places |= {f"cells/seed0/{name}/{attacker}" for name, attacker in CONTROL_CELLS}
    places |= {f"models/seed0/{name}" for name in CONTROLS}
    assert {path.removesuffix("/cell.json") for path in records(folder)} == places | {"recognisers/seed0"}
    for place in places:
        if place.startswith("cells"):
            assert {path.name for path in (folder / "benchmark/results" / place).iterdir()} >= CELL_FILES


def test_progress_counts_cells_and_tells_the_time_left(finished):
    last = finished[1].stderr.rpartition("\r")[2]
    assert re.search(rf"{CELLS}/{CELLS} cells .* 00:\d\d passed, about 0:00 left", last)


def test_the_terminal_shows_one_line_an_obfuscator(finished):
    lines = finished[1].stdout.splitlines()
    assert lines[0].split()[:2] == ["obfuscator", "worst"]
    for name, line in zip(OBFUSCATORS, lines[1:], strict=False):
        assert re.fullmatch(rf"{name} +[a-z -]+ +[\d.]+ +\([\d.]+.[\d.]+\) +(≥ )?[\d.]+ +[\d.]+", line)


def test_every_record_and_the_results_fit_their_published_schemas(finished):
    cell, results = (
        jsonschema.Draft202012Validator(read_json(SCHEMAS / f"{name}.schema.json"))
        for name in ("cell", "results")
    )
    for record in records(finished[0]).values():
        cell.validate(record)
    content = read_json(finished[0] / "benchmark/results/results.json")
    results.validate(content)
    content["cells"][0]["result"]["top1"] = 1.5
    assert not results.is_valid(content)


def test_results_are_what_the_page_reads(finished):
    results = read_results(finished[0] / "benchmark/results")
    assert list(results.obfuscators) == [*OBFUSCATORS, *CONTROLS]
    chosen = {(name, attacker) for name in OBFUSCATORS for attacker in ATTACKERS}
    assert {(cell.obfuscator, cell.attacker) for cell in results.cells} == chosen | CONTROL_CELLS
    assert results.obfuscators["keyed_ddm"].keyed
    assert results.obfuscators["keyed_ddm"].seconds_to_train > 0
    assert (finished[0] / "benchmark/results/page/index.html").exists()


def test_csv_and_parquet_are_the_same_tidy_table(finished):
    parquet = table_of(finished[0])
    csv = pandas.read_csv(finished[0] / "benchmark/results/table.csv").astype(parquet.dtypes)
    pandas.testing.assert_frame_equal(csv, parquet)
    attacks = parquet[parquet.stage == "attack"]
    assert len(attacks) == len(OBFUSCATORS) * len(ATTACKERS) + len(CONTROL_CELLS)
    assert attacks.verdict_counts.all()
    assert (attacks.ci95_low <= attacks.top1 + 1e-9).all()
    assert (attacks.top1 <= attacks.ci95_high + 1e-9).all()
    assert set(parquet[parquet.stage == "utility"].channel) == {"png", "jpeg75"}
    assert parquet.setting_steps.dropna().unique().tolist() == [4]
    assert parquet.inputs_sha256.is_unique is False  # the channels of one utility cell come from one run
    assert parquet[["commit", "torch", "dataset_sha256", "code_sha256"]].notna().all(axis=None)


def test_the_benchmark_s_cells_are_those_of_the_single_stages(finished, tmp_path):
    folder = finished[0]
    results = folder / "benchmark/results"
    params = read_yaml(folder / "benchmark/params.yaml")
    pipeline = read_yaml(Path(__file__).parents[2] / "params.yaml")
    shared = {name: params[name] for name in ("train", "recognise", "attack")}
    shared |= {"report": {"headline": "keyed_ddm"}, "register": pipeline["register"] | {"models": {}}}
    file = write_yaml(tmp_path / "params.yaml", pipeline | shared)
    places = {
        "--params": file,
        "--prepared": folder / "data/prepared",
        "--models": results / "models/seed0",
        "--recogniser": results / "recognisers/seed0",
        "--attacks": tmp_path,
    }
    assert main(["attack", "keyed_ddm", "clean", *(f"{flag}={path}" for flag, path in places.items())]) == 0
    alone = read_json(tmp_path / "keyed_ddm/clean/result.json")
    ours = read_json(results / "cells/seed0/keyed_ddm/clean/result.json")
    assert alone | {"seconds": 0} == ours | {"seconds": 0}


def test_mlflow_has_one_run_and_below_it_one_a_cell(finished):
    with sqlite3.connect(finished[0] / "mlflow.db") as database:
        runs = dict(database.execute("select run_uuid, name from runs where status = 'FINISHED'"))
        parents = dict(
            database.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall()
        )
        tops = database.execute(
            "select run_uuid, value from metrics where key = 'top1' order by run_uuid"
        ).fetchall()
        digests = database.execute("select value from tags where key = 'ddm.inputs_sha256'").fetchall()
    assert len(runs) == CELLS + 1
    (parent,) = set(parents.values())
    assert runs[parent] == "benchmark"
    assert "attack keyed_ddm clean, seed 0" in runs.values()
    shown = {runs[run]: value for run, value in tops}
    for record in records(finished[0]).values():
        assert (record["provenance"]["inputs_sha256"],) in digests
        if record["stage"] == "attack":
            name = f"attack {record['obfuscator']} {record['attacker']}, seed 0"
            assert shown[name] == record["result"]["top1"]


def test_a_run_tells_its_wall_time_and_keeps_it_beside_the_results(finished):
    folder, result = finished
    told = rf"{CELLS} cells ran, 0 were there; (\d+ min )?\d+ s in all, 2 processes side by side; results in"
    assert re.search(told, result.stdout)
    (entry,) = read_results(folder / "benchmark/results").runs
    assert (entry.ran, entry.reused, entry.failed, entry.processes) == (CELLS, 0, 0, 2)
    assert entry.finished
    assert entry.command.startswith("ddm ")
    cells = [record["provenance"]["seconds"] for record in records(folder).values()]
    assert max(cells) < entry.seconds


def test_attackers_that_fail_the_gate_judge_nobody_and_the_command_fails(copied):
    change(copied, "attack", epochs=1, learning_rate=1e-6)
    refused = run(copied, "--no-mlflow")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "ddm: error: attackers failed their sanity gate or their own level; the notes of the table say which"
    )
    assert "NO VERDICT COUNTS: the attackers failed their own sanity gate." in refused.stdout
    assert re.search(
        r"  retrained against mosaic16, seed 0: [\d.]+ %, where at least 80.0 % was", refused.stdout
    )
    assert not table_of(copied).query("stage == 'attack'").verdict_counts.any()
    page = (copied / "benchmark/results/page/index.html").read_text()
    assert "No verdict: the sanity gate of the attackers failed." in page


def test_an_attacker_below_its_own_level_is_failed_and_is_no_low_worst_case(copied):
    refused = run(
        copied, "--obfuscators", "xor_cipher", "--attackers", "clean,inversion", "--no-mlflow", "--no-page"
    )
    assert refused.returncode == 1
    assert "sanity gate or their own level" in refused.stderr.splitlines()[-1]
    assert re.search(
        r"  inversion against none, seed 0: [\d.]+ %, where at least 90.0 % was asked", refused.stdout
    )
    assert "NO VERDICT COUNTS" not in refused.stdout
    assert re.search(r"^xor_cipher +clean-trained +≥ ", refused.stdout, re.MULTILINE)
    table = table_of(copied)
    trusted = table[table.stage == "attack"].groupby("attacker").verdict_counts.all()
    assert trusted.to_dict() == {"clean": True, "inversion": False, "retrained": True}


def test_a_second_run_runs_nothing(copied):
    before = records(copied)
    again = run(copied, "--no-mlflow")
    assert again.returncode == 0, again.stderr
    assert counts(again) == (0, CELLS)
    assert records(copied) == before
    assert not (copied / "mlflow.db").exists()


def test_results_do_not_depend_on_the_number_of_processes(finished, project):
    alone = run(project, "--jobs", 1, "--no-mlflow", "--no-page")
    assert alone.returncode == 0, alone.stderr
    pandas.testing.assert_frame_equal(measured(table_of(project)), measured(table_of(finished[0])))
    assert not (project / "benchmark/results/page").exists()


def test_only_cells_whose_inputs_changed_run_again(copied):
    change(copied, "utility", channels=["png"])
    assert counts(run(copied, "--no-mlflow", "--no-page")) == (2, CELLS - 2)
    assert set(table_of(copied).channel.dropna()) == {"png"}


def test_new_weights_are_attacked_again(copied):
    params = read_yaml(copied / "benchmark/params.yaml")
    params["train"]["keyed_ddm"]["steps"] = 3
    write_yaml(copied / "benchmark/params.yaml", params)
    assert counts(run(copied, "--no-mlflow", "--no-page")) == (4, CELLS - 4)


def test_a_damaged_or_removed_record_is_made_anew(copied):
    (copied / "benchmark/results/cells/seed0/xor_cipher/clean/cell.json").unlink()
    (copied / "benchmark/results/cells/seed0/keyed_ddm/clean/cell.json").write_text("{")
    assert counts(run(copied, "--no-mlflow", "--no-page")) == (2, CELLS - 2)


def test_a_further_seed_adds_its_cells(copied):
    assert counts(run(copied, "--seeds", 2, "--no-mlflow", "--no-page")) == (CELLS, CELLS)
    assert sorted(table_of(copied).seed.unique()) == [0, 1]
    tops = [
        record["provenance"]["params"]["seed"]
        for path, record in records(copied).items()
        if "seed1" in path and record["stage"] == "attack"
    ]
    assert set(tops) == {1}


def test_the_table_may_do_without_cells_of_a_further_seed_and_goes_into_a_document(copied):
    some = ["--obfuscators", "xor_cipher", "--attackers", "clean", "--seed-list", "1"]
    assert run(copied, *some, "--no-mlflow", "--no-page").returncode == 0
    whole = ["--seeds", "2", "--stage", "table", "--no-mlflow", "--no-page"]
    missing = run(copied, *whole)
    assert missing.returncode == 1
    assert "no result of" in missing.stderr
    document = copied / "results.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    added_up = run(copied, *whole, "--partial", "--document", document)
    assert added_up.returncode == 0, added_up.stderr
    table = table_of(copied)
    assert set(table[table.seed == 1].obfuscator) == {"xor_cipher", *CONTROLS}
    assert set(table[table.seed == 0].obfuscator) == {*OBFUSCATORS, *CONTROLS}
    assert "1 to 2 seeds together" in document.read_text()


def test_an_obfuscator_of_somebody_else_is_judged_without_a_change_to_our_code(copied):
    (copied / "mine.py").write_text("def hide(images):\n    return 1 - images\n")
    judged = run(copied, "--obfuscator", "mine:hide", "--attackers", "clean", "--no-mlflow")
    assert judged.returncode == 0, judged.stderr
    assert re.search(r"^mine_hide +clean-trained", judged.stdout, re.MULTILINE)


def test_a_cell_that_fails_is_told_at_the_end_and_the_others_go_on(copied):
    (copied / "mine.py").write_text("def hide(images):\n    return images[:1]\n")
    command = ["--obfuscators", "xor_cipher", "--obfuscator", "mine:hide", "--no-mlflow", "--no-page"]
    change(copied, "attack", epochs=21)
    failed = run(copied, *command)
    assert failed.returncode == 1
    told = [line for line in failed.stderr.splitlines() if line.startswith("failed: ")]
    assert len(told) == 4
    assert told[0].startswith("failed: train mine_hide, seed 0: mine:hide: ")
    assert {line.partition("seed 0: ")[2] for line in told[1:]} == {
        "it needs train mine_hide, seed 0, which failed"
    }
    assert failed.stderr.splitlines()[-1] == (
        "ddm: error: 4 cells failed; mend what they say and run the same again"
    )
    assert counts(failed) == (8, 6)
    assert "Traceback" not in failed.stderr
    assert (
        "mine.py" in (copied / "benchmark/results/failures.log").read_text()
        or "mine:hide" in (copied / "benchmark/results/failures.log").read_text()
    )

    (copied / "mine.py").write_text("def hide(images):\n    return 1 - images\n")
    mended = run(copied, *command)
    assert mended.returncode == 0, mended.stderr
    assert counts(mended) == (4, 14)
    assert not (copied / "benchmark/results/failures.log").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--obfuscators", "keyed_dmd"], "unknown obfuscator 'keyed_dmd'"),
        (["--attackers", "strong"], "unknown attacker 'strong'"),
        (["--prepared", "nowhere"], "nowhere/manifest.json: not found"),
        (["--params", "nowhere.yaml"], "nowhere.yaml: not found"),
        (["--stage", "table"], "no result of"),
        (["--stage", "table", "--partial"], "no attack's result is there"),
        (["--stage", "attack"], "not found; run the whole benchmark"),
    ],
)
def test_bad_input_is_told_in_a_line(project, arguments, words):
    refused = run(project, *arguments, "--no-mlflow")
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (project / "benchmark/results/table.csv").exists()
