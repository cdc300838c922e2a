"""A model folder is JSON and safetensors, comes back as it was, and is refused in one line when damaged."""

import dataclasses
import json

import pytest
import torch

from ddm_core.checkpoints import CONFIGURATION, WEIGHTS, load_weights, save_weights, weights_digest
from ddm_core.errors import DdmError
from ddm_core.keys import nonce_stream
from ddm_core.obfuscators.classical import P3, Blur, Identity, Mosaic
from ddm_core.obfuscators.store import (
    Description,
    TrainingData,
    build_networks,
    describe,
    load_obfuscator,
    save_obfuscator,
)
from ddm_core.params import parse_obfuscator
from ddm_core.seeding import torch_generator

KEY = bytes(32)


@pytest.fixture
def save(tmp_path):
    def save(params, channels=1):
        description = Description(params, channels, 16)
        learned = params.method in ("ddm", "keyed_ddm")
        torch.manual_seed(0)
        networks = build_networks(description) if learned else None
        save_obfuscator(tmp_path, description, networks)
        return tmp_path, description, networks

    return save


@pytest.mark.parametrize(
    ("settings", "obfuscator"),
    [
        ({"method": "none"}, Identity()),
        ({"method": "mosaic", "block": 8}, Mosaic(8)),
        ({"method": "blur", "kernel": 31}, Blur(31)),
        ({"method": "p3", "threshold": 10, "quality": 90}, P3(10, 90)),
    ],
)
def test_a_classical_obfuscator_comes_back_from_its_settings(save, settings, obfuscator):
    folder, description, _ = save(parse_obfuscator(settings, "test"))
    assert load_obfuscator(folder) == obfuscator
    assert describe(folder) == description
    assert (description.keyed, description.decrypts) == (False, False)
    assert [entry.name for entry in folder.iterdir()] == [CONFIGURATION]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", ["ddm", "keyed_ddm"])
def test_a_learned_obfuscator_comes_back_bit_by_bit(save, request, method, channels):
    folder, description, networks = save(request.getfixturevalue(f"{method}_params"), channels)
    assert describe(folder) == description
    assert (description.keyed, description.decrypts) == (method == "keyed_ddm", True)
    loaded = load_obfuscator(folder, master_key=KEY)
    images = torch.rand(2, channels, 16, 16, generator=torch_generator(0, "tests/store"))
    nonces = list(nonce_stream(0, "tests/store", 2))
    hidden = loaded.encrypt(images, nonces)
    assert hidden.shape == images.shape
    assert loaded.decrypt(hidden, nonces).shape == images.shape
    for name, weight in networks.state_dict().items():
        assert weight.equal(loaded.networks.state_dict()[name])
    assert not any(weight.requires_grad for weight in loaded.networks.parameters())


def test_the_same_weights_give_the_same_bytes_and_other_weights_another_digest(save, keyed_ddm_params):
    folder, _, networks = save(keyed_ddm_params)
    before = (folder / WEIGHTS).read_bytes()
    digest = weights_digest(folder)
    save_weights(networks.to(memory_format=torch.channels_last), folder / WEIGHTS)
    assert (folder / WEIGHTS).read_bytes() == before
    with torch.no_grad():
        next(networks.parameters())[0] += 1
    save_weights(networks, folder / WEIGHTS)
    assert weights_digest(folder) != digest


def test_a_model_without_weights_is_known_by_its_settings(save):
    folder, _, _ = save(parse_obfuscator({"method": "mosaic", "block": 8}, "test"))
    digest = weights_digest(folder)
    save(parse_obfuscator({"method": "mosaic", "block": 4}, "test"))
    assert weights_digest(folder) != digest


