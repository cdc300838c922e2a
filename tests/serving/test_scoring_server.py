"""What MLflow makes of the registered model: a scoring server, a batch command, the input of an image."""

import base64
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlflow
import pytest
from mlflow.models import Model
from mlflow_server import free_port, running
from packaged_models import candidate, colours, encoded, forms, likeness, loaded, picture, pixels, table

from ddm_core.exact_channels import share_on_photo_site
from ddm_core.key_files import read_key_file, read_key_ring, rotate_key_file, write_key_file
from ddm_core.keys import generate_key
from ddm_core.serving.package import requirements, write_model_folder

pytestmark = pytest.mark.timeout(900)  # MLflow starts a process, which starts another


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaged")
    write_model_folder(candidate(folder / "trained", "keyed_ddm"), folder / "model", Model())
    return folder / "model"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key files: the server's own, and another that lies on the same machine."""
    folder = tmp_path_factory.mktemp("secrets")
    for name in ("own.key", "other.key"):
        write_key_file(folder / name, generate_key())
    return folder / "own.key", folder / "other.key"


def environment(key_file):
    """This one, with the key; `mlflow models` looks for its programs on PATH."""
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ["PATH"]])
    return os.environ | {"DDM_KEY_FILE": str(key_file), "PATH": path}


@pytest.fixture(scope="module")
def server(model, keys, tmp_path_factory):
    """A scoring server with the key of the operator; its address and its log."""
    with serving(model, keys[0], tmp_path_factory.mktemp("server")) as place:
        yield place


@contextmanager
def serving(model, key_file, folder):
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    address = f"http://127.0.0.1:{port}"
    with running(command, folder, environment(key_file), f"{address}/ping"):
        yield address, folder / "log"


