"""Obfuscators of others are judged with no change to our code, and told in one line what does not fit."""

import sys

import pytest
import torch

from ddm_core.data.shards import PhotoSet
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float, encrypt_photos
from ddm_core.keys import nonce_stream
from ddm_core.obfuscators.external import load_external
from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator, RandomisedObfuscator
from ddm_core.params import RecogniseParams, parse_obfuscator
from ddm_core.results import PICTURES
from ddm_core.seeding import torch_generator
from ddm_core.stages import attack, recognise, train

NO_NONCES = ()
CODE = """
import numpy
import torch

class Negative:
    def __call__(self, images):
        return 1 - images

    @staticmethod
    def half(images, strength=0.5):
        return images * strength

negative = Negative()
constant = 3

def as_numpy(images):
    return 1 - images.numpy().astype("float64")

def in_place(images):
    return images.zero_()

def by_nonce(images, nonces):
    assert len(nonces) == len(images)
    return torch.stack([image.roll(nonce[0], -1) for image, nonce in zip(images, nonces)])

def smaller(images):
    return images[..., :8, :8]

def as_bytes(images):
    return (images * 255).byte()

def of_bytes(images):
    return images * 255

def broken(images):
    return images / 0

def text(images):
    return "picture"

def raises(images):
    raise RuntimeError("no weights\\nfound")

def wants_more(images, key):
    return images

def takes_nothing():
    return 1

class Addition:
    def __init__(self, key):
        self.key = key

    def _shift(self, image, nonce):
        return (self.key[0] + nonce[0]) % image.shape[-1]

    def encrypt(self, images, nonces):
        pairs = zip(images, nonces)
        return torch.stack([image.roll(self._shift(image, nonce), -1) for image, nonce in pairs])

    def decrypt(self, images, nonces):
        pairs = zip(images, nonces)
        return torch.stack([image.roll(-self._shift(image, nonce), -1) for image, nonce in pairs])

    def with_key(self, master_key):
        return Addition(master_key)

class Mirror:
    def encrypt(self, images):
        return images.flip(-1)

    def decrypt(self, images):
        return images.flip(-1)

class Broken(Mirror):
    def with_key(self, master_key):
        return None

rolling = Addition(bytes(32))
mirror = Mirror()
broken_keys = Broken()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module of somebody else's in the current folder."""
    name = f"somebody_elses_{tmp_path.name}".replace("[", "_").replace("]", "_").replace("-", "_")
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return name


def photos(count=3, channels=1, size=16):
    draws = torch_generator(0, "tests/external")
    return as_float(torch.randint(256, (count, channels, size, size), generator=draws))


def nonces(count=3):
    return list(nonce_stream(0, "tests/external", count))


def one_line(uri, images=None):
    with pytest.raises(DdmError) as caught:
        load_external(uri).encrypt(photos() if images is None else images, nonces())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{uri}: ")
    return str(caught.value)


# Callables


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("path", ["negative", "as_numpy"])
def test_any_callable_of_the_current_folder_is_an_obfuscator(module, path, channels):
    images = photos(3, channels, 17)
    obfuscator = load_external(f"{module}:{path}")
    hidden = obfuscator.encrypt(images, NO_NONCES)
    assert hidden.dtype == torch.float32
    assert torch.allclose(hidden, 1 - images, rtol=0, atol=1e-6)
    assert not isinstance(obfuscator, DecryptingObfuscator | RandomisedObfuscator)


def test_what_it_returns_is_rounded_to_8_bits_as_a_file_would_be(module):
    hidden = load_external(f"{module}:Negative.half").encrypt(photos(), NO_NONCES)
    assert torch.allclose(hidden * 255, (hidden * 255).round(), rtol=0, atol=1e-4)


def test_code_that_works_in_place_does_not_change_the_photos(module):
    images = photos()
    before = images.clone()
    assert load_external(f"{module}:in_place").encrypt(images, NO_NONCES).max() == 0
    assert images.equal(before)


def test_nonces_are_handed_to_code_that_asks_for_them(module):
    images, used = photos(), nonces()
    hidden = load_external(f"{module}:by_nonce").encrypt(images, used)
    expected = [image.roll(nonce[0], -1) for image, nonce in zip(images, used, strict=True)]
    assert torch.allclose(hidden, torch.stack(expected))


def test_a_function_written_in_c_needs_no_signature():
    images = photos()
    assert load_external("torch:sqrt").encrypt(images, NO_NONCES).shape == images.shape


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("smaller", "returned shape [3, 1, 8, 8]; expected [3, 1, 16, 16], the shape it was given"),
        ("as_bytes", "returned values of type uint8; expected floats in [0, 1]"),
        ("of_bytes", "returned values from 0 to 255; expected floats in [0, 1]"),
        ("broken", "returned values that are not finite; expected floats in [0, 1]"),
        ("text", "returned a str; expected a tensor or numpy array of images"),
        ("raises", "raised RuntimeError: no weights found"),
        ("wants_more", "takes images, key; expected (images) or (images, nonces)"),
        ("takes_nothing", "takes nothing; expected (images) or (images, nonces)"),
        ("constant", "is no function but of type int; name one of images"),
        ("negativ", "has no 'negativ'; did you mean 'negative'?"),
        ("Negative.halves", "has no 'Negative.halves'; did you mean 'half'?"),
    ],
)
def test_code_that_does_not_fit_is_told_what_is_wrong(module, path, words):
    assert words in one_line(f"{module}:{path}")


