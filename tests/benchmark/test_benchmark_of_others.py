"""`ddm benchmark --obfuscator`: code and models of others, from the command line to the table."""

import re
import shutil

import mlflow
import pytest
from small_benchmark import run

from ddm_core.benchmark.results_file import read_results
from ddm_core.tracking import connect

pytestmark = pytest.mark.timeout(900)  # several benchmarks a test, and slow where others work too
QUIETLY = ("--attackers", "clean,wrong_key", "--no-mlflow", "--no-page")
MODEL = """
import mlflow
from mlflow.pyfunc.model import PythonModel

class Model(PythonModel):
    def predict(self, context, model_input, params=None):
        return {expression}

mlflow.models.set_model(Model())
"""


@pytest.fixture
def judged(finished, project, empty_store):
    """A project with the finished results and an empty registry; judges what it is given."""
    shutil.copytree(finished[0] / "benchmark/results", project / "benchmark/results")
    shutil.copy(empty_store, project / "mlflow.db")

    def judged(*arguments):
        result = run(project, *arguments, *QUIETLY)
        assert result.returncode == 0, result.stderr
        return result

    judged.folder = project
    return judged


def cells_run(result):
    return int(re.search(r"(\d+) cells ran", result.stdout)[1])


def register(folder, expression, alias):
    """Register a model of somebody else's and let the alias name it; return its version."""
    number = len(list(folder.glob("saved*")))
    code, saved = folder / f"model{number}.py", folder / f"saved{number}"
    code.write_text(MODEL.format(expression=expression))
    mlflow.pyfunc.save_model(saved, python_model=code, pip_requirements=["numpy"])
    client = connect()
    if not number:
        client.create_registered_model("theirs")
    version = client.create_model_version("theirs", source=saved.as_uri()).version
    client.set_registered_model_alias("theirs", alias, version)
    return version


def test_a_registered_model_is_judged_by_version_and_by_alias_and_a_moved_alias_anew(judged):
    version = register(judged.folder, "1 - model_input", "best")
    by_number = judged("--obfuscator", f"models:/theirs/{version}")
    assert re.search(rf"^models_theirs_{version} +clean-trained", by_number.stdout, re.MULTILINE)
    assert cells_run(judged("--obfuscator", "models:/theirs@best")) == 4
    assert cells_run(judged("--obfuscator", "models:/theirs@best")) == 0
    (settings,) = {
        (cell.settings["uri"], len(cell.settings["sha256"]))
        for cell in read_results(judged.folder / "benchmark/results").cells
        if cell.obfuscator == "models_theirs_best"
    }
    assert settings == (f"models:/theirs/{version}", 64)
    register(judged.folder, "model_input / 2", "best")
    assert cells_run(judged("--obfuscator", "models:/theirs@best")) == 4


def test_a_changed_helper_of_somebody_s_code_is_judged_anew(judged):
    (judged.folder / "mine.py").write_text(
        "import helper\ndef hide(images):\n    return helper.hide(images)\n"
    )
    (judged.folder / "helper.py").write_text("def hide(images):\n    return 1 - images\n")
    assert cells_run(judged("--obfuscator", "mine:hide")) == 4
    assert cells_run(judged("--obfuscator", "mine:hide")) == 0
    (judged.folder / "helper.py").write_text("def hide(images):\n    return images / 2\n")
    assert cells_run(judged("--obfuscator", "mine:hide")) == 4


def test_an_object_that_takes_keys_and_decrypts_is_judged_as_a_keyed_method(judged):
    (judged.folder / "mine.py").write_text(
        "from ddm_core.obfuscators.stream_cipher import AddmodCipher\ncipher = AddmodCipher(bytes(32))\n"
    )
    result = judged("--obfuscator", "mine:cipher")
    assert re.search(r"^mine_cipher .* ≥ 60 ", result.stdout, re.MULTILINE)  # what the receiver decrypts
    results = read_results(judged.folder / "benchmark/results")
    entry = results.obfuscators["mine_cipher"]
    assert (entry.keyed, entry.decrypts) == (True, True)
    (wrong_key,) = (
        cell.result
        for cell in results.cells
        if (cell.obfuscator, cell.attacker) == ("mine_cipher", "wrong_key")
    )
    assert wrong_key.applicable
    assert wrong_key.psnr_db < 20
