"""The registered model encrypts and decrypts anywhere, and neither holds a pickle nor tells a key."""

import io
import json

import mlflow
import numpy
import pandas
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from packaged_models import (
    DECRYPT,
    ENCRYPT,
    JPEG,
    ODD_SIZE,
    PARAMS,
    SIZE,
    candidate,
    colours,
    encoded,
    forms,
    likeness,
    loaded,
    picture,
    pixels,
    table,
    use_champion_in_a_fresh_process,
)
from PIL import Image

import ddm_core
from ddm_core.errors import DdmError
from ddm_core.exact_channels import share_on_photo_site
from ddm_core.key_files import read_key_ring, rotate_key_file, write_key_file
from ddm_core.keys import generate_key
from ddm_core.serving.package import card_page, requirements, write_model_folder
from ddm_core.serving.registry import place

pytestmark = pytest.mark.timeout(900)  # the models of this module are exported first
METHODS = {"keyless": "ddm", "photo": "photo_ddm"}  # of the folders; all others are keyed_ddm


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Model folders as the registry holds them: keyed in grey and in colour, keyless, and for photos."""
    root = tmp_path_factory.mktemp("packaged")
    made = {}
    for name, method, channels in (
        ("grey", "keyed_ddm", 1),
        ("colour", "keyed_ddm", 3),
        ("keyless", "ddm", 1),
        ("photo", "photo_ddm", 3),
    ):
        made[name] = root / name
        write_model_folder(candidate(root / "trained" / name, method, channels), made[name], Model())
    made["odd"] = root / "odd"
    write_model_folder(candidate(root / "trained/odd", "keyed_ddm", size=ODD_SIZE), made["odd"], Model())
    return made


@pytest.fixture(scope="module")
def files(folders):
    """Of each folder, what was written: loading a model may add Python's byte code."""
    return {name: [path for path in folder.rglob("*") if path.is_file()] for name, folder in folders.items()}


@pytest.fixture(scope="module")
def models(folders, files):
    return {name: mlflow.pyfunc.load_model(str(folder)) for name, folder in folders.items()}


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    """A new key that the environment names, as it does on a server."""
    path = tmp_path / "master.key"
    write_key_file(path, generate_key())
    monkeypatch.setenv("DDM_KEY_FILE", str(path))
    return path


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_the_right_key_restores_what_was_hidden(models, key_file, name):
    original = picture() if name == "grey" else picture().convert("RGB")
    hidden = models[name].predict(table(*[encoded(original)] * 65), ENCRYPT)
    restored = models[name].predict(hidden, DECRYPT)
    assert pixels(hidden["image"][0]).shape == pixels(restored["image"][64]).shape == numpy.shape(original)
    assert abs(likeness(hidden["image"][64], original)) < 0.3
    assert likeness(restored["image"][64], original) > 0.9
    assert {len(nonce) for nonce in hidden["nonce"]} == {20}
    assert len(set(hidden["nonce"])) == len(set(hidden["image"])) == 65


def test_a_size_that_is_no_multiple_of_the_grid_comes_back(models, key_file):
    original = picture(ODD_SIZE)
    hidden = models["odd"].predict(table(encoded(original)), ENCRYPT)
    restored = models["odd"].predict(hidden, DECRYPT)
    assert pixels(hidden["image"][0]).shape == (SIZE, SIZE)
    assert pixels(restored["image"][0]).shape == (ODD_SIZE, ODD_SIZE)
    assert likeness(restored["image"][0], original) > 0.9


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(SIZE, SIZE), (61, 83), (200, 97)], ids=str)
def test_a_photo_of_any_size_comes_back_after_a_photo_site(models, key_file, size, mode):
    original = (colours() if mode == "RGB" else picture()).resize(size)
    hidden = models["photo"].predict(table(encoded(original)), ENCRYPT)
    assert list(hidden["nonce"]) == [b""]
    posted = share_on_photo_site(hidden["image"][0])
    (restored,) = models["photo"].predict(table(posted), DECRYPT)["image"]
    assert pixels(restored).shape == numpy.shape(original)
    assert likeness(restored, original) > 0.8