def test_a_module_that_cannot_be_imported_says_why(module, tmp_path):
    assert "cannot import nowhere_at_all: ModuleNotFoundError" in one_line("nowhere_at_all:function")
    (tmp_path / f"{module}_broken.py").write_text("x = = 1\n")
    assert "SyntaxError" in one_line(f"{module}_broken:function")


@pytest.mark.parametrize("uri", ["module", "module:", ":function", "a b:c", "models:/", "mod-ule:f", ""])
def test_an_address_of_another_form_is_refused_with_the_settings(uri):
    with pytest.raises(DdmError, match="write module:function or models:/name/version"):
        parse_obfuscator({"method": "external", "uri": uri}, "tests")


# Objects that offer more


def test_an_object_that_decrypts_and_takes_keys_is_a_keyed_method(module):
    images, used = photos(), nonces()
    victim, other = (load_external(f"{module}:rolling", master_key=bytes([key] * 32)) for key in (1, 2))
    assert isinstance(victim, KeyedObfuscator)
    assert victim.offers == ("nonces", "decrypt", "with_key")
    hidden = victim.encrypt(images, used)
    assert not hidden.equal(other.encrypt(images, used))
    assert hidden.equal(other.with_key(bytes([1] * 32)).encrypt(images, used))
    assert victim.decrypt(hidden, used).equal(images)


def test_an_object_without_keys_decrypts_all_the_same(module):
    mirror = load_external(f"{module}:mirror", master_key=bytes(32))
    assert mirror.offers == ("decrypt",)
    assert isinstance(mirror, DecryptingObfuscator)
    assert not isinstance(mirror, RandomisedObfuscator)
    assert mirror.decrypt(mirror.encrypt(photos(), NO_NONCES), NO_NONCES).equal(photos())


def test_code_that_reads_nonces_is_tried_with_several_encryptions_of_a_photo(module):
    people = PhotoSet(torch.zeros(2, 1, 8, 8).byte(), torch.arange(2), ("Ada", "Bo"), ("a", "b"))
    counts = {
        path: len(encrypt_photos(load_external(f"{module}:{path}"), people, 4, 0, "tests", "cpu").hidden)
        for path in ("negative", "by_nonce", "rolling")
    }
    assert counts == {"negative": 2, "by_nonce": 8, "rolling": 8}


def test_with_key_that_returns_no_obfuscator_is_told_so(module):
    uri = f"{module}:broken_keys"
    with pytest.raises(DdmError, match="with_key returned a NoneType; expected an object with encrypt"):
        load_external(uri, master_key=bytes(32))


# Stages


@pytest.mark.parametrize(
    ("path", "applying"),
    [
        ("rolling", {"wrong_key", "averaging", "known_plaintext", "nonce_reuse"}),
        ("by_nonce", {"averaging", "known_plaintext", "nonce_reuse"}),
        ("mirror", {"wrong_key"}),
        ("negative", set()),
    ],
)
def test_the_attackers_of_keyed_methods_are_tried_on_what_offers_it(  # noqa: PLR0917 - fixtures
    module, prepared, attack_params, tmp_path, path, applying
):
    params = parse_obfuscator({"method": "external", "uri": f"{module}:{path}"}, "tests")
    model, recogniser = tmp_path / path, tmp_path / "recogniser"
    train.run(params, name=path, prepared=prepared, model=model, history=tmp_path / "history")
    learning = RecogniseParams(epochs=1, batch_size=8, learning_rate=1e-3, threads=1, seed=0)
    recognise.run(learning, prepared=prepared, recogniser=recogniser)
    places = {"prepared": prepared, "model": model, "recogniser": recogniser}
    found = {
        attacker
        for attacker in ("wrong_key", "averaging", "known_plaintext", "nonce_reuse")
        if attack.run(attack_params, attacker=attacker, **places, result=tmp_path / attacker).applicable
    }
    assert found == applying


def test_external_code_is_trained_and_attacked_like_any_method(module, prepared, attack_params, tmp_path):
    params = parse_obfuscator({"method": "external", "uri": f"{module}:negative"}, "tests")
    model, recogniser = tmp_path / "negative", tmp_path / "recogniser"
    train.run(params, name="negative", prepared=prepared, model=model, history=tmp_path / "history")
    learning = RecogniseParams(epochs=1, batch_size=8, learning_rate=1e-3, threads=1, seed=0)
    recognise.run(learning, prepared=prepared, recogniser=recogniser)
    places = {"prepared": prepared, "model": model, "recogniser": recogniser}
    for attacker in ("retrained", "inversion"):
        result = attack.run(attack_params, attacker=attacker, **places, result=tmp_path / attacker)
        assert result.applicable
        assert result.n > 0
    assert (tmp_path / "inversion" / PICTURES).exists()


def test_code_that_does_not_fit_is_found_out_by_the_train_stage_which_leaves_nothing(
    module, prepared, tmp_path
):
    params = parse_obfuscator({"method": "external", "uri": f"{module}:smaller"}, "tests")
    with pytest.raises(DdmError, match="returned shape"):
        train.run(params, name="x", prepared=prepared, model=tmp_path / "x", history=tmp_path / "history")
    assert not (tmp_path / "x").exists()