def test_a_model_says_what_it_was_trained_on_and_one_that_does_not_is_read_too(save, tmp_path, ddm_params):
    folder, description, networks = save(ddm_params)
    assert describe(folder).trained_on is None
    photos = TrainingData("ab" * 32, source="orl", credit="AT&T", licence="none")
    save_obfuscator(folder, dataclasses.replace(description, trained_on=photos), networks)
    assert describe(folder).trained_on == photos
    configuration = json.loads((folder / CONFIGURATION).read_text())
    (folder / CONFIGURATION).write_text(json.dumps(configuration | {"trained_on": {"source": "orl"}}))
    assert "trained_on: missing key 'dataset_digest'" in one_line(folder)


def test_a_keyed_model_is_not_loaded_without_a_key(save, keyed_ddm_params):
    folder, _, _ = save(keyed_ddm_params)
    with pytest.raises(DdmError, match="needs a master key; make one: ddm key new FILE"):
        load_obfuscator(folder)


def one_line(folder):
    with pytest.raises(DdmError) as caught:
        load_obfuscator(folder, master_key=KEY)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights_are_called_damaged(save, ddm_params, keep):
    folder, _, _ = save(ddm_params)
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    assert "weights.safetensors: damaged weights" in one_line(folder)


def test_missing_weights_ask_for_training(save, ddm_params):
    folder, _, _ = save(ddm_params)
    (folder / WEIGHTS).unlink()
    assert "weights.safetensors: not found; train the model first" in one_line(folder)


def test_weights_of_another_architecture_are_refused(save, ddm_params):
    folder, description, _ = save(ddm_params)
    wider = dataclasses.replace(description, params=dataclasses.replace(ddm_params, width=8))
    load_weights(build_networks(description), folder / WEIGHTS)
    with pytest.raises(DdmError, match="weights do not fit the configuration beside them"):
        load_weights(build_networks(wider), folder / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.update(format_version=9), "format version 9, this code reads 1"),
        (lambda c: c.pop("format_version"), "format version None"),
        (lambda c: c.pop("channels"), "missing key 'channels'"),
        (lambda c: c.update(image_size="large"), "damaged"),
        (lambda c: c["params"].update(method="dmm"), "unknown method 'dmm'; did you mean 'ddm'"),
        (lambda c: c["params"].update(widht=3), "unknown key 'widht'; did you mean 'width'"),
    ],
)
def test_a_damaged_description_says_what_is_wrong(save, ddm_params, change, reason):
    folder, _, _ = save(ddm_params)
    content = json.loads((folder / CONFIGURATION).read_text())
    change(content)
    (folder / CONFIGURATION).write_text(json.dumps(content))
    assert reason in one_line(folder)


FORMER_KEYED = {
    "method": "keyed_ddm",
    "quaternions": 3,
    "width": 32,
    "blocks": 3,
    "steps": 3600,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "warmup_steps": 50,
    "discrepancy_weight": 0.05,
    "reconstruction_weight": 10.0,
    "jpeg_probability": 0.4,
    "jpeg_quality_min": 70,
    "jpeg_quality_max": 97,
    "resize_probability": 0.8,
    "resize_scale_min": 0.5,
    "noise_deviation": 0.004,
    "precision": "bf16",
    "threads": 2,
    "split": "image",
    "seed": 0,
}


def test_a_keyed_model_of_the_former_code_is_refused_as_that(tmp_path):
    """Its weights would mean something else to this code."""
    content = {"format_version": 1, "channels": 1, "image_size": 64, "params": FORMER_KEYED}
    (tmp_path / CONFIGURATION).write_text(json.dumps(content))
    assert one_line(tmp_path) == (
        f"{tmp_path / CONFIGURATION}: format version 1, this code reads 2; train it again; photos that it"
        " encrypted need it and the code that made it"
    )


def test_a_missing_description_asks_for_the_stage(tmp_path):
    assert "obfuscator.json: not found; run the stage that writes it" in one_line(tmp_path)


def test_a_description_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / CONFIGURATION).write_text("[1]")
    assert "format version None" in one_line(tmp_path)


def test_classical_methods_have_no_networks():
    params = parse_obfuscator({"method": "none"}, "test")
    with pytest.raises(DdmError, match="method none has no networks"):
        build_networks(Description(params, 1, 16))