def test_what_the_photo_model_encrypts_ddm_decrypts_and_the_reverse(folders, models, key_file):
    original = colours().resize((90, 70))
    vault = ddm_core.load(folders["photo"] / "artifacts", key=key_file)
    hidden = models["photo"].predict(table(encoded(original)), ENCRYPT)["image"][0]
    ours = ddm_core.encrypt(encoded(original), vault)
    restored = models["photo"].predict(table(ours), DECRYPT)["image"][0]
    for content in (ddm_core.decrypt(hidden, vault), restored):
        assert likeness(content, original) > 0.8


@pytest.mark.parametrize("name", ["grey", "photo"])
def test_what_was_hidden_before_a_rotation_of_the_key_still_comes_back(models, key_file, name):
    original = picture()
    older = models[name].predict(table(encoded(original)), ENCRYPT)
    rotate_key_file(key_file)
    newer = models[name].predict(table(encoded(original)), ENCRYPT)
    mixed = pandas.concat([older, newer, older], ignore_index=True)
    restored = models[name].predict(mixed, DECRYPT)
    assert [likeness(content, original) > 0.8 for content in restored["image"]] == [True] * 3
    write_key_file(key_file.with_name("first alone"), read_key_ring(key_file).keys[0].secret)
    first_alone = models[name].unwrap_python_model()
    first_alone._configured_key_file = str(key_file.with_name("first alone"))
    try:
        with pytest.raises(DdmError, match="row 1: wrong key"):  # so the newer one is under the new key
            models[name].predict(mixed, DECRYPT)
    finally:
        first_alone._configured_key_file = ""


@pytest.mark.parametrize("name", ["grey", "photo"])
def test_a_wrong_key_is_an_error_and_not_a_picture(models, name, key_file, tmp_path, monkeypatch):
    write_key_file(tmp_path / "other.key", generate_key())
    hidden = models[name].predict(table(encoded(picture())))
    monkeypatch.setenv("DDM_KEY_FILE", str(tmp_path / "other.key"))
    with pytest.raises(DdmError, match=r"row 0: wrong key"):
        models[name].predict(hidden, DECRYPT)


def test_a_keyless_model_wants_neither_key_nor_nonce(models):
    hidden = models["keyless"].predict(table(encoded(picture())))
    assert list(hidden["nonce"]) == [b""]
    restored = models["keyless"].predict(hidden[["image"]], DECRYPT)
    assert pixels(restored["image"][0]).shape == (SIZE, SIZE)


def test_the_program_that_loads_a_model_may_name_another_key_file(folders, models, key_file, tmp_path):
    write_key_file(tmp_path / "mine.key", generate_key())
    mine = loaded(folders["grey"], tmp_path / "mine.key")
    hidden = mine.predict(table(encoded(picture())), ENCRYPT)
    assert likeness(mine.predict(hidden, DECRYPT)["image"][0], picture()) > 0.9
    with pytest.raises(DdmError, match="wrong key"):
        models["grey"].predict(hidden, DECRYPT)


def test_a_request_cannot_name_a_key_file(folders, models, key_file, tmp_path):
    write_key_file(tmp_path / "other.key", generate_key())
    hidden = models["grey"].predict(table(encoded(picture())), {"key_file": str(tmp_path / "other.key")})
    assert len(models["grey"].predict(hidden, DECRYPT)) == 1  # under the key of the environment
    unchecked = models["grey"].unwrap_python_model()  # as a server would that ignores the signature
    with pytest.raises(DdmError, match="unknown parameter 'key_file'"):
        unchecked.predict(None, table(encoded(picture())), {"key_file": str(tmp_path / "other.key")})


def test_a_key_file_that_cannot_be_used_stops_the_loading(folders, key_file):
    with pytest.raises(DdmError, match=r"missing\.key: cannot read the key"):
        loaded(folders["grey"], "missing.key")
    key_file.chmod(0o644)
    with pytest.raises(DdmError, match="readable by others than its owner"):
        mlflow.pyfunc.load_model(str(folders["grey"]))


def test_a_client_is_not_told_where_the_key_file_lies(models, key_file, caplog):
    key_file.unlink()
    with pytest.raises(DdmError, match="cannot be used; the model's log says why") as caught:
        models["grey"].predict(table(encoded(picture())))
    assert str(key_file) not in str(caught.value)
    assert str(key_file) in caplog.text


