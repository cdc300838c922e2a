"""The grid as plain data: its cells, their order, and the code that decides them."""

import itertools
from pathlib import Path

import pytest
from small_benchmark import CHECKOUT

from ddm_core.benchmark import code
from ddm_core.benchmark.code import PACKAGE, code_digest, code_files
from ddm_core.benchmark.foreign_code import external_files
from ddm_core.benchmark.plan import STAGES, Cell, Places, grid, needs, ranks
from ddm_core.benchmark.settings import Choice, load
from ddm_core.errors import DdmError
from ddm_core.obfuscator_params import ExternalParams

PARAMS = load(CHECKOUT / "benchmark/params.yaml", Choice(seeds=(0, 1)))
GRID = grid(PARAMS)


def files(cell):
    return {str(path.relative_to(PACKAGE)) for path in code_files(cell)}


def test_the_grid_is_every_obfuscator_against_every_attacker_under_every_seed():
    attacks = {(cell.obfuscator, cell.attacker, cell.seed) for cell in GRID if cell.stage == "attack"}
    assert attacks == set(itertools.product(PARAMS.obfuscators, PARAMS.attackers, (0, 1)))
    assert len(set(GRID)) == len(GRID)
    assert sum(cell.stage == "recognise" for cell in GRID) == 2


def test_what_a_cell_needs_is_in_the_grid_and_of_the_same_seed():
    known = set(GRID)
    for cell in GRID:
        assert set(needs(cell, PARAMS)) <= known
        assert {needed.seed for needed in needs(cell, PARAMS)} <= {cell.seed}


def test_transfer_needs_the_other_settings_of_the_method_alone():
    needed = needs(Cell("attack", 0, "blur31", "transfer"), PARAMS)
    trained = {cell.obfuscator for cell in needed if cell.stage == "train"}
    assert trained == {"blur31", "blur5", "blur15", "blur61"}


def test_a_part_of_the_grid_still_has_everything_that_it_needs():
    part = load(CHECKOUT / "benchmark/params.yaml", Choice(obfuscators=("ddm",), attackers=("transfer",)))
    assert set(grid(part)) == {
        Cell("recognise", 0),
        Cell("train", 0, "ddm"),
        Cell("train", 0, "ddm_control"),
        Cell("utility", 0, "ddm"),
        Cell("attack", 0, "ddm", "transfer"),
    }


def controls(**choice):
    params = load(CHECKOUT / "benchmark/params.yaml", Choice(**choice))
    added = set(grid(params, controls=True)) - set(grid(params))
    return {(cell.obfuscator, cell.attacker) for cell in added if cell.stage == "attack"}


GATE = {(name, attacker) for name in ("none", "mosaic16", "blur31") for attacker in ("clean", "retrained")}


def test_whatever_is_judged_the_attackers_gate_is_run_with_it():
    assert controls(others=("mine:hide",), attackers=("wrong_key",)) == GATE
    assert controls(obfuscators=("none",), attackers=("clean",)) == GATE - {("none", "clean")}


def test_every_attacker_that_may_apply_gets_its_control():
    assert controls(obfuscators=("p3_1",), attackers=("averaging", "verification")) == GATE | {
        ("none", "verification")
    }
    assert controls(obfuscators=("keyed_ddm",), attackers=("averaging", "known_plaintext")) == GATE | {
        ("dp_pix_1", "averaging"),
        ("many_time_pad", "known_plaintext"),
    }
    assert ("many_time_pad", "known_plaintext") in controls(others=("mine:hide",))
    assert controls() == {("many_time_pad", "known_plaintext")}


@pytest.mark.parametrize("quick", [False, True])
def test_the_control_of_transfer_has_something_to_learn_from(quick):
    params = load(CHECKOUT / "benchmark/params.yaml", Choice(attackers=("transfer",), quick=quick))
    cells = grid(params, controls=True)
    control = Cell("attack", 0, "blur31", "transfer")
    assert control in cells
    assert len([cell for cell in needs(control, params) if cell.stage == "train"]) > 1
    assert set(needs(control, params)) <= set(cells)


