"""Obfuscators of others are judged with no change to our code, and told in one line what does not fit."""

import sys

import pytest
import torch

from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.keys import nonce_stream
from ddm_core.obfuscators.external import load_external
from ddm_core.obfuscators.protocol import DecryptingObfuscator, RandomisedObfuscator
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


# Stages


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
