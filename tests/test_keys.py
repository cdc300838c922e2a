"""The keystream is reproducible for its key and nonce alone, Haar-uniform, and keys are kept with care."""

import hmac
import math
import os
from contextlib import contextmanager

import numpy
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddm_core.errors import DdmError
from ddm_core.key_files import read_key_file, write_key_file
from ddm_core.keys import (
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    Grid,
    check_nonce_tag,
    fresh_nonces,
    generate_key,
    haar_rotations,
    haar_rows,
    nonce_stream,
    nonce_tag,
)

KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
KEY = bytes(range(KEY_BYTES))
NONCE = bytes(range(NONCE_BYTES))

few = settings(max_examples=30)


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# Keystream


@few
@given(KEYS, NONCES)
def test_same_key_and_nonce_give_the_same_unit_octonions_and_quaternions(key, nonce):
    first, second = (haar_rotations(key, [nonce], Grid(1, 4, 3, 5)) for _ in range(2))
    assert first.shape == (1, 4, 4, 3, 5)
    assert first.equal(second)
    assert (first[:, :2].double().flatten(1, 2).norm(dim=1) - 1).abs().max() < 2e-7
    assert (first[:, 2:].double().norm(dim=2) - 1).abs().max() < 2e-7


@few
@given(KEYS, KEYS, NONCES, NONCES)
def test_another_key_or_nonce_gives_another_keystream(key, other_key, nonce, other_nonce):
    keystream = haar_rotations(key, [nonce], Grid(0, 1, 2, 2))
    assert keystream.equal(haar_rotations(other_key, [nonce], Grid(0, 1, 2, 2))) == (key == other_key)
    assert keystream.equal(haar_rotations(key, [other_nonce], Grid(0, 1, 2, 2))) == (nonce == other_nonce)


@few
@given(KEYS, st.lists(NONCES, min_size=1, max_size=4, unique=True))
def test_a_keystream_does_not_depend_on_the_other_photos_of_the_batch(key, nonces):
    together = haar_rotations(key, nonces, Grid(0, 1, 2, 2))
    for row, nonce in zip(together, nonces, strict=True):
        assert row.equal(haar_rotations(key, [nonce], Grid(0, 1, 2, 2))[0])


def test_the_keystream_is_hkdf_then_chacha20_then_box_muller():
    """Written out by RFC 5869 and by hand: photos encrypted yesterday must decrypt tomorrow."""
    extracted = hmac.digest(NONCE, KEY, "sha256")
    subkey = hmac.digest(extracted, b"ddm-pipeline keystream v1" + b"\x01", "sha256")
    stream = Cipher(ChaCha20(subkey, bytes(16)), mode=None).encryptor().update(bytes(16))
    a, b, c, d = ((int.from_bytes(stream[i : i + 4], "little") + 0.5) / 2**32 for i in (0, 4, 8, 12))
    gaussians = [
        math.sqrt(-2 * math.log(u)) * turn(2 * math.pi * v)
        for u, v in ((a, b), (c, d))
        for turn in (math.cos, math.sin)
    ]
    expected = numpy.array(gaussians) / math.hypot(*gaussians)
    # one cell: the four Gaussians of one quaternion are neighbours in the stream
    assert haar_rotations(KEY, [NONCE], Grid(0, 1, 1, 1)).flatten().numpy() == pytest.approx(
        expected, abs=1e-7
    )


def test_the_stream_runs_plane_by_plane_and_pairs_of_quaternions_share_a_norm():
    """Three quaternions, the first two an octonion, on one row of three cells: 36 Gaussians."""
    extracted = hmac.digest(NONCE, KEY, "sha256")
    subkey = hmac.digest(extracted, b"ddm-pipeline keystream v1" + b"\x01", "sha256")
    stream = Cipher(ChaCha20(subkey, bytes(16)), mode=None).encryptor().update(bytes(4 * 36))
    uniform = [(int.from_bytes(stream[i : i + 4], "little") + 0.5) / 2**32 for i in range(0, 4 * 36, 4)]
    gaussians = numpy.array(
        [
            math.sqrt(-2 * math.log(u)) * turn(2 * math.pi * v)
            for u, v in zip(uniform[0::2], uniform[1::2], strict=True)
            for turn in (math.cos, math.sin)
        ]
    ).reshape(12, 3)
    octonion, quaternion = (part / numpy.linalg.norm(part, axis=0) for part in numpy.split(gaussians, [8]))
    drawn = haar_rotations(KEY, [NONCE], Grid(1, 3, 1, 3)).reshape(12, 3).numpy()
    assert drawn == pytest.approx(numpy.concatenate([octonion, quaternion]), abs=1e-7)


