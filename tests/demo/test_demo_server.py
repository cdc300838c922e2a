"""The demo's server answers its own page on this machine, and nobody else."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy
import pytest
from PIL import Image
from secret_places import every_file, found, shown_by_system

from ddm_core.cli import main
from ddm_core.demo import server
from ddm_core.key_files import new_key_file, read_key_ring


def photo(mode="RGB", size=(60, 44)):
    across, down = numpy.meshgrid(*(numpy.linspace(0, 3, side) for side in size))
    waves = 127 + 100 * numpy.stack([numpy.sin(across + down + shift) for shift in range(3)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(waves.astype(numpy.uint8)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def text(content):
    return base64.b64encode(content).decode()


def refusal(answer):
    """The one line that a refused request is told."""
    status, _, content = answer
    assert status == 400
    (line,) = json.loads(content)["error"].splitlines()
    return line


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
    refusal(ask("POST", "/encrypt", body))


BAD_CHOICES = (33, 0, -50, 50.0, 75.0, 100.0, True, False, "75", [75], {}, 10**400)


@pytest.mark.parametrize("choice", [*BAD_CHOICES, None], ids=lambda choice: str(choice)[:9])
def test_a_size_that_the_page_does_not_offer_is_refused_in_one_line(ask, encrypted, choice):
    request = {"photo": text(photo()), "encrypted": encrypted, "percent": choice, "quality": None}
    assert refusal(ask("POST", "/decrypt", request)).startswith("percent: expected one of 100, 75, 50, 25")


@pytest.mark.parametrize("choice", [*BAD_CHOICES, 1, 100], ids=lambda choice: str(choice)[:9])
def test_a_quality_that_the_page_does_not_offer_is_refused_in_one_line(ask, encrypted, choice):
    request = {"photo": text(photo()), "encrypted": encrypted, "percent": 100, "quality": choice}
    assert refusal(ask("POST", "/decrypt", request)).startswith("quality: expected one of null, 95, 85, 75")


BAD_PICTURES = {
    "empty": text(b""),
    "no picture": text(b"no photo"),
    "truncated": text(photo()[:300]),
    "damaged": text(photo()[:60] + bytes(60) + photo()[120:]),
    "a vector": text(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "no base64": "?",
    "a number": 7,
    "nothing": None,
}


@pytest.mark.parametrize("part", ["photo", "encrypted"])
@pytest.mark.parametrize("content", BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_a_bad_picture_to_decrypt_is_one_line(ask, encrypted, part, content):
    request = {"photo": text(photo()), "encrypted": encrypted, "percent": 50, "quality": 75}
    refusal(ask("POST", "/decrypt", request | {part: content}))


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"[" * 5000, {}, {"photo": text(photo())}])
def test_a_bad_request_to_decrypt_is_one_line(ask, body):
    refusal(ask("POST", "/decrypt", body))


def test_an_encrypted_picture_of_another_photo_is_told(ask, encrypted):
    request = {"photo": text(photo(size=(32, 32))), "encrypted": encrypted, "percent": 100, "quality": None}
    assert "not that of this photo" in refusal(ask("POST", "/decrypt", request))


def test_what_nobody_expected_is_answered_in_one_line_that_tells_no_more(ask, encrypted, monkeypatch, capfd):
    def fail(*_):
        raise RuntimeError(f"secrets: {encrypted}")

    monkeypatch.setitem(server.STEPS, "/decrypt", fail)
    status, _, content = ask("POST", "/decrypt", {"photo": text(photo())})
    assert (status, json.loads(content)) == (500, {"error": "the demo failed at this photo; try another one"})
    monkeypatch.undo()
    assert ask("POST", "/encrypt", {"photo": text(photo())})[0] == 200  # and it goes on
    said = capfd.readouterr().err
    assert "ddm: error: /decrypt: RuntimeError in test_demo_server.py, line" in said
    assert "secrets" not in said
    assert "Traceback" not in said


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


@pytest.mark.parametrize("length", [10**12, 10**4000])
def test_too_large_a_photo_is_refused_unread(ask, length):
    status, _, content = ask("POST", "/encrypt", b"", Content_Length=str(length))
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


def test_the_page_leaves_neither_key_nor_passphrase_nor_photo_where_others_look(model_folder, tmp_path):
    private, watched, temporary = (tmp_path / name for name in ("private", "watched", "temporary"))
    for folder in (private, watched, temporary):
        folder.mkdir()
    words = b"correct horse battery staple"
    new_key_file(private / "my.key", lambda: words)
    (private / "words").write_bytes(words)
    (private / "words").chmod(0o600)
    options = ["--key", str(private / "my.key"), "--passphrase-file", str(private / "words")]
    command = [sys.executable, "-m", "ddm_core.cli", "demo", "--no-browser", "--model", str(model_folder)]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONFAULTHANDLER": "1"}
    seen = []
    with (watched / "said").open("wb") as said, (watched / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], cwd=watched, env=environment, stdout=said, stderr=log
        )
        while b": open it" not in (watched / "said").read_bytes():
            assert process.poll() is None, (watched / "log").read_text()
            time.sleep(0.05)
        address = (watched / "said").read_text().split(": open it")[0]
        request = {"photo": text(photo()), "percent": 50, "quality": 75}
        for step in ("encrypt", "decrypt", "encrypt"):
            body = json.dumps(request).encode()
            sent = Request(address + step, body, {"Content-Type": "application/json"})
            with suppress(HTTPError), urlopen(sent, timeout=60) as answer:
                request |= (
                    {"encrypted": json.loads(answer.read()).get("encrypted")} if step == "encrypt" else {}
                )
            seen += [shown_by_system(process.pid), every_file(temporary), every_file(watched)]
            if step == "decrypt":
                request["photo"] = text(b"no photo" + words)  # what is refused is not quoted either
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    seen += [every_file(temporary), every_file(watched)]
    key = read_key_ring(private / "my.key", lambda: words).current.secret
    assert found([key, words, photo()[40:80], b"no photo"], seen) == []
    assert b'"POST /decrypt HTTP/1.1" 200' in seen[-1]
    assert b'"POST /encrypt HTTP/1.1" 400' in seen[-1]


def test_a_port_that_is_taken_is_told_in_one_line(port, model_folder, capsys):
    assert main(["demo", "--no-browser", "--model", str(model_folder), "--port", str(port)]) == 1
    assert f"port {port}: " in capsys.readouterr().err
