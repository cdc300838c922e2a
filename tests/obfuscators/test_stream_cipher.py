"""The stream ciphers are ChaCha20 on the pixels: lossless when nothing changes, and spoilt by what does."""

import numpy
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.exact_channels import EXACT_CHANNELS, real_jpeg
from ddm_core.keys import KEY_BYTES, NONCE_BYTES, keystream, nonce_stream
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.pixel_bytes import to_bytes
from ddm_core.obfuscators.stream_cipher import AddmodCipher, XorCipher
from ddm_core.seeding import torch_generator

KEY = bytes(range(32))
CIPHERS = [XorCipher(KEY), AddmodCipher(KEY)]
few = settings(max_examples=20, deadline=None)


def nonces(count, name="nonces"):
    return list(nonce_stream(0, f"tests/stream cipher/{name}", count))


def photos(*shape):
    return as_float(torch.randint(256, shape, generator=torch_generator(0, "tests/stream cipher")))


@few
@given(
    st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES),
    st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
    st.integers(0, 200),
)
def test_the_keystream_is_chacha20_under_a_key_of_its_own_for_each_method(key, nonce, length):
    subkey = HKDF(SHA256(), 32, salt=nonce, info=b"ddm-pipeline keystream v1/xor_cipher").derive(key)
    expected = Cipher(ChaCha20(subkey, bytes(16)), mode=None).encryptor().update(bytes(length))
    assert keystream(key, [nonce, nonce], length, "xor_cipher").tobytes() == 2 * expected
    if length > 16:
        assert keystream(key, [nonce], length, "addmod_cipher").tobytes() != expected


def test_a_key_of_the_wrong_length_is_refused():
    with pytest.raises(DdmError, match="has 5 bytes; a master key has 32"):
        XorCipher(b"short").encrypt(photos(1, 1, 16, 16), nonces(1))


def test_the_ciphertext_is_what_the_definition_says():
    photo = photos(1, 3, 16, 17)
    plain = to_bytes(photo).numpy().ravel().astype(int)
    for cipher, purpose in zip(CIPHERS, ("xor_cipher", "addmod_cipher"), strict=True):
        stream = keystream(KEY, nonces(1), plain.size, purpose)[0].astype(int)
        expected = plain ^ stream if purpose == "xor_cipher" else (plain + stream) % 256
        assert to_bytes(cipher.encrypt(photo, nonces(1))).numpy().ravel().tolist() == expected.tolist()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cipher", CIPHERS, ids=repr)
def test_photos_come_back_bit_by_bit_from_png(cipher, channels):
    photo = photos(2, channels, 33, 33)
    received = EXACT_CHANNELS["png"](cipher.encrypt(photo, nonces(2)))
    assert cipher.decrypt(received, nonces(2)).equal(photo)


@pytest.mark.parametrize("cipher", CIPHERS, ids=repr)
def test_ciphertext_is_uniform_whatever_the_photo(cipher):
    black = torch.zeros(20, 1, 32, 32)
    counts = numpy.bincount(
        to_bytes(cipher.encrypt(black, nonces(20, "uniform"))).flatten().numpy(), minlength=256
    )
    assert stats.chisquare(counts).pvalue > 0.01


def test_under_jpeg_both_lose_much_and_xor_more():
    ramp = torch.linspace(0.2, 0.8, 64)
    photo = (ramp[:, None] * ramp).expand(8, 1, -1, -1)
    xor, addmod = (
        psnr_db(
            cipher.decrypt(real_jpeg(cipher.encrypt(photo, nonces(8, "jpeg")), 75), nonces(8, "jpeg")), photo
        )
        .mean()
        .item()
        for cipher in CIPHERS
    )
    assert xor < addmod < 35