@pytest.mark.parametrize(("image_format", "least"), [("png", 0.9), ("jpeg", 0.85), ("webp", 0.85)])
def test_pictures_come_in_the_format_that_was_asked_for(models, key_file, image_format, least):
    form = {"image_format": image_format, "quality": 90}
    hidden = models["colour"].predict(table(encoded(picture().convert("RGB"))), ENCRYPT | form)
    restored = models["colour"].predict(hidden, DECRYPT | form)
    for content in (hidden["image"][0], restored["image"][0]):
        assert Image.open(io.BytesIO(content)).format == image_format.upper()
    assert likeness(restored["image"][0], picture().convert("RGB")) > least


def test_quality_decides_how_large_a_jpeg_is(models):
    sizes = [
        len(models["keyless"].predict(table(encoded(picture())), JPEG | {"quality": quality})["image"][0])
        for quality in (20, 95)
    ]
    assert sizes[0] < sizes[1]


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
        models["grey"].predict(table(encoded(picture()), content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (encoded(picture())[:60], "corrupt or truncated"),
        (b"GIF89a but no more", "not an image"),
        ("text", "got str"),
    ],
    ids=["empty", "truncated", "truncated header", "text"],
)
@pytest.mark.parametrize("settings", [ENCRYPT, DECRYPT])
def test_a_photo_that_cannot_be_used_is_named_by_its_row(models, key_file, settings, content, words):
    good = models["photo"].predict(table(encoded(picture())), ENCRYPT)["image"][0]
    with pytest.raises(DdmError, match=f"row 1: .*{words}") as caught:
        models["photo"].unwrap_python_model().predict(None, table(good, content), settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_any_encoding_and_colour_is_taken(models, key_file, kind, mode):
    content = encoded(picture().convert(mode), kind)
    for name, shape in (("grey", (SIZE, SIZE)), ("colour", (SIZE, SIZE, 3))):
        hidden = models[name].predict(table(content))
        assert pixels(hidden["image"][0]).shape == shape


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"operation": "encrpyt"}, "did you mean 'encrypt'"),
        ({"operation": "encrypt"}, "no key: set DDM_KEY_FILE"),
        ({"image_format": "jpg"}, "did you mean 'jpeg'"),
        ({"quality": 0}, "quality: 0 is out of range"),
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
        models["grey"].predict(request, DECRYPT)


def test_a_request_without_pictures_is_refused_by_the_signature(models):
    with pytest.raises(MlflowException, match="image"):
        models["keyless"].predict(pandas.DataFrame({"photo": [b"x"]}))


def test_the_folder_has_signature_example_pins_and_no_pickle(folders, files):
    for name, folder in folders.items():
        binary = {path.name for path in files[name] if not is_text(path.read_bytes())}
        # Every pickle protocol in use is binary; what lies in the variants is looked at in test_variants.py.
        assert binary == {"weights.safetensors", "hide.onnx", "hide.pt2", "restore.onnx", "restore.pt2"}
        assert (folder / "artifacts/weights.safetensors").read_bytes()[8:9] == b"{"
        assert not [
            path for path in files[name] if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib")
        ]
        model = Model.load(str(folder))
        assert model.signature.inputs.input_names() == ["image", "nonce"]
        assert {param.name for param in model.signature.params} == {"operation", "image_format", "quality"}
        assert list(model.load_input_example(str(folder)).columns) == ["image"]
        assert (folder / "requirements.txt").read_text().split() == requirements()
        page = card_page((folder / "model_card.md").read_text(), METHODS.get(name, "keyed_ddm"))
        assert (folder / "model_card.html").read_text() == page


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
    address = f"sqlite:///{project}/mlflow.db"
    finished = use_champion_in_a_fresh_process(elsewhere, address, keys)
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert "row 0: wrong key" in told["error"]
    assert str(project / "mlartifacts") in told["code"]  # the code that travels with the weights
    assert likeness((elsewhere / "restored.png").read_bytes(), picture()) > 0.9

    places = [path.read_bytes() for path in project.rglob("*") if path.is_file()]
    places += [finished.stdout.encode(), finished.stderr.encode()]
    for form in (form for key in keys.values() for form in forms(key)):
        assert not any(form in content for content in places)