def invoke(address, rows, **params):
    body = json.dumps({"dataframe_records": rows, "params": params}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{address}/invocations", body, headers), timeout=120) as answer:
        return json.loads(answer.read())["predictions"]


def base64_picture(kind="PNG"):
    return base64.b64encode(encoded(picture(), kind)).decode()


def content(row):
    return base64.b64decode(row["image"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_travel_as_base64_and_come_back(server, kind):
    hidden = invoke(server[0], [{"image": base64_picture(kind)}] * 2, operation="encrypt")
    assert len(hidden) == 2
    assert abs(likeness(content(hidden[0]), picture())) < 0.3
    restored = invoke(server[0], hidden, operation="decrypt", image_format="webp", quality=90)
    assert content(restored[1])[8:12] == b"WEBP"
    assert likeness(content(restored[1]), picture()) > 0.85


@pytest.mark.parametrize(
    ("rows", "params", "words"),
    [
        ([{"image": "bm8gcGljdHVyZQ=="}], {}, "row 0: not a readable picture"),
        ([{"image": base64_picture()}], {"operation": "encrpyt"}, "did you mean 'encrypt'"),
        ([{"image": base64_picture()}], {"operation": "decrypt"}, "decrypting needs the 20-byte nonce"),
        ([{"image": base64_picture()}], {"quality": "high"}, "quality"),
        ([{"photo": base64_picture()}], {}, "image"),
    ],
    ids=["not a picture", "operation", "no nonce", "type", "column"],
)
def test_a_request_that_cannot_be_served_is_told_why_and_nothing_about_the_server(
    server, keys, rows, params, words
):
    with pytest.raises(HTTPError) as caught:
        invoke(server[0], rows, **params)
    answer = caught.value.read().decode()
    assert caught.value.code == 400
    assert words in answer
    for told in ("Traceback", "artifacts/weights", str(keys[0].parent), str(Path(mlflow.__file__).parent)):
        assert told not in answer


def test_a_client_cannot_choose_among_the_files_of_the_server(server, keys):
    own, other = keys
    hidden = invoke(server[0], [{"image": base64_picture()}], operation="encrypt", key_file=str(other))
    assert likeness(content(invoke(server[0], hidden, operation="decrypt")[0]), picture()) > 0.9
    for path in (other, "/etc/passwd", own.parent / "missing"):
        invoke(server[0], hidden, operation="decrypt", key_file=str(path))  # all the same to the server


def test_neither_key_nor_photo_reaches_a_log(server, keys):
    invoke(server[0], [{"image": base64_picture()}], operation="encrypt")
    with pytest.raises(HTTPError):
        invoke(server[0], [{"image": base64_picture()}], operation="decrypt")
    log = server[1].read_bytes()
    assert b"/invocations" in log  # requests are logged, so this test can fail
    assert base64_picture()[:40].encode() not in log
    for key in (read_key_file(file) for file in keys):
        assert not [form for form in forms(key) if form in log]


def test_a_server_of_the_photo_model_takes_any_size_and_what_came_back_from_a_photo_site(tmp_path):
    write_model_folder(candidate(tmp_path / "trained", "photo_ddm", 3), tmp_path / "model", Model())
    write_key_file(tmp_path / "own.key", generate_key())
    original = colours().resize((90, 64))
    sent = base64.b64encode(encoded(original)).decode()
    with serving(tmp_path / "model", tmp_path / "own.key", tmp_path) as (address, log):
        (hidden,) = invoke(address, [{"image": sent}], operation="encrypt")
        rotate_key_file(tmp_path / "own.key")
        posted = base64.b64encode(share_on_photo_site(content(hidden))).decode()
        (restored,) = invoke(address, [{"image": posted}], operation="decrypt", image_format="webp")
        with pytest.raises(HTTPError) as caught:
            invoke(address, [{"image": sent}], operation="decrypt")
    assert likeness(content(restored), original) > 0.8  # noise stays below 0.3
    refusal = caught.value.read().decode()
    assert "row 0: not one of ours" in refusal
    assert "Traceback" not in refusal
    for key in read_key_ring(tmp_path / "own.key").keys:
        assert not [form for form in forms(key.secret) if form in log.read_bytes()]
    assert sent[:40].encode() not in log.read_bytes()


def mlflow_models(*arguments, key_file, folder):
    command = [sys.executable, "-m", "mlflow", "models", *map(str, arguments), "--env-manager", "local"]
    finished = subprocess.run(
        command, cwd=folder, env=environment(key_file), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished


def test_mlflow_models_predict_encrypts_a_file_of_pictures(model, keys, tmp_path):
    request = {"dataframe_records": [{"image": base64_picture()}], "params": {"image_format": "jpeg"}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    files = ("--input-path", "request.json", "--output-path", "answer.json")
    told = mlflow_models("predict", "--model-uri", model, *files, key_file=keys[0], folder=tmp_path)
    answer = (tmp_path / "answer.json").read_text()
    (row,) = json.loads(answer)["predictions"]
    assert content(row)[:2] == b"\xff\xd8"  # JPEG
    assert pixels(content(row)).shape == (32, 32)
    for form in forms(read_key_file(keys[0])):
        assert form not in (told.stdout + told.stderr + answer).encode()


def test_the_input_of_build_docker_is_complete_and_pins_what_an_index_has(model, keys, tmp_path):
    arguments = ("generate-dockerfile", "--model-uri", model, "--output-directory", tmp_path / "image")
    mlflow_models(*arguments, key_file=keys[0], folder=tmp_path)
    dockerfile = (tmp_path / "image/Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-slim$", dockerfile, re.MULTILINE)
    assert re.search(r"^ENTRYPOINT \[\"python\", \"-c\", ", dockerfile, re.MULTILINE)
    (copied,) = re.findall(r"^COPY (\S+) /opt/ml/model$", dockerfile, re.MULTILINE)
    image_model = tmp_path / "image" / copied
    same = {path.relative_to(model): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    for path, expected in same.items():
        if "__pycache__" not in path.parts and path.name != "registered_model_meta":
            assert (image_model / path).read_bytes() == expected
    assert (image_model / "requirements.txt").read_text().split() == requirements()
    hidden = loaded(image_model, keys[0]).predict(table(encoded(picture())))
    assert pixels(hidden["image"][0]).shape == (32, 32)
    files = [path for path in (tmp_path / "image").rglob("*") if path.is_file()]
    for form in forms(read_key_file(keys[0])):
        assert not [path for path in files if form in path.read_bytes()]
