"""The command line as people meet it: what it prints, where, and with which exit status."""

import os
import re
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ddm_core.cli import main
from ddm_core.key_files import read_key_file
from ddm_core.keys import KEY_BYTES

CHECKOUT = Path(__file__).parents[1]
STAGES = ("fetch", "prepare", "train", "recognise", "attack", "utility", "report", "register")
USERS_VERBS = (
    "summary",
    "key",
    "encrypt",
    "decrypt",
    "demo",
    "gate",
    "registry",
    "benchmark",
    "sweep",
    "pipeline",
)
HEAVY = ("torch", "numpy", "PIL", "scipy", "pandas", "matplotlib", "mlflow", "dvc", "jinja2", "cryptography")


@pytest.fixture
def project(tmp_path, monkeypatch, photo_folder):
    """A folder with the project's params.yaml, made to read a small folder of photos; the current one."""
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    params["fetch"] = {"source": "folder", "uri": str(photo_folder)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit_params(project, old, new):
    path = project / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def ddm(capsys, *arguments):
    """Run the command; return its exit status, what it printed, and its errors."""
    status = main(arguments)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def assert_one_line(status, errors, *words):
    assert status == 1
    assert re.fullmatch(r"ddm: error: .+\n", errors), errors
    for word in words:
        assert word in errors


def test_help_lists_every_verb_and_ends_well():
    command = [sys.executable, "-m", "ddm_core.cli", "--help"]
    helped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert helped.returncode == 0
    for verb in (*STAGES, *USERS_VERBS):
        assert re.search(rf"^ +{verb}\b", helped.stdout, re.MULTILINE), verb
    assert helped.stderr == ""


@pytest.mark.parametrize("verb", [*STAGES, *USERS_VERBS])
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert f"usage: ddm {verb}" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    program = "import sys; from ddm_core.cli import build_parser; build_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in loaded.stdout.split()}.isdisjoint(HEAVY)


def test_a_misspelt_verb_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    assert ended.value.code == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


def test_fetch_and_prepare_say_what_they_did(project, capsys):
    status, printed, _ = ddm(capsys, "fetch")
    assert status == 0
    line = "data/raw: 30 photos of 5 people, source folder, digest [0-9a-f]{64}\n"
    assert re.fullmatch(line, printed)
    status, printed, _ = ddm(capsys, "prepare")
    assert status == 0
    counts = "25 train and 5 test photos of 5 people, 0 of 30 files quarantined"
    line = f"data/prepared: {counts}; dataset [0-9a-f]{{64}}\n"
    assert re.fullmatch(line, printed)


def test_a_missing_params_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, _, errors = ddm(capsys, "fetch")
    assert_one_line(status, errors, "params.yaml: not found", "--params FILE")


def test_a_misspelt_key_is_named_with_the_right_one(project, capsys):
    edit_params(project, "image_size:", "image_sise:")
    status, _, errors = ddm(capsys, "prepare")
    assert_one_line(status, errors, "params.yaml: prepare", "'image_sise'", "did you mean 'image_size'?")


def test_params_that_are_not_yaml_are_one_line(project, capsys):
    (project / "params.yaml").write_text("fetch: {source: orl\nprepare: [")
    status, _, errors = ddm(capsys, "fetch")
    assert_one_line(status, errors, "params.yaml: not valid YAML")


@pytest.mark.parametrize(
    "arguments", [("train", "keyed_dmd"), ("attack", "keyed_dmd", "clean"), ("utility", "keyed_dmd")]
)
def test_an_unknown_obfuscator_is_named_with_the_nearest(project, capsys, arguments):
    status, _, errors = ddm(capsys, *arguments)
    assert_one_line(status, errors, "'keyed_dmd'", "did you mean 'keyed_ddm'?")


def test_an_unknown_attacker_is_named_with_the_nearest(project, capsys):
    status, _, errors = ddm(capsys, "attack", "keyed_ddm", "inversoin")
    assert_one_line(status, errors, "'inversoin'", "did you mean 'inversion'?")


def test_a_missing_photo_folder_is_named(project, capsys):
    edit_params(project, "uri: /", "uri: /nowhere/")
    status, _, errors = ddm(capsys, "fetch")
    assert_one_line(status, errors, "/nowhere/")


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare",),
        ("train", "ddm"),
        ("train", "mosaic8"),
        ("recognise",),
        ("attack", "ddm", "clean"),
        ("utility", "ddm"),
        ("report",),
        ("register",),
        ("summary",),
    ],
    ids=" ".join,
)
def test_a_stage_before_its_inputs_exist_says_which_and_leaves_nothing(project, capsys, arguments):
    status, _, errors = ddm(capsys, *arguments)
    assert_one_line(status, errors)
    assert re.search("(not found|no such folder); .+", errors)
    assert [path.name for path in project.rglob("*") if path.is_file()] == ["params.yaml"]


def test_an_output_that_cannot_be_written_is_one_line(project, capsys):
    (project / "file").write_text("not a folder")
    status, _, errors = ddm(capsys, "fetch", "--raw", "file/raw")
    assert_one_line(status, errors, "file")


def test_a_write_that_the_system_cuts_short_is_one_line_and_leaves_nothing(project):
    """A limit on the size of files stands for a full disk: the system refuses in the middle of a write."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (512, {resource.RLIM_INFINITY}))"
    program = f"{limit}; from ddm_core.cli import main; raise SystemExit(main(['fetch']))"
    cut = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = cut.stderr.rpartition("\r")[2].splitlines()[-1]
    assert cut.returncode == 1
    assert last.startswith("ddm: error: ")
    assert "File too large" in last
    assert "Traceback" not in cut.stderr
    assert list((project / "data").iterdir()) == []


def test_a_new_key_is_32_bytes_that_only_the_owner_can_read_and_is_not_shown(tmp_path, capsys):
    path = tmp_path / "keys" / "master.key"
    status, printed, errors = ddm(capsys, "key", "new", str(path))
    assert (status, errors) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(read_key_file(path)) == KEY_BYTES
    assert read_key_file(path).hex() not in printed


def test_a_key_is_never_overwritten(tmp_path, capsys):
    path = tmp_path / "master.key"
    ddm(capsys, "key", "new", str(path))
    before = path.read_bytes()
    status, _, errors = ddm(capsys, "key", "new", str(path))
    assert_one_line(status, errors, str(path))
    assert path.read_bytes() == before


def test_a_reader_that_goes_away_ends_the_command_in_silence(project):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ddm_core.cli", "key", "new", "master.key"]
    with os.fdopen(writer) as closed:
        piped = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (piped.returncode, piped.stderr) == (1, "")
