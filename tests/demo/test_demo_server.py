"""The demo's server answers its own page on this machine, and nobody else."""

import base64
import io
import json
import signal
import subprocess
import sys
from urllib.request import urlopen

import numpy
import pytest
from PIL import Image

from ddm_core.cli import main


def photo(mode="RGB", size=(60, 44)):
    across, down = numpy.meshgrid(*(numpy.linspace(0, 3, side) for side in size))
    waves = 127 + 100 * numpy.stack([numpy.sin(across + down + shift) for shift in range(3)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(waves.astype(numpy.uint8)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def text(content):
    return base64.b64encode(content).decode()


def picture(answer):
    return Image.open(io.BytesIO(base64.b64decode(answer)))


@pytest.fixture
def encrypted(ask):
    status, _, content = ask("POST", "/encrypt", {"photo": text(photo())})
    assert status == 200
    return json.loads(content)["encrypted"]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_right_key_restores_a_photo_and_a_wrong_one_gives_noise(ask, mode):
    _, _, content = ask("POST", "/encrypt", {"photo": text(photo(mode))})
    hidden = json.loads(content)["encrypted"]
    request = {"photo": text(photo(mode)), "encrypted": hidden, "percent": 100, "quality": None}
    status, _, content = ask("POST", "/decrypt", request)
    answer = json.loads(content)
    assert status == 200
    assert answer["right"]["psnr_db"] > 17
    assert answer["wrong"]["psnr_db"] < 14
    assert "ddm decrypt refuses it" in answer["wrong"]["refusal"]
    assert {picture(answer[key]["picture"]).size for key in ("right", "wrong")} == {(60, 44)}


def test_what_arrives_is_what_the_channel_makes_of_it(ask, encrypted):
    whole = picture(encrypted).size
    request = {"photo": text(photo()), "encrypted": encrypted, "percent": 50, "quality": 75}
    received = picture(json.loads(ask("POST", "/decrypt", request)[2])["received"])
    assert received.format == "JPEG"
    assert received.size == tuple(round(side / 2) for side in whole)


def test_what_no_key_can_decrypt_is_said_and_still_shown(ask, encrypted):
    request = {"photo": text(photo()), "encrypted": text(photo()), "percent": 100, "quality": None}
    status, _, content = ask("POST", "/decrypt", request)
    answer = json.loads(content)
    assert (status, answer["error"]) == (
        200,
        "not one of ours: it has no code band; give a photo that ddm encrypted, whole",
    )
    assert picture(answer["received"]).size == (60, 44)


@pytest.mark.parametrize(
    "body",
    [b"", b"[1]", b"{", b"[" * 5000, {"photo": 7}, {"photo": "?"}, {"photo": text(b"no photo")}],
)
def test_a_bad_request_is_one_line(ask, body):
    status, _, content = ask("POST", "/encrypt", body)
    assert status == 400
    assert len(json.loads(content)["error"].splitlines()) == 1


@pytest.mark.parametrize("change", [{"percent": 33}, {"quality": 1}, {"percent": None}, {"quality": "75"}])
def test_channels_that_the_page_does_not_offer_are_refused(ask, encrypted, change):
    request = {"photo": text(photo()), "encrypted": encrypted, "percent": 100, "quality": None} | change
    assert ask("POST", "/decrypt", request)[0] == 400


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Origin": "http://evil.example"}],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_page_cannot_use_the_server(ask, method, headers):
    path = "/" if method == "GET" else "/encrypt"
    status, _, content = ask(method, path, {"photo": text(photo())}, **headers)
    assert status == 403
    assert "encrypted" not in json.loads(content)


def test_too_large_a_photo_is_refused_unread(ask):
    status, _, content = ask("POST", "/encrypt", b"", Content_Length=str(10**12))
    assert status == 413
    assert "take a smaller one" in json.loads(content)["error"]


@pytest.mark.parametrize("path", ["/../steps.py", "/index.html", "/encrypt", "/demo.js?x"])
def test_only_the_page_itself_is_there_to_get(ask, path):
    assert ask("GET", path)[0] == 404


def test_the_page_may_load_nothing_from_elsewhere(ask):
    _, headers, content = ask("GET", "/")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert b"//" not in content.replace(b"<!doctype html>", b"")


def test_the_command_serves_until_ctrl_c_and_keeps_nothing(model_folder, tmp_path):
    command = [sys.executable, "-m", "ddm_core.cli", "demo", "--no-browser", "--model", str(model_folder)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, **piped)
    address = process.stdout.readline().split(": open it")[0]
    with urlopen(address, timeout=30) as answer:
        assert b"Try an encrypted photo" in answer.read()
    process.send_signal(signal.SIGINT)
    said, log = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "ended; nothing was kept\n")
    assert log == '"GET / HTTP/1.1" 200 -\n'
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_told_in_one_line(port, model_folder, capsys):
    assert main(["demo", "--no-browser", "--model", str(model_folder), "--port", str(port)]) == 1
    assert f"port {port}: " in capsys.readouterr().err
