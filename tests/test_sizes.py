"""Photos of any size from 16 pixels: hidden, restored to exactly their size, attacked and measured."""

import dataclasses

import pytest
import torch
from started_networks import started_networks
from torch.nn import functional as F

from ddm_core.channel import round_to_8_bits
from ddm_core.errors import DdmError
from ddm_core.keys import nonce_stream
from ddm_core.metrics import psnr_db
from ddm_core.networks import (
    Discriminator,
    InversionNetwork,
    RecognitionNetwork,
    UNet,
    crop_like,
    pad_to_multiple,
)
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.protocol import DecryptingObfuscator
from ddm_core.obfuscators.store import Description, build_networks, load_obfuscator, save_obfuscator
from ddm_core.params import RecogniseParams, UtilityParams, parse_obfuscator
from ddm_core.results import ATTACKERS, CHANNELS, CONTROLS, PICTURES
from ddm_core.seeding import torch_generator
from ddm_core.stages import attack, prepare, recognise, train, utility

KEY = b"k" * 32
SIZES = (16, 17, 50, 66, 112, 224)
METHODS = ("none", "mosaic", "blur", "p3", "ddm", "keyed_ddm")


def photos(size, channels=1):
    """Three smooth photos [3, channels, size, size]."""
    coarse = torch.rand(3, channels, 4, 4, generator=torch_generator(0, f"tests/sizes/{size}"))
    return round_to_8_bits(F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True))


def nonces(name):
    return list(nonce_stream(0, f"tests/sizes/{name}", 3))


@pytest.fixture
def settings(ddm_params, keyed_ddm_params):
    plain = {
        "mosaic": {"block": 8},
        "blur": {"kernel": 31},
        "p3": {"threshold": 10, "quality": 90},
        "none": {},
    }
    return {
        **{method: parse_obfuscator({"method": method, **rest}, "tests") for method, rest in plain.items()},
        "ddm": ddm_params,
        "keyed_ddm": keyed_ddm_params,
    }


def keyed_model(params, size):
    """Keyed DDM for grey photos of so many pixels a side, or of any size: `None`."""
    return KeyedDdm(started_networks(Description(params, 1, size or 64)).eval(), KEY, size)


# Obfuscators


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_any_size_hides_and_restores_photos_of_exactly_that_size(
    settings, method, size, channels, tmp_path
):
    description = Description(settings[method], channels, size)
    learned = method in {"ddm", "keyed_ddm"}
    save_obfuscator(tmp_path, description, started_networks(description) if learned else None)
    obfuscator = load_obfuscator(tmp_path, master_key=KEY)
    images, used = photos(size, channels), nonces(f"{method}/{size}")
    hidden = obfuscator.encrypt(images, used)
    side = -(-size // 8) * 8 if method == "keyed_ddm" else size
    assert description.hidden_size == side
    assert hidden.shape == (3, channels, side, side)
    assert torch.allclose(hidden * 255, (hidden * 255).round(), rtol=0, atol=1e-4)
    assert isinstance(obfuscator, DecryptingObfuscator) == learned
    if learned:
        assert obfuscator.decrypt(hidden, used).shape == images.shape


@pytest.mark.parametrize("size", [17, 18, 50, 66])
def test_the_padding_that_hidden_photos_keep_is_what_restores_the_edge(keyed_ddm_params, size):
    model = keyed_model(keyed_ddm_params, size)
    images, used = photos(size), nonces(f"edge/{size}")
    hidden = model.encrypt(images, used)

    def edge_db(received):
        edge = slice(-(size % 8), None)
        return psnr_db(model.decrypt(received, used)[..., edge], images[..., edge]).mean()

    assert edge_db(hidden) > 17
    assert edge_db(hidden) > edge_db(pad_to_multiple(hidden[..., :size, :size], 8)) + 2


@pytest.mark.parametrize(
    ("image_size", "size", "remedy"),
    [
        (None, (20, 16), "16x20 pixels .* resize them to multiples of 8"),
        (50, (52, 52), "52x52 pixels .* resize them to 50x50 or multiples of 8"),
        (50, (50, 49), "49x50 pixels"),
    ],
)
def test_photos_that_could_not_be_restored_to_their_size_are_refused_and_use_no_nonce(
    keyed_ddm_params, image_size, size, remedy
):
    model = keyed_model(keyed_ddm_params, image_size)
    with pytest.raises(DdmError, match=remedy):
        model.encrypt(torch.zeros(3, 1, *size), nonces("refused"))
    side = image_size or 16
    model.encrypt(torch.zeros(3, 1, side, side), nonces("refused"))


def test_another_key_restores_the_same_size(keyed_ddm_params):
    model = keyed_model(keyed_ddm_params, 18)
    other = model.with_key(b"o" * 32)
    assert other.decrypt(model.encrypt(photos(18), nonces("key")), nonces("key")).shape[-2:] == (18, 18)


def test_a_hidden_photo_that_was_cut_is_refused(keyed_ddm_params):
    model = keyed_model(keyed_ddm_params, 50)
    hidden = model.encrypt(photos(50), nonces("cut"))
    with pytest.raises(DdmError, match=r"50x50 pixels.*multiples of 8; scale it back"):
        model.decrypt(hidden[..., :50, :50], nonces("cut"))


@pytest.mark.parametrize("method", ["ddm", "keyed_ddm"])
def test_training_compares_photos_of_one_size(settings, method):
    networks = build_networks(Description(settings[method], 3, 18))
    images = photos(18, 3)
    hidden, restored = networks.round_trip(images, torch_generator(0, "tests/sizes/train"))
    assert hidden.shape == restored.shape == images.shape
    (restored - images).abs().mean().backward()
    assert all(weight.grad.isfinite().all() for weight in networks.parameters())


# Networks


@pytest.mark.parametrize("multiple", [1, 2, 4, 8, 16])
def test_padding_repeats_the_edge_and_cropping_undoes_it(multiple):
    images = torch.rand(1, 2, 17, 30, generator=torch_generator(0, "tests/sizes/pad"))
    padded = pad_to_multiple(images, multiple)
    height, width = padded.shape[-2:]
    assert height % multiple == width % multiple == 0
    assert 0 <= height - 17 < multiple
    assert 0 <= width - 30 < multiple
    assert padded[..., :17, 30:].equal(images[..., 29:].expand(-1, -1, -1, width - 30))
    assert padded[..., 17:, :].equal(padded[..., 16:17, :].expand(-1, -1, height - 17, -1))
    assert crop_like(padded, images).equal(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (17, 19), (50, 66), (113, 224)], ids=str)
