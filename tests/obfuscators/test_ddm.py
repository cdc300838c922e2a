"""The paper's DDM: keyless, so its decryption is as public as its code."""

import pytest
import torch

from ddm_core.obfuscators.ddm import Ddm, DdmNetworks
from ddm_core.seeding import torch_generator


@pytest.fixture(params=[1, 3], ids=["grey", "RGB"])
def case(request, ddm_params):
    torch.manual_seed(0)
    images = torch.rand(2, request.param, 16, 24, generator=torch_generator(0, "tests/ddm"))
    return Ddm(DdmNetworks(request.param, ddm_params.width).eval()), images


def test_pictures_keep_their_shape_and_the_hidden_ones_are_8_bit(case):
    ddm, images = case
    hidden = ddm.encrypt(images, ())
    restored = ddm.decrypt(hidden, ())
    assert hidden.shape == restored.shape == images.shape
    assert hidden.equal((hidden * 255).round() / 255)
    assert restored.min() >= 0
    assert restored.max() <= 1


def test_nonces_change_nothing(case):
    ddm, images = case
    assert ddm.encrypt(images, [b"a" * 12] * 2).equal(ddm.encrypt(images, [b"b" * 12] * 2))


def test_both_networks_learn_from_the_reconstruction_through_the_rounding(case):
    ddm, images = case
    hidden, restored = ddm.networks.round_trip(images, torch_generator(0, "tests/ddm"))
    assert hidden.equal((hidden * 255).round() / 255)
    (restored - images).abs().mean().backward()
    for network in (ddm.networks.encryption, ddm.networks.decryption):
        assert network.enter.weight.grad.isfinite().all()
        assert network.enter.weight.grad.abs().sum() > 0
