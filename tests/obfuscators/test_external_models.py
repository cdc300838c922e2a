"""Models of an MLflow registry are judged: those of others as they predict, ours with their weights."""

import shutil
import textwrap

import mlflow
import pytest
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from started_networks import started_networks

from ddm_core.checkpoints import CONFIGURATION, WEIGHTS, weights_digest
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.gate import Verdict
from ddm_core.obfuscators.external import load_external
from ddm_core.obfuscators.store import Description, describe, save_obfuscator
from ddm_core.params import parse_obfuscator
from ddm_core.seeding import torch_generator
from ddm_core.serving.candidate import Candidate
from ddm_core.serving.registry import place
from ddm_core.stages import train
from ddm_core.tracking import connect

NO_NONCES = ()
MODEL = """
import mlflow
import numpy
from mlflow.pyfunc.model import PythonModel


class Model(PythonModel):
    def predict(self, context, model_input, params=None):
        BODY


mlflow.models.set_model(Model())
"""
NEGATIVE_OF_ARRAY = "return 1 - model_input"
NEGATIVE_OF_PICTURES = """
        import io
        from PIL import Image, ImageOps
        from pandas import DataFrame
        def negative(content):
            buffer = io.BytesIO()
            ImageOps.invert(Image.open(io.BytesIO(content))).save(buffer, "PNG")
            return buffer.getvalue()
        return DataFrame({"image": [negative(content) for content in model_input["image"]]})
"""


def photos(count, channels, size=16):
    draws = torch_generator(0, "tests/external models")
    return as_float(torch.randint(256, (count, channels, size, size), generator=draws))


@pytest.fixture
def registry(tmp_path, monkeypatch, empty_store):
    """An empty registry in the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def register(registry):
    """Puts a model of somebody else's there; returns its address."""

    def register(body, signature=None):
        code = registry / "model.py"
        code.write_text(MODEL.replace("BODY", textwrap.indent(textwrap.dedent(body), 8 * " ").strip()))
        folder = registry / "saved"
        mlflow.pyfunc.save_model(folder, python_model=code, signature=signature, pip_requirements=["numpy"])
        client = connect()
        client.create_registered_model("theirs")
        version = client.create_model_version("theirs", source=folder.as_uri())
        return f"models:/theirs/{version.version}"

    return register


@pytest.fixture
def ours(registry, keyed_ddm_params):
    """Puts an untrained keyed DDM of 32 pixels there as the register stage does; its folder and address."""

    def ours(channels):
        description = Description(keyed_ddm_params, channels, 32)
        folder = registry / "trained"
        folder.mkdir()
        save_obfuscator(folder, description, started_networks(description))
        candidate = Candidate(
            name="ours",
            obfuscator="keyed_ddm",
            folder=folder,
            weights_digest="ff" * 32,
            evidence={},
            verdict=Verdict(False, ()),
            chance=0.2,
            dataset_digest="ab" * 32,
            commit="c0ffee",
        )
        return folder, f"models:/ours/{place(candidate, 0.1).version}"

    return ours


def one_line(call, *arguments):
    with pytest.raises(DdmError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def columns(*names):
    return ModelSignature(inputs=Schema([ColSpec(DataType.binary, name) for name in names]))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_without_a_signature_gets_one_array(register, channels):
    uri, images = register(NEGATIVE_OF_ARRAY), photos(2, channels)
    hidden = load_external(uri).encrypt(images, NO_NONCES)
    assert torch.allclose(hidden, 1 - images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_with_a_column_of_images_gets_pictures(register, channels):
    uri, images = register(NEGATIVE_OF_PICTURES, columns("image")), photos(2, channels)
    hidden = load_external(uri).encrypt(images, NO_NONCES)
    assert torch.allclose(hidden, 1 - images, rtol=0, atol=1e-6)


def test_a_model_of_other_columns_is_refused(register):
    uri = register("return model_input", columns("age", "height"))
    assert "takes the columns age, height; expected a tensor or a column 'image'" in one_line(
        load_external, uri
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('too bad')", "raised ValueError: too bad"),
        ("return model_input[:1]", "returned shape [1, 1, 16, 16]; expected [2, 1, 16, 16]"),
        ("return 'picture'", "returned a str"),
    ],
)
def test_a_model_that_does_not_fit_is_told_what_is_wrong(register, body, words):
    uri = register(body)
    message = one_line(load_external(uri).encrypt, photos(2, 1), NO_NONCES)
    assert message.startswith(f"{uri}: ")
    assert words in message


def test_a_model_that_returns_no_pictures_is_told_so(register):
    uri = register("return model_input.rename(columns={'image': 'photo'})", columns("image"))
    assert "returned no table with a column 'image'" in one_line(
        load_external(uri).encrypt, photos(2, 1), NO_NONCES
    )


def test_a_model_that_is_not_there_is_one_line(registry):
    assert "nobodys" in one_line(load_external, "models:/nobodys/7")


def test_a_model_of_others_is_described_as_external_by_the_train_stage(register, prepared, registry):
    uri = register(NEGATIVE_OF_ARRAY)
    params = parse_obfuscator({"method": "external", "uri": uri}, "tests")
    model = registry / "theirs"
    train.run(params, name="theirs", prepared=prepared, model=model, history=registry / "history")
    assert describe(model).params == params


def test_a_model_of_ours_is_judged_with_its_weights_as_if_it_were_trained_here(ours, prepared, registry):
    folder, uri = ours(1)
    params = parse_obfuscator({"method": "external", "uri": uri}, "tests")
    model = registry / "again"
    result = train.run(params, name="again", prepared=prepared, model=model, history=registry / "history")
    assert describe(model) == describe(folder)
    assert (describe(model).keyed, describe(model).decrypts) == (True, True)
    assert result.weights_sha256 == weights_digest(folder)
    for name in (CONFIGURATION, WEIGHTS):
        assert (model / name).read_bytes() == (folder / name).read_bytes()


def test_a_model_of_ours_for_other_photos_is_refused_and_leaves_nothing(ours, prepared, registry):
    _, uri = ours(3)
    params = parse_obfuscator({"method": "external", "uri": uri}, "tests")
    places = {"prepared": prepared, "model": registry / "again", "history": registry / "history"}
    with pytest.raises(
        DdmError, match="takes RGB images of 32x32 pixels, the prepared photos are grey"
    ) as caught:
        train.run(params, name="again", **places)
    assert "\n" not in str(caught.value)
    assert not places["model"].exists()