def test_every_network_takes_pictures_of_any_size(size, channels):
    images = torch.rand(2, channels, *size, generator=torch_generator(0, "tests/sizes/networks"))
    with torch.no_grad():
        assert UNet(channels, 4)(images).shape == images.shape
        assert InversionNetwork(channels, 4).eval()(images).shape == images.shape
        assert RecognitionNetwork(channels, 7, 4).eval()(images).shape == (2, 7)
        assert Discriminator(channels)(images).shape == (2, 1, size[0] // 8, size[1] // 8)


# Stages


@pytest.fixture(scope="module")
def small_world(photo_folder, prepare_params, tmp_path_factory):
    """Colour photos of 34 pixels, a multiple of nothing but 2, and a recogniser of their people."""
    folder = tmp_path_factory.mktemp("sizes")
    params = dataclasses.replace(prepare_params, image_size=34, channels=3)
    prepare.run(params, raw=photo_folder, prepared=folder / "prepared")
    learning = RecogniseParams(epochs=1, batch_size=8, learning_rate=1e-3, threads=1, seed=0)
    recognise.run(learning, prepared=folder / "prepared", recogniser=folder / "recogniser")
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_every_stage_takes_colour_photos_of_a_size_that_fits_no_grid(
    *, small_world, settings, attack_params, method, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    prepared, model = small_world / "prepared", tmp_path / method
    train.run(settings[method], name=method, prepared=prepared, model=model, history=tmp_path / "history")
    places = {"prepared": prepared, "model": model, "recogniser": small_world / "recogniser"}
    applicable = []
    for attacker in ATTACKERS + CONTROLS:
        folder = tmp_path / attacker
        result = attack.run(attack_params, attacker=attacker, **places, result=folder)
        applicable += [attacker] * result.applicable
        assert (folder / PICTURES).exists() == (result.psnr_db is not None)
    assert ("wrong_key" in applicable, "nonce_reuse" in applicable) == {
        "ddm": (True, False),
        "keyed_ddm": (True, True),
    }.get(method, (False, False))
    measuring = UtilityParams(encryptions_per_photo=1, threads=1, seed=0)
    measured = utility.run(measuring, **places, result=tmp_path / "utility")
    assert tuple(measured.channels) == CHANNELS
    assert all(0 < channel.psnr_db <= 100 for channel in measured.channels.values())
    if method == "keyed_ddm":
        assert measured.channels["jpeg75"].psnr_db > 12


@pytest.mark.parametrize("size", [16, 17, 64, 100, 224, 250, 1024])
def test_photos_are_prepared_in_any_size(prepare_params, size):
    assert dataclasses.replace(prepare_params, image_size=size).image_size == size


@pytest.mark.parametrize("size", [0, 15, 1025])
def test_sizes_out_of_range_are_refused(prepare_params, size):
    with pytest.raises(ValueError, match=f"image_size is {size}; it must lie in 16..1024 pixels"):
        dataclasses.replace(prepare_params, image_size=size)
