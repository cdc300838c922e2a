"""Colour photos through the whole of keyed DDM: trained, hidden, sent as a 4:2:0 JPEG, restored in colour."""

import dataclasses

import pytest
import torch
from started_networks import started_networks
from torch.nn import functional as F

from ddm_core.channel import luma, round_to_8_bits, simulate_jpeg
from ddm_core.exact_channels import EXACT_CHANNELS, real_jpeg
from ddm_core.keys import nonce_stream
from ddm_core.metrics import psnr_db, ssim
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.store import Description
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.results import CHANNELS
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training import train

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SIDE = 32


def colour_photos(count, name):
    """Shaded backgrounds of any colour, each with a disc of another and a little noise."""
    draws = torch_generator(0, f"tests/colour/{name}")
    coarse = torch.rand(count, 3, 3, 3, generator=draws)
    ground = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=True)
    middle, radius = torch.rand(2, count, 2, 1, 1, generator=draws)
    places = torch.stack(
        torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    )
    distance = (places - 0.2 - 0.6 * middle).norm(dim=1, keepdim=True)
    disc = torch.sigmoid(30 * (0.15 + 0.2 * radius[:, :1] - distance))
    colour = torch.rand(count, 3, 1, 1, generator=draws)
    noise = 0.01 * torch.randn(ground.shape, generator=draws)
    return round_to_8_bits(ground * (1 - disc) + colour * disc + noise)


def nonces(name, photos):
    return list(nonce_stream(0, f"tests/colour/{name}", len(photos)))


def known_photos():
    return (colour_photos(200, "train") * 255).round().byte()


def started(params):
    return started_networks(Description(params, 3, SIDE), known_photos())


@pytest.fixture(scope="module")
def photos():
    return colour_photos(24, "test")


@pytest.fixture(scope="module")
def sender(keyed_ddm_params):
    """A small model, trained for a few seconds on other photos than the test's."""
    make_deterministic(0, "tests/colour", threads=1)
    params = dataclasses.replace(keyed_ddm_params, quaternions=12, width=16, steps=300, batch_size=8)
    networks = started(params)
    train(networks, known_photos(), params, "tests/colour", lambda _: None, goal=training_goal(networks))
    return KeyedDdm(networks.eval().requires_grad_(False), KEY, SIDE)


@pytest.fixture(scope="module")
def hidden(sender, photos):
    return sender.encrypt(photos, nonces("hidden", photos))


def restored_db(obfuscator, received, photos):
    return psnr_db(obfuscator.decrypt(received, nonces("hidden", photos)), photos).mean().item()


def test_hidden_photos_have_no_colour(hidden, photos):
    assert hidden.shape == photos.shape
    assert hidden.equal(hidden[:, :1].expand_as(hidden))


def test_the_right_key_restores_the_colours_and_a_wrong_key_nothing(sender, hidden, photos):
    right = restored_db(sender, hidden, photos)
    assert right > psnr_db(luma(photos).expand_as(photos), photos).mean() + 3, "better than the photo in grey"
    mean_colour = psnr_db(photos.mean(dim=(2, 3), keepdim=True).expand_as(photos), photos).mean()
    assert right > mean_colour + 5
    assert restored_db(sender.with_key(OTHER_KEY), hidden, photos) < mean_colour


@pytest.mark.parametrize("quality", [85, 75])
def test_chroma_subsampling_costs_nothing(sender, hidden, photos, quality):
    subsampled, whole, grey = (
        restored_db(sender, received, photos)
        for received in (
            real_jpeg(hidden, quality),
            real_jpeg(hidden, quality, "4:4:4"),
            real_jpeg(hidden[:, :1], quality),
        )
    )
    assert subsampled == pytest.approx(whole, abs=0.05)
    assert subsampled == pytest.approx(grey, abs=0.05)
    assert subsampled > restored_db(sender, hidden, photos) - 1.5


def test_a_signal_in_chroma_would_not_survive_it(photos):
    """What keyed DDM avoids: noise in each channel of its own loses most of itself to 4:2:0."""
    noise = round_to_8_bits(torch.rand(photos.shape, generator=torch_generator(0, "tests/colour/noise")))
    loss = {
        subsampling: (real_jpeg(noise, 95, subsampling) - noise).square().mean()
        for subsampling in ("4:2:0", "4:4:4")
    }
    assert loss["4:2:0"] > 10 * loss["4:4:4"]


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_that_utility_measures_leaves_colours_to_restore(sender, hidden, photos, name):
    restored = sender.decrypt(EXACT_CHANNELS[name](hidden), nonces("hidden", photos))
    assert restored.shape == photos.shape
    wrong = sender.with_key(OTHER_KEY).decrypt(hidden, nonces("hidden", photos))
    assert psnr_db(restored, photos).mean() > psnr_db(wrong, photos).mean() + 3
    assert ssim(restored, photos).mean() > ssim(wrong, photos).mean() + 0.1


def test_training_sends_neutral_colours_through_subsampled_jpeg(keyed_ddm_params, photos):
    always = {"jpeg_probability": 1.0, "resize_probability": 0.0}
    coarse = {"jpeg_quality_min": 75, "jpeg_quality_max": 75}
    networks = started(dataclasses.replace(keyed_ddm_params, **always, **coarse))
    received = []
    seek = networks.seek
    networks.seek = lambda images: received.append(images) or seek(images)
    hidden, _ = networks.round_trip(photos, torch_generator(0, "tests/colour/channel"))
    assert received[0].shape == photos[:, :1].shape, "what neutral colours have in common"
    assert received[0].equal(simulate_jpeg(hidden[:, :1], 75))
    sent = simulate_jpeg(hidden, 75, "4:2:0")
    assert received[0].expand_as(sent).equal(sent)
    assert not received[0].equal(hidden[:, :1])


@pytest.mark.parametrize("quaternions", [5, 8, 12, 16])
def test_untrained_networks_already_carry_colours(keyed_ddm_params, photos, quaternions):
    sender = KeyedDdm(started(dataclasses.replace(keyed_ddm_params, quaternions=quaternions)).eval(), KEY)
    used = nonces("start", photos)
    restored = sender.decrypt(sender.encrypt(photos, used), used)
    assert psnr_db(restored, photos).mean() > psnr_db(luma(photos).expand_as(photos), photos).mean() + 2


def test_training_restores_more_than_the_start(sender, hidden, photos):
    start = KeyedDdm(started(sender.networks.params).eval(), KEY)
    begun = start.encrypt(photos, nonces("hidden", photos))
    for channel in (EXACT_CHANNELS["png"], EXACT_CHANNELS["jpeg75"]):
        assert restored_db(sender, channel(hidden), photos) > restored_db(start, channel(begun), photos) + 1