def test_the_keystream_is_uniform_on_the_sphere():
    nonces = list(nonce_stream(0, "tests/haar", 200))
    samples = haar_rotations(KEY, nonces, Grid(0, 2, 5, 5)).movedim(2, -1).reshape(-1, 4).double().numpy()
    # a component t of a uniform point on S3 has density 2/pi sqrt(1 - t^2)
    marginal = stats.beta(1.5, 1.5, loc=-1, scale=2)
    for component in samples.T:
        assert stats.kstest(component, marginal.cdf).pvalue > 0.01
    assert samples.T @ samples / len(samples) == pytest.approx(numpy.eye(4) / 4, abs=0.012)


def test_octonions_of_the_keystream_are_uniform_on_their_sphere():
    nonces = list(nonce_stream(0, "tests/haar", 200))
    rotations = haar_rotations(KEY, nonces, Grid(1, 2, 5, 5))
    samples = rotations.flatten(1, 2).movedim(1, -1).reshape(-1, 8).double().numpy()
    # a component t of a uniform point on S7 has a density in proportion to (1 - t^2)^(5/2)
    marginal = stats.beta(3.5, 3.5, loc=-1, scale=2)
    for component in samples.T:
        assert stats.kstest(component, marginal.cdf).pvalue > 0.01
    assert samples.T @ samples / len(samples) == pytest.approx(numpy.eye(8) / 8, abs=0.012)


