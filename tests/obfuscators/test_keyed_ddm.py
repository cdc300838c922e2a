"""Keyed DDM: nothing of the photo goes round the rotation, and no nonce is used twice."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch
from started_networks import started_networks
from torch.nn import functional as F

import ddm_core
from ddm_core.channel import round_to_8_bits, simulate_jpeg, simulate_resize
from ddm_core.errors import DdmError
from ddm_core.keys import Grid, fresh_nonces, haar_rotations, nonce_stream
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.ddm import Ddm, DdmNetworks
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator
from ddm_core.obfuscators.store import Description
from ddm_core.rotations import apart, conjugate, random_unit, rotate
from ddm_core.seeding import torch_generator

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
GRID = Grid(octonions=2, quaternions=8, rows=2, columns=2)


def make_networks(params, channels=1):
    """As training starts with them, on photos like the tests'."""
    pictures = (smooth_photos(400, channels, "start") * 255).round().byte()
    return started_networks(Description(params, channels, 16), pictures).eval()


@pytest.fixture(scope="module")
def networks(keyed_ddm_params):
    return make_networks(keyed_ddm_params)


@pytest.fixture
def obfuscator(networks):
    return KeyedDdm(networks, KEY)


@pytest.fixture(scope="module")
def photos():
    """Four smooth 16 x 16 photos, [4, 1, 16, 16]."""
    return smooth_photos(4, 1, "photos")


def smooth_photos(count, channels, name):
    coarse = torch.rand(count, channels, 4, 4, generator=torch_generator(0, f"tests/keyed/{name}"))
    return round_to_8_bits(F.interpolate(coarse, (16, 16), mode="bilinear"))


def nonces(name, count=4):
    return list(nonce_stream(0, f"tests/keyed/{name}", count))


# No way round the key


def test_the_renderers_only_argument_is_the_rotated_latent():
    """Training, encryption and the exported files all draw with this one function."""
    assert list(inspect.signature(KeyedNetworks.drawn).parameters) == ["self", "rotated"]
    code = {path: path.read_text() for path in Path(ddm_core.__file__).parent.rglob("*.py")}
    assert [path.name for path, text in code.items() if ".renderer(" in text] == ["keyed_networks.py"]
    assert sum(text.count(".renderer(") for text in code.values()) == 1


def test_the_renderer_has_no_memory_of_the_photo_that_was_encoded(networks, photos):
    rotated = random_unit(1, GRID, torch_generator(0, "tests/rotated"))
    drawn = []
    for photo in photos.split(1):
        networks.encode(photo)
        drawn.append(networks.render(rotated))
    assert all(picture.equal(drawn[0]) for picture in drawn)
    assert not [name for name, _ in networks.named_buffers()], "no state but the weights"


@torch.no_grad()
def test_hiding_is_rendering_the_rotated_latent_and_nothing_else(networks, photos):
    rotation = random_unit(4, GRID, torch_generator(0, "tests/rotation"))
    expected = networks.render(rotate(rotation, networks.encode(photos), GRID.octonions))
    assert networks.hide(photos, rotation).equal(expected)


@pytest.mark.parametrize("size", [(16, 16), (14, 15)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_different_photos_rotated_onto_the_same_latent_are_the_same_bits(
    keyed_ddm_params, photos, channels, size
):
    """In grey and in colour, and also where the photo is padded."""
    networks = make_networks(keyed_ddm_params, channels)
    photos = torch.cat([photos, photos.flip(0), photos.flip(2)], dim=1)[:, :channels, : size[0], : size[1]]
    latents = networks.encode(photos)
    assert (latents[0] - latents[1]).abs().max() > 0.1, "the photos differ before the rotation"
    target = clear_of_rounding(networks)
    rotation = rotate(target.expand_as(latents), conjugate(latents, GRID.octonions), GRID.octonions)
    hidden = networks.hide(photos, rotation)
    for picture in hidden:
        assert picture.equal(hidden[0])


def clear_of_rounding(networks):
    """A rotated latent none of whose pixels lies on a rounding boundary, where 1e-7 would flip a bit."""
    for attempt in range(200):
        target = random_unit(1, GRID, torch_generator(attempt, "tests/target"))
        carrier = F.pixel_shuffle(networks.renderer(target.flatten(1, 2)), networks.carrier).clamp(0, 1) * 255
        if ((carrier - carrier.floor()) - 0.5).abs().min() > 1e-3:
            return target
    raise AssertionError("no such latent found")


def test_latents_are_of_unit_norm_for_every_picture(networks):
    pictures = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16), torch.rand(1, 16, 16)])
    latents = networks.encode(pictures)
    assert latents.shape == networks.seek(pictures).shape == (3, 8, 4, 2, 2)
    for group in apart(latents, GRID.octonions):
        assert (group.double().norm(dim=2) - 1).abs().max() < 3e-7


