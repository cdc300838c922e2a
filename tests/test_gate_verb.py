"""`ddm gate` tells machines by its exit status, and people line by line."""

import json
import shutil
from pathlib import Path

import pytest

from ddm_core.cli import main
from ddm_core.params import load

CHECKOUT = Path(__file__).parents[1]
GATE = load(CHECKOUT / "params.yaml").register.gate
CELL = {"top1": 0.03, "ci95": [0.021, 0.042], "n": 1280}


@pytest.fixture
def metrics(tmp_path, monkeypatch):
    """Writes metrics.json with one entry that passes, after a change of it."""
    shutil.copy(CHECKOUT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)

    def write(change=lambda entry: None, name="keyed_ddm"):
        utility = {"recognition_top1": 0.99, "ci95": [0.97, 1.0], "n": 320}
        entry = {
            "decrypts": True,
            "attacks": dict.fromkeys(GATE.attackers, CELL),
            "worst_case": {"attacker": "retrained", **CELL},
            "utility": {
                name: {"psnr_db": limit.min_psnr_db + 0.5, **utility} for name, limit in GATE.channels.items()
            },
        }
        change(entry)
        (tmp_path / "reports").mkdir(exist_ok=True)
        (tmp_path / "reports/metrics.json").write_text(json.dumps({"obfuscators": {name: entry}}))

    return write


def line(text, name):
    return next(line.split() for line in text.splitlines() if line.split()[0] == name)


def test_what_passes_exits_with_zero_and_one_line(metrics, capsys):
    metrics()
    assert main(["gate"]) == 0
    assert capsys.readouterr().out == "keyed_ddm passes the gate: 12 of 12 checks\n"


def test_explained_it_prints_limit_figure_interval_and_verdict_of_each_check(metrics, capsys):
    metrics()
    assert main(["gate", "--explain"]) == 0
    text = capsys.readouterr().out
    attacker = line(text, "attacker_clean_top1_upper95")
    assert " ".join(attacker[1:]) == "at most 8.0 % 4.2 % 2.1–4.2 % pass"  # noqa: RUF001
    assert " ".join(line(text, "psnr_db_png")[1:]) == "at least 32.00 dB 32.50 dB – pass"  # noqa: RUF001
    assert len(text.splitlines()) == 1 + 12 + 1


def test_what_fails_exits_with_one_and_says_which_check(metrics, capsys):
    metrics(lambda entry: entry["utility"]["png"].update(psnr_db=31.0))
    assert main(["gate", "--explain"]) == 1
    out, err = capsys.readouterr()
    assert line(out, "psnr_db_png")[-1] == "FAIL"
    assert line(out, "psnr_db_jpeg75")[-1] == "pass"
    assert err == "ddm: error: keyed_ddm fails the gate: PSNR after png: 31.00 dB, less than 32.00 dB\n"


def test_missing_evidence_fails(metrics, capsys):
    metrics(lambda entry: entry["attacks"].pop("inversion"))
    assert main(["gate", "--explain"]) == 1
    found = line(capsys.readouterr().out, "attacker_inversion_top1_upper95")
    assert " ".join(found[-5:]) == "% no evidence – FAIL"  # noqa: RUF001


def test_another_obfuscator_is_judged_by_its_own_figures(metrics, capsys):
    metrics(lambda entry: entry.update(decrypts=False), name="ddm")
    assert main(["gate", "--obfuscator", "ddm"]) == 1
    assert "no evidence that a receiver can restore photos" in capsys.readouterr().err
    assert main(["gate", "--obfuscator", "ddn"]) == 1
    assert "'ddn' was not measured; did you mean 'ddm'?" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "{}", '{"obfuscators": []}', "nonsense"])
def test_a_file_that_is_no_metrics_is_one_line(metrics, capsys, content):
    metrics()
    Path("reports/metrics.json").write_text(content)
    assert main(["gate"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
