"""What the Kubeflow pages show of a result."""

import json
from dataclasses import dataclass
from pathlib import Path

from ddm_core.artifacts import facts, publish_confusion, publish_figures, publish_standings
from ddm_core.confusion import MAX_CATEGORIES, OTHERS, read_confusion, write_confusion
from ddm_core.results import AttackResult
from ddm_core.stages.register import RegisterResult, Registration

CELL = AttackResult("mosaic8", "clean", applicable=True, top1=0.5, ci95=(0.4, 0.6), n=80, weights_sha256="ab")


@dataclass(frozen=True)
class Nested:
    place: Path
    channels: dict[str, dict[str, float]]


def test_facts_are_flat_texts_and_numbers():
    nested = Nested(Path("somewhere"), {"png": {"psnr_db": 30.0}})
    assert facts(nested) == {"place": "somewhere", "channels_png_psnr_db": 30.0}


def test_facts_leave_out_what_is_empty():
    assert "reason" not in facts(CELL)
    assert facts(CELL)["weights_sha256"] == "ab"


def test_figures_are_the_numbers_alone_and_lie_in_a_file(tmp_path):
    figures = publish_figures(CELL, tmp_path / "accuracy")
    assert figures == json.loads((tmp_path / "accuracy").read_text())
    assert figures["top1"] == 0.5
    assert (figures["ci95_0"], figures["ci95_1"]) == (0.4, 0.6)
    assert figures["applicable"] == 1
    assert "weights_sha256" not in figures


def test_a_confusion_matrix_counts_who_is_taken_for_whom(tmp_path):
    write_confusion(tmp_path, ["anna", "björn", "zoe"], labels=[0, 0, 1, 2], predictions=[0, 2, 1, 2])
    shown = []
    publish_confusion(tmp_path, tmp_path / "confusion", lambda *matrix: shown.append(matrix))
    ((categories, matrix),) = shown
    assert categories == ["anna", "björn", "zoe"]
    assert matrix == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert json.loads((tmp_path / "confusion").read_text())["matrix"] == matrix


def test_many_people_share_the_last_row_of_the_matrix(tmp_path):
    people = [f"person {number}" for number in range(MAX_CATEGORIES + 10)]
    labels = list(range(len(people)))
    write_confusion(tmp_path, people, labels, labels)
    categories, matrix = read_confusion(tmp_path)
    assert len(categories) == len(matrix) == MAX_CATEGORIES
    assert categories[-1] == OTHERS
    assert matrix[-1][-1] == 11
    assert sum(map(sum, matrix)) == len(people)


def test_an_attack_that_does_not_apply_shows_no_matrix_and_has_its_file_all_the_same(tmp_path):
    shown = []
    publish_confusion(tmp_path, tmp_path / "confusion", lambda *matrix: shown.append(matrix))
    assert shown == []
    assert json.loads((tmp_path / "confusion").read_text()) == {"categories": [], "matrix": []}


def test_standings_tell_versions_verdicts_and_the_champion(tmp_path):
    def model(name, passed, champion):
        return Registration(name, name, 3, passed, (), (), champion, f"{name} said why", None)

    result = RegisterResult("sqlite:///mlflow.db", (model("ddm", False, None), model("keyed_ddm", True, 3)))
    figures = publish_standings(result, verdict=tmp_path / "verdict", checks=tmp_path / "checks")
    assert figures == {
        "ddm_version": 3,
        "ddm_passed": 0,
        "keyed_ddm_version": 3,
        "keyed_ddm_passed": 1,
        "keyed_ddm_champion": 3,
    }
    assert "keyed_ddm version 3: keyed_ddm said why" in (tmp_path / "verdict").read_text()
