"""A photo's model is a folder or stands in the registry, and a wrong name says what to give."""

import shutil

import pytest
from photo_files import encoded, pixels_of, scene

import ddm_core
from ddm_core.cli import main
from ddm_core.errors import DdmError
from ddm_core.obfuscator_params import MosaicParams, XorCipherParams
from ddm_core.obfuscators.store import Description, save_obfuscator
from ddm_core.photos.model import load_model, model_folder


@pytest.fixture
def registry(tmp_path, monkeypatch, empty_store):
    """An MLflow registry in the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")


def register(name, model, tmp_path):
    from mlflow.models import Model  # here, because mlflow is slow to import

    from ddm_core.gate import Verdict
    from ddm_core.serving.candidate import Candidate
    from ddm_core.serving.package import write_model_folder
    from ddm_core.tracking import connect

    candidate = Candidate(
        name, name, model, "ff" * 32, {}, Verdict(passed=True, checks=()), 0.1, "ab" * 32, "c0ffee"
    )
    write_model_folder(candidate, tmp_path / f"packaged {name}", Model())
    client = connect()
    client.create_registered_model(name)
    version = client.create_model_version(name, str(tmp_path / f"packaged {name}"))
    client.set_registered_model_alias(name, "champion", version.version)


def test_the_champion_is_the_photo_model_before_another(registry, tmp_path, model_folders, models, key_file):
    register("keyed_ddm", model_folders["grey"], tmp_path)
    with model_folder("champion") as folder:
        assert load_model(folder).id == models["grey"].id
    register("photo", model_folders["colour"], tmp_path)
    vault = ddm_core.load(key=key_file)
    assert vault.model.id == models["colour"].id
    assert pixels_of(ddm_core.decrypt(ddm_core.encrypt(encoded(scene(40, 40)), vault), vault)).shape[2] == 3
    for name in ("keyed_ddm@champion", "keyed_ddm"):
        with model_folder(name) as folder:
            assert load_model(folder).id == models["grey"].id


def test_a_colour_photo_and_the_default_champion_says_what_to_make_and_then_works(
    registry, tmp_path, model_folders, key_file, capsys
):
    (tmp_path / "a.png").write_bytes(encoded(scene(40, 40)))
    command = ["encrypt", "a.png", "-o", "out", "--key", str(key_file), "--workers", "1"]
    register("keyed_ddm", model_folders["grey"], tmp_path)
    capsys.readouterr()  # what MLflow said while the model was registered
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "a colour photo, and this model is for grey ones" in line
    assert "make photo" in line
    assert "--model photo" in line
    assert not (tmp_path / "out").exists()
    register("photo", model_folders["colour"], tmp_path)
    for model in ([], ["--model", "photo"]):
        assert main([*command, "--force", *model]) == 0
        assert (tmp_path / "out/a.png").exists()


def test_a_registry_without_a_champion_says_so(registry, key_file):
    with pytest.raises(DdmError, match="no champion among the registered models photo, keyed_ddm"):
        ddm_core.load(key=key_file)


def test_no_registry_is_made_by_looking_for_a_champion(tmp_path, monkeypatch, capsys, key_file):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(encoded(scene(40, 40)))
    assert main(["encrypt", "a.png", "-o", "out", "--key", str(key_file)]) == 1
    assert "no mlflow.db here; give --model FOLDER" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


UNFIT = [MosaicParams(method="mosaic", block=8), XorCipherParams(method="xor_cipher")]


@pytest.mark.parametrize("params", UNFIT, ids=lambda params: params.method)
def test_a_method_that_cannot_is_named(tmp_path, params):
    save_obfuscator(tmp_path, Description(params, 1, 32))
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(DdmError, match=params.method):
        load_model(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path, model_folders):
    shutil.copy(model_folders["grey"] / "obfuscator.json", tmp_path)
    with pytest.raises(DdmError, match=r"weights.safetensors: not found"):
        load_model(tmp_path)


def test_another_training_is_another_model(models, model_folders, tmp_path):
    assert models["grey"].id != models["colour"].id
    shutil.copytree(model_folders["grey"], tmp_path / "copy")
    assert load_model(tmp_path / "copy").id == models["grey"].id
