"""`ddm encrypt` and `ddm decrypt` as people use them: folders, patterns, pipes, and nothing spoilt."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import encoded, pixels_of, scene
from PIL import Image
from secret_places import every_file, found, shown_by_system

from ddm_core import cli
from ddm_core.errors import DdmError
from ddm_core.key_files import new_key_file, read_key_ring
from ddm_core.obfuscators.cell_code import PATCH
from ddm_core.photos.boxes import parse_boxes, snap
from ddm_core.photos.header import Box


@pytest.fixture
def ddm(capsys, monkeypatch, tmp_path, key_file, model_folders):
    """Runs the command in a folder of its own; returns its exit status, what it printed, and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDM_KEY_FILE", str(key_file))

    def run(*arguments, model="colour"):
        status = cli.main([*map(str, arguments), "--model", str(model_folders[model]), "--workers", "1"])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def photo(path, width=80, height=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(scene(width, height), "PNG" if path.suffix == ".png" else "JPEG"))
    return path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_a_folder_keeps_its_tree_and_patterns_and_files_go_along(ddm, tmp_path):
    for name in ("album/one.jpg", "album/sub/two.JPG", "album/notes.txt", "three.png", "four.png"):
        photo(tmp_path / name)
    status, printed, errors = ddm("encrypt", "album", "th*.png", tmp_path / "four.png", "-o", "out")
    assert (status, printed, errors) == (0, "out: 4 photos encrypted\n", "")
    assert files("out") == ["four.png", "one.png", "sub/two.png", "three.png"]
    status, printed, _ = ddm("decrypt", "out", "-o", "back", "--format", "jpeg")
    assert (status, printed) == (0, "back: 4 photos decrypted\n")
    assert files("back") == ["four.jpg", "one.jpg", "sub/two.jpg", "three.jpg"]
    assert Image.open("back/sub/two.jpg").size == (80, 60)


def test_many_processes_give_what_one_gives(ddm, tmp_path, capsys, model_folders):
    for number in range(4):
        photo(tmp_path / f"in/{number}.jpg")
    many = ["encrypt", "in", "-o", "out", "--model", str(model_folders["colour"]), "--workers", "2"]
    assert cli.main(many) == 0
    capsys.readouterr()
    assert ddm("decrypt", "out", "-o", "back")[0] == 0
    assert len(files("back")) == 4


def test_a_restored_photo_is_its_owners_alone_and_an_encrypted_one_is_not(ddm, tmp_path):
    ddm("encrypt", photo(tmp_path / "a.jpg"), "-o", "out")
    ddm("decrypt", "out/a.png", "-o", "back")
    assert Path("out/a.png").stat().st_mode & 0o777 == 0o644
    assert Path("back/a.png").stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten_without_force_and_never_the_photo_itself(ddm, tmp_path):
    original = photo(tmp_path / "a.png")
    before = original.read_bytes()
    ddm("encrypt", original, "-o", "out")
    first = Path("out/a.png").read_bytes()
    status, _, errors = ddm("encrypt", original, "-o", "out")
    assert (status, Path("out/a.png").read_bytes()) == (1, first)
    assert errors.endswith("exists; choose another folder, or overwrite it with --force\n")
    assert ddm("encrypt", original, "-o", "out", "--force")[0] == 0
    assert Path("out/a.png").read_bytes() != first
    status, _, errors = ddm("encrypt", original, "-o", ".", "--force")
    assert status == 1
    assert "would overwrite the photo itself" in errors
    assert original.read_bytes() == before


def test_two_photos_with_one_result_are_refused_before_anything_is_written(ddm, tmp_path):
    photo(tmp_path / "a.png")
    photo(tmp_path / "a.jpg")
    status, _, errors = ddm("encrypt", "a.png", "a.jpg", "-o", "out")
    assert status == 1
    assert "would both become out/a.png" in errors
    assert not Path("out").exists()


def test_a_bad_photo_is_named_and_stops_no_other(ddm, tmp_path):
    photo(tmp_path / "in/good.jpg")
    (tmp_path / "in/bad.jpg").write_bytes(b"no photo")
    (tmp_path / "in/empty.png").touch()
    status, _, errors = ddm("encrypt", "in", "-o", "out")
    lines = errors.splitlines()
    assert status == 1
    assert lines[0].startswith("ddm: error: in/bad.jpg: not an image")
    assert lines[1] == "ddm: error: in/empty.png: the file is empty; replace it"
    assert lines[2] == "ddm: error: 2 of 3 photos could not be encrypted; the others are in out"
    assert files("out") == ["good.png"]


