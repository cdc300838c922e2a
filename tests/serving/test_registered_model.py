"""The registered model encrypts and decrypts anywhere, and neither holds a pickle nor tells a key."""

import base64
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy
import pandas
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from PIL import Image

from ddm_core.checkpoints import weights_digest
from ddm_core.errors import DdmError
from ddm_core.gate import judge
from ddm_core.key_files import write_key_file
from ddm_core.keys import generate_key
from ddm_core.obfuscators.store import Description, build_networks, save_obfuscator
from ddm_core.params import load
from ddm_core.serving.candidate import Candidate
from ddm_core.serving.package import requirements, write_model_folder
from ddm_core.serving.registry import place

PARAMS = load(Path(__file__).parents[2] / "params.yaml")
SIZE = 32
ODD_SIZE = 30  # no multiple of the grid
CELL = {"top1": 0.03, "ci95": [0.02, 0.05], "n": 1280}
UTILITY = {"psnr_db": 33.0, "ssim": 0.95, "recognition_top1": 0.99, "ci95": [0.97, 1.0], "n": 320}
EVIDENCE = {
    "method": "keyed_ddm",
    "decrypts": True,
    "attacks": dict.fromkeys(PARAMS.register.gate.attackers, CELL),
    "worst_case": {"attacker": "retrained", "top1": 0.03, "ci95": [0.02, 0.05]},
    "utility": dict.fromkeys(("png", "jpeg75", "resize50"), UTILITY),
}


