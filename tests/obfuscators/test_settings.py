"""Settings of the methods are strict, and say of each whether it needs a key and decrypts."""

import dataclasses

import pytest

from ddm_core.errors import DdmError
from ddm_core.obfuscator_params import METHODS, parse_obfuscator


@pytest.mark.parametrize(
    ("settings_", "reason"),
    [
        ({"method": "pixel_permutation"}, "missing key 'seed'"),
        ({"method": "block_permutation", "block": 0, "seed": 1}, "block is 0; it must be above 0"),
        ({"method": "learnable_encryption", "block": -4, "seed": 1}, "block is -4; it must be above 0"),
        ({"method": "block_scrambling", "block": 0}, "block is 0; it must be above 0"),
        ({"method": "xor_cipher", "seed": 1}, "unknown key 'seed'"),
        (
            {"method": "dp_pix", "block": 8, "neighbourhood": 16, "epsilon": 0.0},
            "epsilon is 0.0; it must be above 0",
        ),
        (
            {"method": "dp_blur", "block": 4, "neighbourhood": 0, "epsilon": 1.0, "kernel": 15},
            "neighbourhood is 0; it must be above 0",
        ),
        (
            {"method": "dp_blur", "block": 4, "neighbourhood": 16, "epsilon": 1.0, "kernel": 14},
            "kernel is 14; odd, from 3",
        ),
        ({"method": "k_same", "k": 1}, "k is 1; it must be at least 2"),
        ({"method": "external", "uri": "just_a_name"}, "write module:function or models:/name/version"),
    ],
)
def test_settings_of_a_method_that_make_no_sense_are_refused(settings_, reason):
    with pytest.raises(DdmError) as caught:
        parse_obfuscator(settings_, "train: x")
    assert str(caught.value).startswith("train: x: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_whether_it_needs_a_key_and_decrypts_and_stores_neither_as_a_setting(method):
    params = METHODS[method]
    assert isinstance(params.keyed, bool)
    assert isinstance(params.decrypts, bool)
    assert {"keyed", "decrypts"}.isdisjoint(field.name for field in dataclasses.fields(params))
