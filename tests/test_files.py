"""A reader sees the old content or the new one, whatever happens to the writer."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from ddm_core.errors import DdmError
from ddm_core.files import (
    OUTPUT_MARK,
    atomic_directory,
    join_folders,
    joined,
    read_json,
    remove_leftovers_below,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)


class Interrupted(BaseException):
    """Stands for Ctrl-C: not an Exception."""


def start(code, *arguments):
    """Run Python code in a process of its own and wait until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


# One file


def test_a_written_file_holds_its_content_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_json_and_text_are_utf8_and_keep_their_order(tmp_path):
    write_json(tmp_path / "a.json", {"z": "Björn 王芳", "a": [1, 2.5, None]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8").index('"z"') < 5
    assert read_json(tmp_path / "a.json") == {"z": "Björn 王芳", "a": [1, 2.5, None]}
    write_text(tmp_path / "a.txt", "Zoë")
    assert (tmp_path / "a.txt").read_bytes() == "Zoë".encode()


@pytest.mark.parametrize("content", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_say_leaves_the_old_file(tmp_path, content):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"new": content})
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_take_its_place_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_bytes(tmp_path / "taken", b"content")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_content_whole(tmp_path):
    path = tmp_path / "file"
    code = """
import sys
from pathlib import Path
from ddm_core.files import write_bytes
write_bytes(Path(sys.argv[1]), b"a" * 500_000)
print("ready", flush=True)
while True:
    for letter in (b"b", b"a"):
        write_bytes(Path(sys.argv[1]), letter * 500_000)
"""
    for delay in (0.0, 0.011, 0.027):
        process = start(code, path)
        time.sleep(delay)
        kill(process)
        content = path.read_bytes()
        assert len(content) == 500_000
        assert len(set(content)) == 1
        hidden = [entry for entry in tmp_path.iterdir() if entry != path]
        assert all(entry.name.startswith(".file.") and entry.name.endswith(".tmp") for entry in hidden)
    write_bytes(path, b"after")
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_unreadable_json_is_one_line_that_says_what_to_do(tmp_path):
    with pytest.raises(DdmError, match="not found; run the stage that writes it"):
        read_json(tmp_path / "none.json")
    for content in (b'{"half": ', b"\xff\xfe", b""):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(DdmError, match=r"bad.json: not valid JSON .*run the stage again") as caught:
            read_json(tmp_path / "bad.json")
        assert "\n" not in str(caught.value)


# A folder


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "model"
    with atomic_directory(path) as folder:
        (folder / "weights").write_text("old")
    return path


def contents(path):
    return {entry.name: entry.read_text() for entry in path.iterdir() if entry.name != OUTPUT_MARK}


def test_a_folder_appears_whole_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "model"
    with atomic_directory(path) as folder:
        (folder / "weights").write_text("new")
        assert not path.exists()
    assert contents(path) == {"weights": "new"}
    assert list(path.parent.iterdir()) == [path]


def test_a_new_folder_replaces_the_old_one_altogether(old):
    with atomic_directory(old) as folder:
        (folder / "other").write_text("new")
        assert contents(old) == {"weights": "old"}
    assert contents(old) == {"other": "new"}
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Interrupted])
def test_an_exception_keeps_the_old_folder_and_removes_the_half_written_one(old, error):
    with pytest.raises(error), atomic_directory(old) as folder:
        (folder / "weights").write_text("half")
        raise error
    assert contents(old) == {"weights": "old"}
    assert list(old.parent.iterdir()) == [old]


HALF_WAY = """
import sys, time
from pathlib import Path
from ddm_core.files import atomic_directory
with atomic_directory(Path(sys.argv[1])) as folder:
    (folder / "weights").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_stage_keeps_the_old_folder_and_the_next_run_cleans_up(old):
    kill(start(HALF_WAY, old))
    assert contents(old) == {"weights": "old"}
    assert len(list(old.parent.iterdir())) == 2, "what the killed process left is hidden beside it"
    with atomic_directory(old) as folder:
        (folder / "weights").write_text("new")
    assert contents(old) == {"weights": "new"}
    assert list(old.parent.iterdir()) == [old]


def test_a_killed_first_run_leaves_no_folder_at_all(tmp_path):
    path = tmp_path / "model"
    kill(start(HALF_WAY, path))
    assert not path.exists()
    with atomic_directory(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_running_process_and_other_folders_are_left_alone(old):
    process = start(HALF_WAY, old)
    neighbour = old.parent / f".model_control.{process.pid}.tmp"
    neighbour.mkdir()
    try:
        with atomic_directory(old) as folder:
            (folder / "weights").write_text("new")
        (half,) = old.parent.glob(".model.*.tmp")
        assert (half / "weights").read_text() == "half"
    finally:
        kill(process)
    with atomic_directory(old):
        pass
    assert sorted(entry.name for entry in old.parent.iterdir()) == [neighbour.name, "model"]


def test_a_folder_whose_name_has_glob_characters_cleans_up_after_itself_only(tmp_path):
    path, other = tmp_path / "model[1]*", tmp_path / ".model1x.1.tmp"
    other.mkdir()
    (tmp_path / f".{path.name}.{os.getpid()}.tmp").mkdir()
    with atomic_directory(path):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([other.name, path.name])


def test_a_file_in_the_place_of_a_folder_is_refused_before_any_work(tmp_path):
    path = tmp_path / "model"
    path.write_text("a user's file")
    with pytest.raises(DdmError, match=r"model: is a file.*move it away"), atomic_directory(path):
        pytest.fail("the block must not start")
    assert path.read_text() == "a user's file"
    assert list(tmp_path.iterdir()) == [path]


# Digests


@pytest.mark.parametrize("content", [b"", b"abc", bytes(300_000)])
def test_digests_are_sha256(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert sha256_bytes(content) == sha256_file(tmp_path / "file") == expected


def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/to_mother.txt").write_text("Dear mother")
    with (
        pytest.raises(DdmError, match="letters: holds files that ddm did not write"),
        atomic_directory(tmp_path / "letters"),
    ):
        pass
    assert (tmp_path / "letters/to_mother.txt").read_text() == "Dear mother"
    assert [entry.name for entry in tmp_path.iterdir()] == ["letters"]


def test_joined_folders_look_like_one_and_vanish(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "result.json").write_text(name)
        (tmp_path / name / OUTPUT_MARK).write_text("each folder has its own")
    with joined([tmp_path / "a", tmp_path / "b"]) as whole:
        assert sorted(str(path.relative_to(whole)) for path in whole.rglob("*.json")) == [
            "a/result.json",
            "b/result.json",
        ]
    assert not whole.exists()


def test_folders_with_the_same_file_are_not_joined(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(name)
    with pytest.raises(DdmError, match=r"another folder holds result\.json too"):
        join_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_leftovers_anywhere_below_a_folder_are_removed_but_not_those_of_the_living(tmp_path):
    dead = tmp_path / "deep" / "deeper" / ".model.x.tmp"
    dead.mkdir(parents=True)
    with atomic_directory(tmp_path / "deep" / "alive") as alive:
        remove_leftovers_below(tmp_path)
        assert alive.exists()
    assert not dead.exists()