@pytest.mark.parametrize(("octonions", "size"), [(0, 4), (2, 8)], ids=["quaternions", "octonions"])
def test_neighbouring_nonces_groups_and_cells_give_unrelated_rotations(octonions, size):
    nonces = list(nonce_stream(0, "tests/neighbours", 400))
    rotations = haar_rotations(KEY, nonces, Grid(octonions, size // 2, 4, 4)).double()
    samples = rotations.reshape(len(nonces), 2, size, 4, 4)
    marginal = stats.beta((size - 1) / 2, (size - 1) / 2, loc=-1, scale=2)
    # the inner product of two independent uniform points has the same distribution as a component
    for products in (
        samples[0::2] * samples[1::2],
        samples[:, :1] * samples[:, 1:],
        samples[..., 0::2, :] * samples[..., 1::2, :],
        samples[..., 0::2] * samples[..., 1::2],
    ):
        assert stats.kstest(products.sum(2).flatten().numpy(), marginal.cdf).pvalue > 0.01


def test_an_octonion_tells_nothing_of_the_quaternion_beside_it():
    nonces = list(nonce_stream(0, "tests/beside", 400))
    rotations = haar_rotations(KEY, nonces, Grid(1, 3, 4, 4)).double()
    marginal = stats.beta(1.5, 1.5, loc=-1, scale=2)
    for half in (rotations[:, 0], rotations[:, 1]):
        products = (half * rotations[:, 2]).sum(1) / half.norm(dim=1)
        assert stats.kstest(products.flatten().numpy(), marginal.cdf).pvalue > 0.01


@pytest.mark.parametrize("length", [0, NONCE_BYTES - 1, NONCE_BYTES + 1, 16])
def test_a_nonce_of_the_wrong_length_is_refused(length):
    with pytest.raises(DdmError, match=f"nonce has {length} bytes; it must have 12"):
        haar_rotations(KEY, [bytes(length)], Grid(0, 1, 1, 1))


@pytest.mark.parametrize("length", [0, 16, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_of_the_wrong_length_is_refused(length):
    with pytest.raises(DdmError, match=f"master key has {length} bytes"):
        haar_rotations(bytes(length), [NONCE], Grid(0, 1, 1, 1))


# Nonces


def test_fresh_keys_and_nonces_have_their_lengths_and_never_repeat():
    nonces = fresh_nonces(1000)
    assert len(set(nonces)) == 1000
    assert {len(nonce) for nonce in nonces} == {NONCE_BYTES}
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {KEY_BYTES}


@few
@given(st.integers(0, 2**31), st.sets(st.text(max_size=20), min_size=2, max_size=5))
def test_nonce_streams_of_different_names_share_nothing(seed, names):
    nonces = [nonce for name in names for nonce in nonce_stream(seed, name, 50)]
    assert len(set(nonces)) == len(nonces)
    assert {len(nonce) for nonce in nonces} == {NONCE_BYTES}


@few
@given(st.integers(0, 2**31), st.text(max_size=20), st.integers(0, 100), st.integers(0, 100))
def test_a_nonce_stream_starts_alike_whatever_its_length(seed, name, short, long):
    short, long = sorted((short, long))
    assert list(nonce_stream(seed, name, short)) == list(nonce_stream(seed, name, long))[:short]


# Tags


@few
@given(KEYS, NONCES)
def test_the_right_key_passes_the_tag_check(key, nonce):
    tag = nonce_tag(key, nonce)
    assert len(tag) == TAG_BYTES
    check_nonce_tag(key, nonce, tag)


@few
@given(KEYS, NONCES, st.integers(0, 8 * KEY_BYTES - 1), st.integers(0, 8 * NONCE_BYTES - 1))
def test_one_flipped_bit_of_key_nonce_or_tag_is_noticed(key, nonce, key_bit, nonce_bit):
    tag = nonce_tag(key, nonce)
    for wrong in (
        (flip(key, key_bit), nonce, tag),
        (key, flip(nonce, nonce_bit), tag),
        (key, nonce, flip(tag, key_bit % (8 * TAG_BYTES))),
        (key, nonce, tag[:-1]),
        (key, nonce, b""),
    ):
        with pytest.raises(DdmError, match="wrong key, or a damaged nonce"):
            check_nonce_tag(*wrong)


def flip(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# Key files


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_key_file_is_its_owners_alone_whatever_the_umask(tmp_path, mask):
    path = tmp_path / "new folder" / "master.key"
    with umask(mask):
        write_key_file(path, KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path) == KEY


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "master.key"
    write_key_file(path, KEY)
    with pytest.raises(DdmError, match="exists and is never overwritten"):
        write_key_file(path, generate_key())
    assert read_key_file(path) == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_key_file_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / "master.key"
    write_key_file(path, KEY)
    path.chmod(mode)
    with pytest.raises(DdmError, match="run chmod 600"):
        read_key_file(path)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_the_wrong_length_is_neither_written_nor_read(tmp_path, length):
    path = tmp_path / "master.key"
    with pytest.raises(DdmError, match=f"has {length} bytes; a master key has 32"):
        write_key_file(path, bytes(length))
    assert not path.exists()
    path.write_bytes(bytes(length))
    path.chmod(0o600)
    with pytest.raises(DdmError, match=f"master.key has {length} bytes"):
        read_key_file(path)


def test_a_missing_key_file_says_how_to_make_one(tmp_path):
    with pytest.raises(DdmError, match=r"cannot read the key .*ddm key new FILE"):
        read_key_file(tmp_path / "none.key")


# Rows of a large grid


@few
@given(KEYS, NONCES, st.tuples(st.integers(2, 3), st.integers(1, 9), st.integers(1, 9)), st.data())
def test_rows_are_those_of_the_whole_grid_wherever_they_start(key, nonce, shape, data):
    grid = Grid(data.draw(st.integers(0, 1)), *shape)
    first = data.draw(st.integers(0, grid.rows - 1))
    last = data.draw(st.integers(first + 1, grid.rows))
    whole = haar_rotations(key, [nonce], grid)[0]
    assert haar_rows(key, nonce, grid, range(first, last)).equal(whole[:, :, first:last])


def test_rows_far_into_a_huge_grid_cost_no_more_than_themselves():
    """The grid's stream has 30 GB; in time and memory only what is asked for counts."""
    rows = haar_rows(KEY, NONCE, Grid(0, 4, 20_000, 20_000), range(19_999, 20_000))
    assert rows.shape == (4, 4, 1, 20_000)
    assert (rows.double().norm(dim=1) - 1).abs().max() < 2e-7