def candidate(folder, method, channels=1, evidence=EVIDENCE, size=SIZE):
    torch.manual_seed(0)
    params = dataclasses.replace(PARAMS.train[method], width=8)
    description = Description(params, channels, size)
    folder.mkdir(parents=True)
    save_obfuscator(folder, description, build_networks(description))
    return Candidate(
        name=method,
        obfuscator=method,
        folder=folder,
        weights_digest=weights_digest(folder),
        evidence=evidence,
        verdict=judge(evidence, PARAMS.register.gate),
        chance=0.025,
        dataset_digest="ab" * 32,
        commit="c0ffee",
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Model folders as the registry holds them: keyed in grey and in colour, and keyless."""
    root = tmp_path_factory.mktemp("packaged")
    made = {}
    for name, method, channels in (
        ("grey", "keyed_ddm", 1),
        ("colour", "keyed_ddm", 3),
        ("keyless", "ddm", 1),
    ):
        made[name] = root / name
        write_model_folder(candidate(root / "trained" / name, method, channels), made[name], Model())
    made["odd"] = root / "odd"
    write_model_folder(candidate(root / "trained/odd", "keyed_ddm", size=ODD_SIZE), made["odd"], Model())
    return made


@pytest.fixture(scope="module")
def models(folders):
    return {name: mlflow.pyfunc.load_model(str(folder)) for name, folder in folders.items()}


@pytest.fixture
def key_file(tmp_path):
    write_key_file(tmp_path / "master.key", generate_key())
    return str(tmp_path / "master.key")


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def picture(size=SIZE):
    return Image.linear_gradient("L").resize((size, size))


def table(*contents):
    return pandas.DataFrame({"image": list(contents)})


def pixels(content):
    return numpy.asarray(Image.open(io.BytesIO(content))).astype(float)


def likeness(content, original):
    """Correlation of an encoded picture with the original: the weights are untrained, so not a PSNR."""
    return numpy.corrcoef(pixels(content).ravel(), numpy.asarray(original).ravel())[0, 1]


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_the_right_key_restores_what_was_hidden(models, key_file, name):
    original = picture() if name == "grey" else picture().convert("RGB")
    settings = {"key_file": key_file}
    hidden = models[name].predict(table(*[encoded(original)] * 65), {"operation": "encrypt", **settings})
    restored = models[name].predict(hidden, {"operation": "decrypt", **settings})
    assert pixels(hidden["image"][0]).shape == pixels(restored["image"][64]).shape == numpy.shape(original)
    assert abs(likeness(hidden["image"][64], original)) < 0.3
    assert likeness(restored["image"][64], original) > 0.9
    assert {len(nonce) for nonce in hidden["nonce"]} == {20}
    assert len(set(hidden["nonce"])) == len(set(hidden["image"])) == 65


def test_a_size_that_is_no_multiple_of_the_grid_comes_back(models, key_file):
    original, settings = picture(ODD_SIZE), {"key_file": key_file}
    hidden = models["odd"].predict(table(encoded(original)), {"operation": "encrypt", **settings})
    restored = models["odd"].predict(hidden, {"operation": "decrypt", **settings})
    assert pixels(hidden["image"][0]).shape == (SIZE, SIZE)
    assert pixels(restored["image"][0]).shape == (ODD_SIZE, ODD_SIZE)
    assert likeness(restored["image"][0], original) > 0.9


def test_a_wrong_key_is_an_error_and_not_a_picture(models, key_file, tmp_path):
    write_key_file(tmp_path / "other.key", generate_key())
    hidden = models["grey"].predict(table(encoded(picture())), {"key_file": key_file})
    with pytest.raises(DdmError, match=r"row 0: wrong key"):
        models["grey"].predict(hidden, {"operation": "decrypt", "key_file": str(tmp_path / "other.key")})


def test_a_keyless_model_wants_neither_key_nor_nonce(models):
    hidden = models["keyless"].predict(table(encoded(picture())))
    assert list(hidden["nonce"]) == [b""]
    restored = models["keyless"].predict(hidden[["image"]], {"operation": "decrypt"})
    assert pixels(restored["image"][0]).shape == (SIZE, SIZE)


def test_the_environment_names_the_key_file_where_the_request_does_not(models, key_file, monkeypatch):
    monkeypatch.setenv("DDM_KEY_FILE", key_file)
    assert len(models["grey"].predict(table(encoded(picture())))) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a readable picture"),
        (b"GIF89a but no more", "not a readable picture"),
        (encoded(picture())[:60], "not a readable picture"),
        (encoded(picture(48)), "48x48, the model takes 32x32"),
        (encoded(Image.new("1", (9000, 9000))), "9000x9000, the model takes 32x32"),
        (encoded(Image.new("I;16", (SIZE, SIZE))), "more than 8 bits"),
    ],
    ids=["empty", "truncated header", "truncated", "other size", "huge", "16 bits"],
)
def test_a_picture_that_cannot_be_used_is_named_by_its_row(models, key_file, content, words):
    with pytest.raises(DdmError, match=f"row 1: .*{words}") as caught:
        models["grey"].predict(table(encoded(picture()), content), {"key_file": key_file})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_any_encoding_and_colour_is_taken(models, key_file, kind, mode):
    content = encoded(picture().convert(mode), kind)
    for name, shape in (("grey", (SIZE, SIZE)), ("colour", (SIZE, SIZE, 3))):
        hidden = models[name].predict(table(content), {"key_file": key_file})
        assert pixels(hidden["image"][0]).shape == shape


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"operation": "encrpyt"}, "did you mean 'encrypt'"),
        ({"operation": "encrypt"}, "no key: set DDM_KEY_FILE"),
        ({"operation": "encrypt", "key_file": "missing.key"}, "missing.key: cannot read the key"),
    ],
)
def test_a_request_that_cannot_be_served_says_how_to_mend_it(models, monkeypatch, settings, words):
    monkeypatch.delenv("DDM_KEY_FILE", raising=False)
    with pytest.raises(DdmError, match=words):
        models["grey"].predict(table(encoded(picture())), settings)


@pytest.mark.parametrize("nonce", [None, b"", b"short"])
def test_decrypting_without_the_nonce_says_so(models, key_file, nonce):
    request = table(encoded(picture())).assign(nonce=[nonce])
    with pytest.raises(DdmError, match="row 0: decrypting needs the 20-byte nonce"):
        models["grey"].predict(request, {"operation": "decrypt", "key_file": key_file})


def test_a_request_without_pictures_is_refused_by_the_signature(models):
    with pytest.raises(MlflowException, match="image"):
        models["keyless"].predict(pandas.DataFrame({"photo": [b"x"]}))


def test_the_folder_has_signature_example_pins_and_card_and_no_pickle(folders):
    for folder in folders.values():
        files = [path for path in folder.rglob("*") if path.is_file()]
        binary = {path.name for path in files if not is_text(path.read_bytes())}
        assert binary == {"weights.safetensors"}  # every pickle protocol in use is binary
        assert (folder / "artifacts/weights.safetensors").read_bytes()[8:9] == b"{"
        assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib")]
        model = Model.load(str(folder))
        assert model.signature.inputs.input_names() == ["image", "nonce"]
        assert {param.name for param in model.signature.params} == {"operation", "key_file"}
        assert list(model.load_input_example(str(folder)).columns) == ["image"]
        assert (folder / "requirements.txt").read_text().split() == requirements()
        card = (folder / "model_card.md").read_text()
        for heading in (
            "Intended use",
            "Threat model",
            "Evidence",
            "Limits",
            "Data and credit",
            "How to load",
        ):
            assert f"## {heading}" in card
        assert "| retrained | 3.0 % | 5.0 % |" in card


def is_text(content):
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def test_requirements_are_exact_and_installable_from_any_index(folders):
    for line in requirements():
        name, _, version = line.partition("==")
        assert name
        assert version.replace(".", "").isalnum(), line
    assert "torch==2.13.0" in requirements()


def test_a_model_without_evidence_still_gets_a_card_that_says_so(tmp_path):
    write_model_folder(candidate(tmp_path / "trained", "ddm", evidence={}), tmp_path / "packaged", Model())
    card = (tmp_path / "packaged/model_card.md").read_text()
    assert "**failed** the gate" in card
    assert "not measured" in card


FRESH_PROCESS = """
import io, json, sys
import mlflow, pandas
from pathlib import Path

right, wrong = sys.argv[1:]
model = mlflow.pyfunc.load_model("models:/keyed_ddm@champion")
photos = pandas.DataFrame({"image": [Path("face.png").read_bytes()]})
hidden = model.predict(photos, params={"operation": "encrypt", "key_file": right})
restored = model.predict(hidden, params={"operation": "decrypt", "key_file": right})
Path("restored.png").write_bytes(restored["image"][0])
try:
    model.predict(hidden, params={"operation": "decrypt", "key_file": wrong})
except Exception as error:
    print(json.dumps({"error": str(error), "code": sys.modules["ddm_core"].__file__}))
"""


def test_the_champion_loads_in_a_fresh_process_elsewhere_and_leaves_no_key_behind(tmp_path, monkeypatch):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(project)
    assert place(candidate(project / "models/keyed_ddm", "keyed_ddm"), PARAMS.register.gate).champion == 1

    keys = {"right.key": generate_key(), "wrong.key": generate_key()}
    for name, key in keys.items():
        write_key_file(elsewhere / name, key)
    (elsewhere / "face.png").write_bytes(encoded(picture()))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DDM_KEY_FILE")
    }
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{project}/mlflow.db"
    finished = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, *keys],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert "row 0: wrong key" in told["error"]
    assert str(project / "mlartifacts") in told["code"]  # the code that travels with the weights
    assert likeness((elsewhere / "restored.png").read_bytes(), picture()) > 0.9

    places = [path.read_bytes() for path in project.rglob("*") if path.is_file()]
    places += [finished.stdout.encode(), finished.stderr.encode()]
    for key in keys.values():
        for form in (key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key)):
            assert not any(form.rstrip(b"=") in content for content in places)
