"""What every method without training has in common, on grey and colour photos of sizes that fit no grid."""

import pytest
import torch

from ddm_core.data.shards import PhotoSet
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float, encrypt_photos
from ddm_core.keys import nonce_stream
from ddm_core.obfuscator_params import METHODS, parse_obfuscator
from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator, RandomisedObfuscator
from ddm_core.obfuscators.store import Description, load_obfuscator, save_obfuscator
from ddm_core.seeding import torch_generator

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SIZES = (16, 17, 50, 66)
SETTINGS = {
    "none": {},
    "mosaic": {"block": 8},
    "blur": {"kernel": 15},
    "p3": {"threshold": 10, "quality": 90},
    "pixel_permutation": {"seed": 1},
    "block_permutation": {"block": 8, "seed": 1},
    "learnable_encryption": {"block": 4, "seed": 1},
    "block_scrambling": {"block": 8},
    "xor_cipher": {},
    "addmod_cipher": {},
    "dp_pix": {"block": 4, "neighbourhood": 4, "epsilon": 1.0},
    "dp_blur": {"block": 4, "neighbourhood": 4, "epsilon": 1.0, "kernel": 5},
}
KEYED = ("block_scrambling", "xor_cipher", "addmod_cipher", "dp_pix", "dp_blur")
DECRYPTING = ("block_scrambling", "xor_cipher", "addmod_cipher")


def photos(channels, size, count=3):
    draws = torch_generator(0, f"tests/every method/{channels}/{size}")
    return as_float(torch.randint(256, (count, channels, size, size), generator=draws))


def nonces(name, count=3):
    return list(nonce_stream(0, f"tests/every method/{name}", count))


@pytest.fixture
def load(tmp_path):
    def load(method, channels=1, size=16, key=KEY):
        params = parse_obfuscator({"method": method, **SETTINGS[method]}, "tests")
        save_obfuscator(tmp_path, Description(params, channels, size))
        return load_obfuscator(tmp_path, master_key=key)

    return load


def test_the_table_holds_every_method_that_needs_nothing_but_settings():
    assert set(METHODS) - set(SETTINGS) == {"ddm", "keyed_ddm", "photo_ddm", "k_same", "external"}


@pytest.mark.parametrize("method", SETTINGS)
def test_settings_say_of_a_method_what_its_code_does(load, method):
    obfuscator = load(method)
    params = METHODS[method]
    assert params.keyed == isinstance(obfuscator, RandomisedObfuscator) == (method in KEYED)
    assert params.decrypts == isinstance(obfuscator, DecryptingObfuscator) == (method in DECRYPTING)
    assert isinstance(obfuscator, KeyedObfuscator) == (method in DECRYPTING)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", SETTINGS)
def test_photos_of_any_size_keep_it_become_8_bits_and_come_out_the_same_again(load, method, size, channels):
    obfuscator, images = load(method, channels, size), photos(channels, size)
    before = images.clone()
    hidden = obfuscator.encrypt(images, nonces("any"))
    assert images.equal(before)
    assert hidden.shape == images.shape
    assert torch.allclose(hidden * 255, (hidden * 255).round(), rtol=0, atol=1e-4)
    assert 0 <= hidden.min() <= hidden.max() <= 1
    assert hidden.equal(load(method, channels, size).encrypt(images, nonces("any")))
    if method != "none":
        assert not hidden.equal(images)


@pytest.mark.parametrize("method", SETTINGS)
def test_each_photo_is_hidden_by_itself(load, method):
    images = photos(3, 17)
    together = load(method, 3, 17).encrypt(images, nonces("alone"))
    alone = load(method, 3, 17).encrypt(images[2:], nonces("alone")[2:])
    assert torch.allclose(together[2:], alone, rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize("method", KEYED)
def test_another_nonce_or_key_gives_another_picture_of_the_same_photo(load, method):
    same = photos(1, 32, 1).expand(2, -1, -1, -1)
    obfuscator = load(method, 1, 32)
    first, second = obfuscator.encrypt(same, nonces("fresh", 2))
    assert not first.equal(second)
    other = obfuscator.with_key(OTHER_KEY)
    assert type(other) is type(obfuscator)
    assert not other.encrypt(same, nonces("fresh", 2))[0].equal(first)
    assert "kkkk" not in repr(obfuscator)


@pytest.mark.parametrize("method", KEYED)
def test_several_photos_never_share_a_nonce_by_oversight(load, method):
    with pytest.raises(DdmError, match="3 images came with 1 nonces; draw one for each image"):
        load(method).encrypt(photos(1, 16), nonces("few", 1))


@pytest.mark.parametrize("method", KEYED)
def test_a_method_with_secret_randomness_is_not_loaded_without_a_key(load, method):
    with pytest.raises(DdmError, match="needs a master key"):
        load(method, key=None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", DECRYPTING)
def test_what_decrypts_gives_the_photo_back_byte_by_byte_and_to_a_wrong_key_nothing(
    load, method, size, channels
):
    obfuscator, images = load(method, channels, size), photos(channels, size)
    hidden = obfuscator.encrypt(images, nonces("round trip"))
    assert obfuscator.decrypt(hidden, nonces("round trip")).equal(images)
    wrong = obfuscator.with_key(OTHER_KEY).decrypt(hidden, nonces("round trip"))
    assert ((wrong - images).abs() > 0.5 / 255).float().mean() > 0.9


@pytest.mark.parametrize(("method", "encryptions"), [("dp_pix", 4), ("xor_cipher", 4), ("mosaic", 1)])
def test_measurements_repeat_what_is_random_and_nothing_else(load, method, encryptions):
    images = (photos(1, 16) * 255).byte()
    world = PhotoSet(images, torch.arange(3), ("a", "b", "c"), ("1", "2", "3"))
    encrypted = encrypt_photos(load(method), world, 4, 0, "tests", "cpu")
    assert len(encrypted.hidden) == len(encrypted.labels) == 3 * encryptions