@torch.no_grad()
def test_the_seeker_finds_what_was_drawn_and_gives_nothing_where_nothing_was(networks):
    """No norm is forced on what it finds: the decoder goes without what arrives short."""
    drawn = random_unit(64, GRID, torch_generator(0, "tests/seek"))
    found = networks.seek(networks.render(drawn))
    for group in apart(found - drawn, GRID.octonions):
        assert group.norm(dim=2).mean() < 0.2
    assert networks.seek(torch.full((1, 1, 16, 16), 0.5)).norm(dim=2).max() < 0.1


@torch.no_grad()
def test_an_encoder_that_gives_nothing_still_gives_a_latent_of_unit_norm(keyed_ddm_params, photos):
    dead = make_networks(keyed_ddm_params)
    for weight in dead.encoder.parameters():
        weight.zero_()
    for group in apart(dead.encode(photos), GRID.octonions):
        assert group[:, :, 0].eq(1).all()
        assert group[:, :, 1:].eq(0).all()


# Keys and nonces


@pytest.mark.parametrize("channels", [1, 3])
def test_the_right_key_restores_more_than_any_other(keyed_ddm_params, photos, channels):
    obfuscator = KeyedDdm(make_networks(keyed_ddm_params, channels), KEY)
    images = photos.expand(-1, channels, -1, -1)
    used = nonces("right key")
    hidden = obfuscator.encrypt(images, used)
    assert hidden.shape == images.shape
    assert hidden.equal((hidden * 255).round() / 255)
    assert hidden.equal(hidden[:, :1].expand_as(hidden)), "drawn in luma alone"
    restored = obfuscator.decrypt(hidden, used)
    wrong = obfuscator.with_key(OTHER_KEY).decrypt(hidden, used)
    other_nonces = obfuscator.decrypt(hidden, nonces("other"))
    for guess in (wrong, other_nonces):
        assert (psnr_db(restored, images) > psnr_db(guess, images) + 3).all()
        assert guess.min() >= 0
        assert guess.max() <= 1


def test_encryption_is_a_function_of_photo_key_and_nonce(networks, photos):
    first, same = (KeyedDdm(networks, KEY).encrypt(photos, nonces("same")) for _ in range(2))
    assert first.equal(same)
    assert not first.equal(KeyedDdm(networks, KEY).encrypt(photos, nonces("another")))
    assert not first.equal(KeyedDdm(networks, OTHER_KEY).encrypt(photos, nonces("same")))


def test_a_nonce_repeated_within_one_call_is_refused(obfuscator, photos):
    twice = [*nonces("within", 3), nonces("within", 1)[0]]
    with pytest.raises(DdmError, match="used before under this key; draw a fresh one"):
        obfuscator.encrypt(photos, twice)
    obfuscator.encrypt(photos, nonces("within"))


def test_a_nonce_repeated_in_a_later_call_is_refused(obfuscator, photos):
    obfuscator.encrypt(photos, nonces("first"))
    with pytest.raises(DdmError, match="used before under this key"):
        obfuscator.encrypt(photos, [*nonces("second", 3), nonces("first")[2]])
    obfuscator.encrypt(photos, nonces("second")), "a refused call uses no nonce up"


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_one_nonce_for_several_photos_is_refused(obfuscator, photos, count):
    """One rotation would otherwise be spread over the batch."""
    for work in (obfuscator.encrypt, obfuscator.decrypt):
        with pytest.raises(DdmError, match=f"4 images came with {count} nonces"):
            work(photos, nonces("few", count))


def test_a_nonce_may_be_used_again_under_another_key_and_for_decryption(obfuscator, photos):
    used = nonces("again")
    hidden = obfuscator.encrypt(photos, used)
    obfuscator.with_key(OTHER_KEY).encrypt(photos, used)
    assert obfuscator.decrypt(hidden, used).equal(obfuscator.decrypt(hidden, used))