def test_every_refusal_to_decrypt_is_one_line_and_leaves_no_file(ddm, tmp_path):
    ddm("encrypt", photo(tmp_path / "a.jpg", 320, 240), "-o", "out")
    whole = Image.open("out/a.png")
    painted = numpy.array(whole)
    painted[256:-16, :160] = 24
    new_key_file(tmp_path / "other.key")
    Path("bad").mkdir()
    cases = {
        "cropped": whole.crop((0, 50, *whole.size)),
        "not one of ours": Image.fromarray(scene(200, 100)),
        "damaged header": Image.fromarray(painted),
        "wrong key": whole,
    }
    for message, image in cases.items():
        image.save("bad/photo.png")
        key = ("--key", "other.key") if message == "wrong key" else ()
        status, printed, errors = ddm("decrypt", "bad/photo.png", "-o", "back", *key)
        assert (status, printed) == (1, "")
        assert errors.startswith(f"ddm: error: bad/photo.png: {message}"), errors
        assert errors.count("\n") == 1
        assert not Path("back").exists()


def test_a_photo_goes_through_pipes(tmp_path, key_file, model_folders):
    settings = ["-o", "-", "--key", str(key_file), "--model", str(model_folders["colour"])]

    def piped(verb, content):
        command = [sys.executable, "-m", "ddm_core.cli", verb, "-", *settings]
        return subprocess.run(command, input=content, capture_output=True, check=False)

    original = encoded(scene(90, 70))
    hidden = piped("encrypt", original)
    assert pixels_of(piped("decrypt", hidden.stdout).stdout).shape == (70, 90, 3)
    refused = piped("decrypt", original)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.startswith(b"ddm: error: standard input: not one of ours")


def test_a_killed_encryption_leaves_whole_photos_alone(tmp_path, key_file, model_folders):
    for number in range(6):
        photo(tmp_path / f"in/{number}.jpg", 2400, 1600)
    settings = ["-o", str(tmp_path / "out"), "--key", str(key_file), "--model", str(model_folders["colour"])]
    command = [
        sys.executable,
        "-m",
        "ddm_core.cli",
        "encrypt",
        str(tmp_path / "in"),
        *settings,
        "--workers",
        "1",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while not list(tmp_path.glob("out/*.png")):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.01)
        running.terminate()  # in the middle of another photo
        errors = running.communicate(timeout=60)[1]
    assert running.returncode == 1
    assert "SIGTERM" in errors
    written = files(tmp_path / "out")
    assert 1 <= len(written) < 6
    for name in written:  # nothing half-written, nothing temporary
        assert pixels_of((tmp_path / "out" / name).read_bytes()).shape[1] == 2400


def test_without_a_key_a_photo_or_a_model_the_line_says_what_to_give(ddm, tmp_path, monkeypatch):
    photo(tmp_path / "a.jpg")
    assert "no such photo or folder" in ddm("encrypt", "nothing.jpg", "-o", "out")[2]
    Path("empty").mkdir()
    assert "no photos in this folder" in ddm("encrypt", "empty", "-o", "out")[2]
    assert "quality 0 is out of range" in ddm("encrypt", "a.jpg", "-o", "out", "--quality", 0)[2]
    assert "a grey" not in ddm("encrypt", "a.jpg", "-o", "out", model="grey")[1]
    monkeypatch.delenv("DDM_KEY_FILE")
    assert "no key: give --key FILE or set DDM_KEY_FILE" in ddm("encrypt", "a.jpg", "-o", "out")[2]


def test_a_missing_model_is_named(ddm, tmp_path, capsys, key_file):
    photo(tmp_path / "a.jpg")
    assert cli.main(["encrypt", "a.jpg", "-o", "out", "--model", "nowhere"]) == 1
    assert "nowhere: no model folder" in capsys.readouterr().err


def test_a_progress_bar_is_shown_at_a_terminal(tmp_path, key_file, model_folders):
    photo(tmp_path / "a.jpg")
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "ddm_core.cli", "encrypt", str(tmp_path / "a.jpg"), "-o", str(tmp_path),
        "--key", str(key_file), "--model", str(model_folders["colour"])]  # fmt: skip
    with subprocess.Popen(command, stderr=follower) as running:
        os.close(follower)
        shown = b""
        with suppress(OSError):  # the other side has closed
            while chunk := os.read(leader, 1000):
                shown += chunk
    os.close(leader)
    assert running.returncode == 0
    assert b"1/1" in shown


# Regions


