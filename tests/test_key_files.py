"""Key files keep their secrets: private, never overwritten, rotated without loss, sealed by a passphrase."""

import json
import os
import pty
import stat
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddm_core.cli import main
from ddm_core.errors import DdmError
from ddm_core.key_files import (
    describe_key_file,
    new_key_file,
    read_key_file,
    read_key_ring,
    rotate_key_file,
)
from ddm_core.key_ring import (
    KEY_ID_BYTES,
    KeyRing,
    MasterKey,
    close_ring,
    format_key_file,
    key_id,
    open_ring,
    parse_key_file,
)
from ddm_core.key_wrapping import Scrypt
from ddm_core.keys import KEY_BYTES

CHEAP = Scrypt(bytes(16), cost=2)
KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
RINGS = st.lists(st.builds(MasterKey, KEYS, st.none() | st.just("2026-01-02T03:04:05+00:00")), min_size=1,
    max_size=3, unique_by=lambda key: key.secret).map(lambda keys: KeyRing(tuple(keys)))  # fmt: skip
some = settings(max_examples=60)


def ddm(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def bare(path, content=bytes(range(KEY_BYTES))):
    """A key file of version 0: nothing but the key."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path


# The format


@some
@given(RINGS)
def test_what_is_formatted_is_read_back(ring):
    assert open_ring(parse_key_file(format_key_file(close_ring(ring)), "file"), None, "file") == ring


@some
@given(RINGS, st.binary(max_size=40))
def test_what_is_sealed_opens_with_the_same_passphrase_and_no_other(ring, passphrase):
    content = format_key_file(close_ring(ring, passphrase, CHEAP))
    assert open_ring(parse_key_file(content, "file"), passphrase, "file") == ring
    for key in ring.keys:
        assert key.secret not in content
    with pytest.raises(DdmError, match="wrong passphrase"):
        open_ring(parse_key_file(content, "file"), passphrase + b"x", "file")
    with pytest.raises(DdmError, match="is under a passphrase"):
        open_ring(parse_key_file(content, "file"), None, "file")


@some
@given(KEYS)
def test_32_bytes_are_a_bare_key_of_version_0(secret):
    ring = open_ring(parse_key_file(secret, "file"), None, "file")
    assert ring.keys == (MasterKey(secret),)


@some
@given(KEYS, KEYS)
def test_an_id_names_its_key_alone_and_does_not_contain_it(secret, other):
    assert len(key_id(secret)) == KEY_ID_BYTES
    assert (key_id(secret) == key_id(other)) == (secret == other)
    assert key_id(secret)[:4] not in secret


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["format", "version", "keys", "scrypt", "id", "key", "sealed", "salt", "cost"]),
        inner, max_size=4), max_leaves=12)  # fmt: skip


@settings(max_examples=300)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(["keys", "scrypt"]), JSON).map(
        lambda some: json.dumps({"format": "ddm-keys", "version": 1, **some}).encode()))  # fmt: skip
def test_any_bytes_are_a_key_file_or_one_clear_line(content):
    try:
        open_ring(parse_key_file(content, "file"), b"words", "file")
    except DdmError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("file")


@settings(max_examples=200)
@given(st.data(), RINGS, st.booleans())
def test_a_changed_byte_is_noticed_or_harmless_and_errors_show_no_secret(data, ring, sealed):
    content = bytearray(format_key_file(close_ring(ring, *((b"words", CHEAP) if sealed else ()))))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    try:
        opened = open_ring(parse_key_file(bytes(content), "file"), b"words", "file")
    except DdmError as error:
        for entry in close_ring(ring).keys:
            assert entry.key not in str(error)
    else:
        assert [key.secret for key in opened.keys] == [key.secret for key in ring.keys]


@pytest.mark.parametrize("scrypt", [
    {"cost": 1 << 21}, {"cost": 3}, {"cost": 0}, {"block_size": 99}, {"parallelism": 0}, {"salt": "AA=="},
])  # fmt: skip
def test_scrypt_settings_that_would_eat_the_reader_are_refused(scrypt):
    plain = json.loads(format_key_file(close_ring(KeyRing((MasterKey(bytes(32)),)), b"words", CHEAP)))
    plain["scrypt"] |= scrypt
    with pytest.raises(DdmError, match="file: scrypt: scrypt's"):
        parse_key_file(json.dumps(plain).encode(), "file")


def test_a_file_of_a_later_version_says_so():
    with pytest.raises(DdmError, match="key file version 2, this code reads 1"):
        parse_key_file(b'{"format": "ddm-keys", "version": 2}', "file")


# On disk


def test_rotation_keeps_the_old_keys_and_makes_a_new_current_one(tmp_path):
    path = tmp_path / "my.key"
    first = new_key_file(path)
    ring = rotate_key_file(path)
    assert ring.keys[0] == first
    assert ring.current.secret == read_key_file(path) != first.secret
    assert ring.find(first.id) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rotation_of_a_bare_key_keeps_it(tmp_path):
    path = bare(tmp_path / "old.key")
    ring = rotate_key_file(path)
    assert [key.secret for key in ring.keys][:1] == [bytes(range(KEY_BYTES))]
    assert read_key_ring(path) == ring


def test_rotations_at_the_same_time_all_count(tmp_path):
    path = tmp_path / "my.key"
    new_key_file(path)
    threads = [threading.Thread(target=rotate_key_file, args=(path,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_key_ring(path).keys) == 6


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_rotation_refuses_a_file_open_to_others_and_leaves_it(tmp_path, mode):
    path = bare(tmp_path / "my.key")
    path.chmod(mode)
    with pytest.raises(DdmError, match="run chmod 600"):
        rotate_key_file(path)
    assert path.read_bytes() == bytes(range(KEY_BYTES))


def test_a_pipe_in_the_place_of_a_key_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(DdmError, match="no regular file"):
        describe_key_file(tmp_path / "pipe")


def test_a_missing_key_is_named_with_those_that_are_there(tmp_path):
    key = new_key_file(tmp_path / "my.key")
    with pytest.raises(DdmError, match=f"needs key 0000000000000000, the key file holds {key.id.hex()}"):
        read_key_ring(tmp_path / "my.key").find(bytes(8))


# The command line


def test_show_prints_ids_and_no_secret(tmp_path, capsys):
    path = tmp_path / "my.key"
    assert ddm(capsys, "key", "new", path)[0] == 0
    assert ddm(capsys, "key", "rotate", path)[0] == 0
    status, printed, _ = ddm(capsys, "key", "show", path)
    assert status == 0
    content = json.loads(path.read_text())
    for entry in content["keys"]:
        assert entry["id"] in printed
        assert entry["key"] not in printed
    assert printed.count("decrypts") == 2
    assert printed.count("encrypts and") == 1


def test_a_passphrase_comes_from_a_private_file_or_the_environment(tmp_path, capsys, monkeypatch):
    path, words = tmp_path / "my.key", tmp_path / "words"
    words.write_text("correct horse battery\n")
    words.chmod(0o644)
    status, _, errors = ddm(capsys, "key", "new", path, "--passphrase-file", words)
    assert (status, path.exists()) == (1, False)
    assert "chmod 600" in errors
    words.chmod(0o600)
    assert ddm(capsys, "key", "new", path, "--passphrase-file", words)[0] == 0
    assert describe_key_file(path).wrapped
    monkeypatch.setenv("WORDS", "correct horse battery")
    assert ddm(capsys, "key", "rotate", path, "--passphrase-env", "WORDS")[0] == 0
    monkeypatch.setenv("WORDS", "wrong horse battery")
    status, _, errors = ddm(capsys, "key", "rotate", path, "--passphrase-env", "WORDS")
    assert status == 1
    assert "wrong passphrase" in errors
    assert "horse" not in errors
    assert len(describe_key_file(path).keys) == 2


def test_a_short_passphrase_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORDS", "secret")
    status, _, errors = ddm(capsys, "key", "new", tmp_path / "my.key", "--passphrase-env", "WORDS")
    assert status == 1
    assert "guessed at once" in errors
    assert not (tmp_path / "my.key").exists()


def test_a_passphrase_is_asked_for_at_the_terminal_without_an_echo(tmp_path):
    leader, follower = pty.openpty()
    program = [sys.executable, "-m", "ddm_core.cli", "key", "new", str(tmp_path / "my.key"), "--passphrase"]
    with subprocess.Popen(program, stdin=follower, stdout=follower, stderr=follower, close_fds=True,
                          start_new_session=True) as asked:  # fmt: skip
        os.close(follower)
        seen = b""
        for _ in range(2):
            while not seen.endswith(b": "):
                seen += os.read(leader, 1)
            os.write(leader, b"correct horse battery\n")
            seen += os.read(leader, 1)
        while chunk := read_terminal(leader):
            seen += chunk
        assert asked.wait(60) == 0
    os.close(leader)
    assert b"a new master key" in seen
    assert b"horse" not in seen
    assert open_ring(describe_key_file(tmp_path / "my.key"), b"correct horse battery", "file").keys


def read_terminal(leader):
    try:
        return os.read(leader, 1000)
    except OSError:  # the other side has closed
        return b""


def test_without_a_terminal_a_sealed_key_asks_for_a_file_or_variable(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORDS", "correct horse battery")
    ddm(capsys, "key", "new", tmp_path / "my.key", "--passphrase-env", "WORDS")
    program = [sys.executable, "-m", "ddm_core.cli", "key", "rotate", str(tmp_path / "my.key")]
    asked = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "no terminal" in asked.stderr