def test_one_stage_alone_is_its_cells_alone():
    for stage in STAGES:
        assert {cell.stage for cell in grid(PARAMS, [stage])} == {stage}


def test_the_longest_training_is_started_first_and_what_is_needed_before_what_needs_it():
    order = ranks(GRID, PARAMS)
    first = max(GRID, key=lambda cell: order[cell])
    assert (first.stage, first.obfuscator) == ("train", "keyed_ddm")
    for cell in GRID:
        assert all(order[needed] > order[cell] for needed in needs(cell, PARAMS))


def test_no_two_cells_write_to_the_same_folder_or_into_each_other_s():
    folders = [Places(Path("results")).folder(cell) for cell in GRID]
    assert len(set(folders)) == len(folders)
    assert not any(parent in set(folders) for folder in folders for parent in folder.parents)


@pytest.mark.parametrize(
    "cell", [Cell("recognise", 0), Cell("train", 0, "none"), Cell("attack", 0, "none", "clean")]
)
def test_the_page_and_the_table_decide_no_cell(cell):
    assert not {name for name in files(cell) if name.startswith(("benchmark", "reporting"))}
    assert f"stages/{cell.stage}.py" in files(cell)


def test_an_attacker_decides_its_own_cells_alone():
    inversion, clean = (files(Cell("attack", 0, "none", attacker)) for attacker in ("inversion", "clean"))
    assert "attacks/inversion.py" in inversion - clean
    assert "attacks/recognition.py" in inversion & clean


def test_a_change_in_a_file_of_code_changes_the_digest(tmp_path, monkeypatch):
    cell, foreign = Cell("train", 0, "mine"), tmp_path / "mine.py"
    settings = ExternalParams(method="external", uri="mine:hide")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    foreign.write_text("def hide(images): return images\n")
    before = code_digest(cell, settings)
    code._digest.cache_clear()  # one run reads each file once
    assert code_digest(cell, settings) == before
    foreign.write_text("def hide(images): return 1 - images\n")
    code._digest.cache_clear()
    assert code_digest(cell, settings) != before


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("alone:hide", "beside.py"),
        ("pack.inner.code:hide", "pack/__init__.py"),
        ("pack.inner.code:hide", "pack/inner/near.py"),
        ("pack.inner.code:hide", "pack/far.py"),
        ("pack.inner.code:hide", "pack/late.py"),
    ],
)
def test_a_change_in_what_foreign_code_imports_of_its_own_changes_the_digest(
    tmp_path, monkeypatch, uri, file
):
    (tmp_path / "pack/inner").mkdir(parents=True)
    for name, content in {
        "alone.py": "import torch\nimport beside\n",
        "beside.py": "",
        "unrelated.py": "",
        "pack/__init__.py": "",
        "pack/far.py": "",
        "pack/late.py": "",
        "pack/inner/__init__.py": "",
        "pack/inner/near.py": "",
        "pack/inner/code.py": "from . import near\nfrom ..far import x\ndef hide(i):\n    import pack.late\n",
    }.items():
        (tmp_path / name).write_text(content)
    cell, settings = Cell("train", 0, "mine"), ExternalParams(method="external", uri=uri)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def digest():
        code._digest.cache_clear()
        return code_digest(cell, settings)

    before = digest()
    (tmp_path / "unrelated.py").write_text("changed = 1\n")
    assert digest() == before
    (tmp_path / file).write_text("changed = 1\n")
    assert digest() != before


def test_code_in_an_installed_package_is_followed_within_that_package():
    files = external_files("jinja2:Template")
    assert {path.parent.name for path in files} == {"jinja2"}
    assert len(files) > 10


def test_a_foreign_module_that_is_not_there_is_one_line():
    with pytest.raises(DdmError, match=r"nowhere_at_all:hide: no module 'nowhere_at_all' here"):
        code_digest(Cell("train", 0, "mine"), ExternalParams(method="external", uri="nowhere_at_all:hide"))
