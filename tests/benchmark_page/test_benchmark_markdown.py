"""The benchmark's Markdown table, and docs/results.md, which holds it."""

import re
from pathlib import Path

import pytest
from benchmark_results import CHANNELS, results_content, write_results

from ddm_core.benchmark.markdown import BEGIN, END, results_markdown, update_document
from ddm_core.benchmark.page import write_page
from ddm_core.benchmark.results_file import read_results
from ddm_core.benchmark.summary import summarise
from ddm_core.errors import DdmError
from ddm_core.files import write_json

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return results_markdown(write_results(tmp_path_factory.mktemp("results")))


def row(table, name):
    line = next(line for line in table.splitlines() if line.startswith(f"| `{name}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_row_has_as_many_cells_as_the_heading(table):
    parts = re.split(r"^###? ", table, flags=re.MULTILINE)
    assert [part.splitlines()[0] for part in parts[1:]] == [
        "Measured here",
        "Decrypted after every channel",
        "What attackers rebuild",
        "Seed by seed",
        "Sanity gate",
        "What it took",
    ]
    for part in parts[1:]:
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert len(rows) > 2
        assert len({line.count("|") for line in rows}) == 1


def test_the_worst_case_counts_only_attackers_that_count(table):
    cells = row(table, "invented_keyed")
    assert float(cells[2].split("**")[1]) < 5
    assert "(96.9)" in cells  # a reused nonce, in brackets


def test_a_cell_that_was_not_run_and_one_that_does_not_apply_are_dashes(table):
    assert row(table, "invented_noise")[4] == "–"  # noqa: RUF001
    assert row(table, "invented_mosaic8")[6] == "–"  # noqa: RUF001


def test_what_cannot_be_decrypted_is_starred(table):
    assert row(table, "invented_mosaic8")[-1].endswith("*")
    assert not row(table, "invented_keyed")[-1].endswith("*")


def section(table, heading):
    return table.partition(f"### {heading}\n")[2].partition("###")[0]


def test_every_channel_is_told_of_what_decrypts_and_of_nothing_else(table):
    channels = section(table, "Decrypted after every channel")
    assert "| Channel | `invented_cipher` | `invented_keyed` |" in channels
    assert "| JPEG 75 | 13.0 / 0.860 / 96.0 | 31.9 / 0.860 / 96.0 |" in channels
    assert channels.count("\n| ") == 2 + len(CHANNELS)


def test_what_attackers_rebuild_has_its_identity_similarity(table):
    line = next(
        line for line in section(table, "What attackers rebuild").splitlines() if "`invented_none`" in line
    )
    assert re.search(r"16\.4 / 0\.510 / 0\.8\d\d", line)


def test_seeds_are_shown_one_by_one_and_whether_they_contain_chance_together(table):
    seeds = section(table, "Seed by seed")
    assert re.search(
        r"\| `invented_keyed` \| inversion \| 0, 1 \| 640 \| [\d.]+, [\d.]+ \| .* \| yes \|", seeds
    )
    assert re.search(
        r"\| `invented_keyed` \| verification, linkage \| 0, 1 \| 12000 pairs \| 0\.498, 0\.498 \|.* yes \|",
        seeds,
    )
    assert "| `invented_keyed` | nonce reuse (does not count) | 0, 1 | 640 | 96.9, 96.9 |" in seeds
    assert re.search(r"\| `invented_p3` \| retrained \| .* \| no \|", seeds)


def test_the_wall_time_of_the_runs_is_told(table):
    assert "| `ddm benchmark --seeds 2` | 200 | 7 | 0 | 2 | 46 min 37 s |" in section(table, "What it took")


def test_an_attacker_below_its_level_is_failed_and_no_low_worst_case(tmp_path):
    content = results_content()
    missed = {"attacker": "inversion", "obfuscator": "none", "seed": 1, "measured": 0.3, "limit": 0.9}
    content["sanity"].append(missed | {"passed": False, "at_most": False})
    folder = write_results(tmp_path, content)
    cells = row(results_markdown(folder), "invented_keyed")
    assert cells[2].startswith("≥ **")
    assert cells[5] == "failed"
    assert "| inversion | `none` | at least 90.0 % | 30.0 % | **no** |" in results_markdown(folder)
    shown = {row.name: row for row in summarise(read_results(folder))}
    assert shown["invented_keyed"].grade == "unmeasured"
    assert shown["invented_p3"].grade == "exposed"
    assert shown["invented_p3"].attacks["inversion"].failed
    write_page(folder)  # shows all of it


def test_the_table_goes_between_the_marks_and_nothing_else_changes(tmp_path):
    document = tmp_path / "page.md"
    document.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    results = write_results(tmp_path / "results")

    update_document(document, results)
    assert document.read_text() == f"before\n\n{BEGIN}\n{results_markdown(results)}\n{END}\n\nafter\n"
    assert (tmp_path / "page.json").read_bytes() == (results / "results.json").read_bytes()

    (results / "results.json").unlink()
    update_document(document, results)
    assert document.read_text() == f"before\n\n{BEGIN}\n{END}\n\nafter\n"


def test_a_document_without_marks_is_left_alone(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("nothing\n")
    with pytest.raises(DdmError, match="lacks the lines"):
        update_document(document, tmp_path)
    assert document.read_text() == "nothing\n"


def test_the_documentation_holds_the_table_of_the_results_beside_it(tmp_path):
    text = DOCUMENT.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    copy, results = tmp_path / "results.md", tmp_path / "results"
    copy.write_text(text)
    results.mkdir()
    (results / "results.json").write_bytes(DOCUMENT.with_suffix(".json").read_bytes())
    update_document(copy, results)
    assert copy.read_text() == text, "docs/results.md lags behind docs/results.json; update the table"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema_version": 3}, "schema_version is 3"),
        ({"cells": None}, "cells"),
        ({"obfuscators": {}}, "not among the obfuscators"),
    ],
)
def test_results_of_another_shape_are_refused_in_one_line(tmp_path, change, complaint):
    write_json(tmp_path / "results.json", results_content(seeds=(0,)) | change)
    with pytest.raises(DdmError, match=complaint) as error:
        results_markdown(tmp_path)
    assert "\n" not in str(error.value)


def test_keys_of_a_later_version_around_the_figures_are_passed_over(tmp_path):
    content = results_content(seeds=(0,))
    content["cells"][0]["remark"] = "new"
    write_json(tmp_path / "results.json", content | {"remark": "new"})
    assert "invented_keyed" in results_markdown(tmp_path)