def test_boxes_come_from_the_command_line_or_a_file(ddm, tmp_path):
    original = photo(tmp_path / "a.png", 203, 131)
    Path("boxes.json").write_text(
        json.dumps([[8, 8, 40, 40], {"x": 100, "y": 60, "width": 30, "height": 20}])
    )
    status, _, errors = ddm(
        "encrypt", original, "-o", "out", "--regions", "boxes.json", "--regions", "60,8,12,12"
    )
    assert (status, errors) == (0, "")
    assert ddm("decrypt", "out/a.png", "-o", "back")[0] == 0
    before, hidden, after = (
        pixels_of(Path(name).read_bytes()) for name in (original, "out/a.png", "back/a.png")
    )
    changed = (hidden[:131, :203] != before).any(axis=2)
    assert changed[8:48, 8:48].mean() > 0.9
    assert changed[60:80, 100:130].mean() > 0.9
    assert changed[8:20, 60:72].mean() > 0.9
    assert changed.sum() <= 40 * 40 + 40 * 24 + 16 * 16
    assert (after[100:] == before[100:]).all()


BOXES = st.builds(Box, *[st.integers(-20, 220)] * 2, *[st.integers(1, 90)] * 2)


@settings(max_examples=150, deadline=None)
@given(st.lists(BOXES, min_size=1, max_size=9))
def test_snapped_boxes_cover_the_given_ones_with_disjoint_cells(boxes):
    try:
        snapped = snap(boxes, (203, 131), PATCH)
    except DdmError:
        assert any(box.left >= 203 or box.top >= 131 or box.left + box.width <= 0 or box.top + box.height <= 0
                   for box in boxes)  # fmt: skip
        return
    times = numpy.zeros((136, 208), int)
    wanted = numpy.zeros((131, 203), bool)
    for left, top, width, height in snapped:
        assert left % PATCH == top % PATCH == 0
        bottom, right = -(-(top + height) // PATCH) * PATCH, -(-(left + width) // PATCH) * PATCH
        times[top:bottom, left:right] += 1
    for left, top, width, height in boxes:
        wanted[max(0, top) : top + height, max(0, left) : left + width] = True
    assert times.max() == 1
    assert times[:131, :203][wanted].all()


@pytest.mark.parametrize(
    "text", ["1,2,3", "1,2,3,x", "1,2,0,4", "[]", "[[1,2,3]]", '[{"x":1}]', "{}", "[[1,2,3,true]]"]
)
def test_bad_boxes_are_one_line(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    place = text
    if text[0] in "[{":
        Path("boxes.json").write_text(text)
        place = "boxes.json"
    with pytest.raises(DdmError, match=r"expected|not found"):
        parse_boxes(place)


# Secrets


PASSPHRASE = b"correct horse battery staple"


@pytest.mark.parametrize("protection", ["bare", "file", "environment"])
def test_no_place_that_others_can_read_holds_the_key_or_its_passphrase(tmp_path, model_folders, protection):
    """Everything written, printed or shown by the system while photos are encrypted and decrypted."""
    private, watched, temporary = (tmp_path / name for name in ("private", "watched", "temporary"))
    for folder in (private, watched, temporary):
        folder.mkdir()
    options, settings = key_under(protection, private)
    secrets = [read_key_ring(private / "my.key", lambda: PASSPHRASE).current.secret, PASSPHRASE]
    for number in range(2):
        photo(watched / f"in/{number}.jpg", 900, 700)
    environment = os.environ | settings | {"TMPDIR": str(temporary), "PYTHONFAULTHANDLER": "1"}
    seen = set()
    for verb, source, target in (("encrypt", "in", "out"), ("decrypt", "out", "back")):
        places = [str(watched / source), "-o", str(watched / target)]
        model = ["--model", str(model_folders["colour"]), "--workers", "2"]
        command = [sys.executable, "-m", "ddm_core.cli", verb, *places, *model, *options]
        with (watched / "printed").open("ab") as printed:
            running = subprocess.Popen(command, stdout=printed, stderr=printed, env=environment)
            while running.poll() is None:
                # Who puts a passphrase into the environment has it there; nobody else's may hold it.
                seen |= {shown_by_system(running.pid, environment=protection != "environment")}
                seen |= {every_file(temporary)}
                time.sleep(0.05)
            assert running.returncode == 0
    seen.add(every_file(watched))
    assert any(b"spawn_main" in shown for shown in seen)  # the worker processes were looked at
    assert found(secrets, seen) == []
    assert found([b"spawn_main"], seen) == [b"spawn_main"]  # what is there is found


def key_under(protection, folder):
    """A key file without or with a passphrase; the options and the environment that open it."""
    new_key_file(folder / "my.key", None if protection == "bare" else lambda: PASSPHRASE)
    options = ["--key", str(folder / "my.key")]
    if protection == "file":
        (folder / "words").write_bytes(PASSPHRASE + b"\n")
        (folder / "words").chmod(0o600)
        options += ["--passphrase-file", str(folder / "words")]
    if protection == "environment":
        return [*options, "--passphrase-env", "MY_WORDS"], {"MY_WORDS": PASSPHRASE.decode()}
    return options, {}