def test_the_same_key_again_remembers_its_nonces(obfuscator, photos):
    used = nonces("remembered")
    obfuscator.encrypt(photos, used)
    with pytest.raises(DdmError, match="used before under this key"):
        obfuscator.with_key(KEY).encrypt(photos, used)


def test_the_key_is_never_shown(networks):
    key = bytes(range(65, 97))
    obfuscator = KeyedDdm(networks, key)
    obfuscator.encrypt(torch.zeros(1, 1, 16, 16), fresh_nonces(1))
    for shown in (repr(obfuscator), str(obfuscator), repr(obfuscator.with_key(key[::-1]))):
        assert shown.startswith("KeyedDdm(networks=")
        for secret in (key, key[::-1]):
            assert not any(part in shown for part in (secret.decode(), secret.hex(), repr(secret)))


def test_protocols_tell_what_each_method_offers(networks, ddm_params):
    keyless = Ddm(DdmNetworks(1, ddm_params.width))
    assert isinstance(KeyedDdm(networks, KEY), KeyedObfuscator)
    assert isinstance(keyless, DecryptingObfuscator)
    assert not isinstance(keyless, KeyedObfuscator)


# Training through the channel


@pytest.mark.parametrize(
    ("change", "channel"),
    [
        (
            {"jpeg_probability": 1.0, "resize_probability": 0.0}
            | {"jpeg_quality_min": 75, "jpeg_quality_max": 75},
            "jpeg",
        ),
        ({"jpeg_probability": 0.0, "resize_probability": 1.0, "resize_min_share": 0.0}, "resize"),
        ({"jpeg_probability": 0.0, "resize_probability": 1.0, "resize_min_share": 1.0}, "halving"),
        ({"jpeg_probability": 0.0, "resize_probability": 0.0, "noise_deviation": 0.0}, "png"),
        ({"jpeg_probability": 0.0, "resize_probability": 0.0, "noise_deviation": 0.01}, "noise"),
    ],
)
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_training_sends_the_hidden_photo_through_the_exact_channel(
    keyed_ddm_params, photos, change, channel, bf16
):
    """Also under autocast: in bf16 the channel's own arithmetic would be grey levels off."""
    networks = make_networks(dataclasses.replace(keyed_ddm_params, **change))
    received = []
    seek = networks.seek
    networks.seek = lambda images: received.append(images) or seek(images)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden, restored = networks.round_trip(photos, torch_generator(0, "tests/channel"))
    assert (hidden.dtype, restored.dtype) == (torch.float32, torch.float32)
    draws = torch_generator(0, "tests/channel")
    random_unit(4, GRID, draws)
    _, which = torch.rand(2, generator=draws).tolist()
    expected = {
        "jpeg": lambda: simulate_jpeg(hidden, 75),
        "resize": lambda: simulate_resize(hidden, 0.5 + which * 0.5),
        "halving": lambda: simulate_resize(hidden, 0.5),
        "png": lambda: hidden,
        "noise": lambda: round_to_8_bits(hidden + 0.01 * torch.randn(hidden.shape, generator=draws)),
    }[channel]()
    assert received[0].dtype == torch.float32
    assert received[0].equal(expected)


def test_every_training_step_draws_new_rotations(networks, photos):
    draws = torch_generator(0, "tests/steps")
    first, second = (networks.round_trip(photos, draws)[0] for _ in range(2))
    assert (first - second).abs().mean() > 0.05


def test_every_network_learns_from_the_reconstruction(keyed_ddm_params, photos):
    networks = make_networks(keyed_ddm_params)
    _, restored = networks.round_trip(photos, torch_generator(0, "tests/gradients"))
    (restored - photos).abs().mean().backward()
    for name, weight in networks.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    for part in (networks.encoder, networks.renderer, networks.seeker, networks.decoder):
        assert part.linear.weight.grad.abs().sum() > 0


def test_untrained_networks_already_carry_a_picture(networks, photos):
    """They start as a code that works, so training starts from a picture and not from noise."""
    rotation = haar_rotations(KEY, nonces("start"), GRID)
    with torch.no_grad():
        restored = networks.reveal(networks.hide(photos, rotation), rotation)
    assert psnr_db(restored.clamp(0, 1), photos).min() > 15
