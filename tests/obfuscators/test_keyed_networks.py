"""Keyed DDM's networks: the proof's conditions hold, and the start already decrypts."""

import dataclasses
from pathlib import Path

import pytest
import torch
from started_networks import smooth_pictures, started_networks

from ddm_core import quaternions, rotations
from ddm_core.channel import resize_matrix, simulate_site
from ddm_core.data.imaging import decode
from ddm_core.data.sources import read_orl
from ddm_core.errors import DdmError
from ddm_core.exact_channels import EXACT_CHANNELS
from ddm_core.keys import nonce_stream
from ddm_core.learned_params import KeyedDdmParams, PhotoDdmParams
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.cell_code import PATCH, CellLayout, carrier_patterns
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.keyed_networks import wholeness
from ddm_core.obfuscators.receiver_start import fit_receiver
from ddm_core.obfuscators.sender_start import fit_sender
from ddm_core.obfuscators.store import Description, build_networks, load_obfuscator, save_obfuscator
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.params import load
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training import train

CHECKOUT = Path(__file__).parents[2]
KEY, OTHER_KEY = bytes(32), bytes([1]) * 32
CARRIER = 12


def scenes(count, height=64, width=64):
    return smooth_pictures(count, 3, height, width)


def nonces(name, count):
    return list(nonce_stream(0, f"tests/photo ddm/{name}", count))


@pytest.fixture(scope="module")
def faces():
    """Every fifth ORL face, uint8 [80, 1, 64, 64]."""
    files = [content for _, content in sorted(read_orl().items())][::5]
    pixels = [decode(content, image_size=64, channels=1, square="crop")[0] for content in files]
    return torch.stack([torch.from_numpy(face.copy()) for face in pixels]).unsqueeze(1)


@pytest.fixture(scope="module")
def networks(photo_ddm_params):
    make_deterministic(0, "tests/photo ddm", threads=1)
    networks = started_networks(Description(photo_ddm_params, 3, 64), scenes(48, 96, 96))
    return networks.eval().requires_grad_(False)


@pytest.mark.parametrize("picture", [0.0, 1.0, 1e4], ids=["black", "white", "absurd"])
def test_every_photo_becomes_a_latent_of_unit_norm(networks, picture):
    latent = networks.encode(torch.full((1, 3, 16, 24), picture))
    assert latent.shape == (1, networks.params.quaternions, 4, 2, 3)
    for group in rotations.apart(latent, networks.layout.octonions):
        torch.testing.assert_close(group.norm(dim=2), torch.ones_like(group[:, :, 0]), rtol=0, atol=1e-6)


def test_under_reused_rotations_photos_differ_and_under_fresh_ones_they_look_alike(networks):
    """Means and deviations of x_e over many keys are those of any other photo; the same key gives it away."""
    black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    draws = torch_generator(0, "tests/photo ddm/keys")
    count, grid = 200, networks.grid(black)
    keys = [rotations.random_unit(count, grid, draws) for _ in range(2)]
    fresh = [networks.hide(x, key).mean(dim=(1, 2, 3)) for x, key in zip((black, white), keys, strict=True)]
    spread = torch.cat(fresh).std() / (count / 2) ** 0.5
    assert (fresh[0].mean() - fresh[1].mean()).abs() < 4 * spread
    one = rotations.random_unit(1, grid, draws)
    assert not networks.hide(black, one).equal(networks.hide(white, one))


def test_the_rotation_vector_comes_back_from_its_quaternion():
    vectors = torch.randn(2, 3, 3, 4, 5, generator=torch_generator(0, "tests/rotations"))
    vectors = vectors / vectors.norm(dim=2, keepdim=True) * torch.linspace(0, 3, 5)
    back = quaternions.logarithm(quaternions.exponential(vectors) * 0.3)
    torch.testing.assert_close(back, vectors, rtol=1e-4, atol=1e-4)


def test_a_quaternion_that_never_arrived_has_a_finite_gradient():
    lost = torch.zeros(1, 1, 4, 1, 1, requires_grad=True)
    quaternions.logarithm(lost).sum().backward()
    assert lost.grad.isfinite().all()


@pytest.mark.parametrize(("params", "robust"), [(PhotoDdmParams, 9), (KeyedDdmParams, 4)])
def test_halving_keeps_the_robust_band_and_takes_the_detail_band(params, robust):
    carrier = params.carrier
    patterns = carrier_patterns(CellLayout(3, carrier), carrier**2, params.start)
    halve = resize_matrix(3 * carrier, 3 * carrier // 2)
    left = (halve @ patterns @ halve.T).flatten(1).norm(dim=1) / patterns.flatten(1).norm(dim=1)
    assert left[: 4 * robust].min() > 0.2
    assert left[4 * robust :].max() < 0.05


def test_patterns_that_are_fitted_across_cells_say_more_of_a_halved_face(keyed_ddm_params, faces):
    """Against robust patterns that are the DCT of single cells, on other faces than those fitted to."""
    restored = []
    for fits in ((fit_receiver,), (fit_sender, fit_receiver)):
        torch.manual_seed(0)
        networks = build_networks(Description(keyed_ddm_params, 1, 64))
        for fit in fits:
            fit(networks, faces[:64], 0)
        sender = KeyedDdm(networks.eval(), KEY)
        photos, own = faces[64:].float() / 255, nonces("fitted", 16)
        received = EXACT_CHANNELS["resize50"](sender.encrypt(photos, own))
        restored.append(psnr_db(sender.decrypt(received, own), photos).mean())
    assert restored[1] > restored[0] + 0.1


def test_what_is_fitted_across_cells_keeps_the_deviations_of_the_angles(keyed_ddm_params, faces):
    params, deviations = keyed_ddm_params, []
    for fits in ((), (fit_sender,)):
        torch.manual_seed(0)
        networks = build_networks(Description(params, 1, 64))
        for fit in fits:
            fit(networks, faces, 0)
        grid = networks.encoder.linear(networks.cells(faces.float() / 255))
        deviations.append(grid.std(dim=(0, 2, 3)))
    torch.testing.assert_close(deviations[1], deviations[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize(("channel", "least"), [("png", 30), ("jpeg75", 28), ("photo_site", 24)])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 90)])
def test_the_start_decrypts_unseen_photos_after_each_channel_and_a_wrong_key_does_not(
    networks, channel, least, height, width
):
    photos = scenes(2, height, width).float() / 255
    photos = photos[..., : height - height % PATCH, : width - width % PATCH]
    sender = KeyedDdm(networks, KEY)
    own = nonces(f"{channel}/{height}", 2)
    received = EXACT_CHANNELS[channel](sender.encrypt(photos, own))
    assert psnr_db(sender.decrypt(received, own), photos).mean() > least
    assert psnr_db(sender.with_key(OTHER_KEY).decrypt(received, own), photos).mean() < 15


def test_x_e_is_grey_of_eight_bits_one_and_a_half_times_as_large_and_grey_copies_decrypt_alike(networks):
    photos = scenes(1).float() / 255
    sender, own = KeyedDdm(networks, KEY), nonces("grey", 1)
    hidden = sender.encrypt(photos, own)
    assert hidden.shape == (1, 3, 96, 96)
    assert hidden[:, :1].expand(-1, 3, -1, -1).equal(hidden)
    torch.testing.assert_close((hidden * 255).round() / 255, hidden, rtol=0, atol=1e-7)
    from_grey, from_colour = sender.decrypt(hidden[:, :1], own), sender.decrypt(hidden, own)
    torch.testing.assert_close(from_grey, from_colour, rtol=0, atol=1e-3)


def test_a_hidden_photo_that_was_cut_is_refused(networks):
    with pytest.raises(DdmError, match="multiples of 12"):
        KeyedDdm(networks, KEY).decrypt(torch.zeros(1, 3, 96, 90), nonces("cut", 1))


def test_a_photo_whose_sides_are_no_multiples_comes_back_in_its_size_by_a_model_made_for_it(networks):
    sender, own = KeyedDdm(networks, KEY, image_size=50), nonces("odd", 1)
    photos = scenes(1)[..., :50, :50].float() / 255
    restored = sender.decrypt(sender.encrypt(photos, own), own)
    assert restored.shape == photos.shape
    assert psnr_db(restored, photos).mean() > 28


def test_a_receiver_tells_a_halved_picture_from_a_whole_one(networks):
    photos = scenes(1).float() / 255
    rotation = rotations.random_unit(1, networks.grid(photos), torch_generator(0, "tests/whole"))
    hidden = networks.hide(photos, rotation)
    assert wholeness(networks.seek(hidden), 9).min() > 0.9
    assert wholeness(networks.seek(simulate_site(hidden, 75)), 9).max() < 0.1


def test_the_latent_of_bf16_networks_is_of_unit_norm_in_fp32(networks):
    """In bf16 a norm is off by up to 0.4 %, and rotations keep it: it would tell of the photo."""
    photos = scenes(2).float() / 255
    with torch.autocast("cpu", torch.bfloat16):
        latent = networks.encode(photos)
    assert latent.dtype == torch.float32
    for group in rotations.apart(latent, networks.layout.octonions):
        torch.testing.assert_close(group.norm(dim=2), torch.ones_like(group[:, :, 0]), rtol=0, atol=1e-6)


def test_patterns_that_no_photo_turns_stay_as_they_were(photo_ddm_params):
    """Grey photos in RGB turn no coefficient of colour, plain ones none at all: nothing to fit them to."""
    description = Description(photo_ddm_params, 3, 64)
    before = build_networks(description)
    robust = before.layout.numbers(before.layout.robust)

    def kept(photos):
        after = started_networks(description, photos).encoder.linear.weight[:robust]
        assert after.isfinite().all()
        return [new.equal(old) for new, old in zip(after, before.encoder.linear.weight, strict=False)]

    grey = scenes(8)[:, :1].expand(-1, 3, -1, -1)
    assert 0 < sum(kept(grey)) < robust
    assert all(kept(torch.full_like(grey, 90)))


@pytest.fixture
def deep_networks():
    """As many blocks as `photo/params.yaml` asks for, none of them idle as they are at the start."""
    widths = dict.fromkeys(("encoder_width", "renderer_width", "seeker_width", "decoder_width"), 16)
    params = dataclasses.replace(load(CHECKOUT / "photo/params.yaml").train["photo"], **widths)
    torch.manual_seed(0)
    networks = build_networks(Description(params, 3, 64)).eval().requires_grad_(False)
    for parameter in networks.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return networks


def test_a_pixel_changes_what_the_stated_reach_says_and_nothing_further_away(deep_networks):
    draws = torch_generator(0, "tests/reach")
    assert (deep_networks.hide_reach, deep_networks.reveal_reach) == (4, 12), "docs/method.md says so"
    side = 2 * deep_networks.reveal_reach + 3
    photos = torch.rand(1, 3, side * PATCH, side * PATCH, generator=draws)
    rotation = rotations.random_unit(1, deep_networks.grid(photos), draws)
    hidden = deep_networks.hide(photos, rotation)
    middle = side // 2

    def reached(run, images, cell, cell_of_result):
        changed = images.clone()
        changed[..., middle * cell : (middle + 1) * cell, middle * cell : (middle + 1) * cell] = 0.3
        change = (run(changed, rotation) - run(images, rotation)).abs().amax(dim=1, keepdim=True)
        cells = torch.nn.functional.max_pool2d(change, cell_of_result)[0, 0]
        return int(max((place - middle).abs().max() for place in cells.nonzero()))

    assert reached(deep_networks.hide, photos, PATCH, CARRIER) == deep_networks.hide_reach
    # The last cell is reached through the blend alone, whose change there is below what fp32 holds.
    found = reached(deep_networks.reveal, hidden, CARRIER, PATCH)
    assert deep_networks.reveal_reach - 1 <= found <= deep_networks.reveal_reach


def test_the_model_trains_from_its_start_and_comes_back_from_its_folder(photo_ddm_params, tmp_path):
    photos = scenes(48, 96, 96)
    make_deterministic(0, "tests/photo ddm/train", threads=1)
    networks = started_networks(Description(photo_ddm_params, 3, 96), photos)
    before = [parameter.detach().clone() for parameter in networks.parameters()]
    history = []
    train(networks, photos, photo_ddm_params, "photo", history.append, goal=training_goal(networks))
    assert history[-1].psnr_db > 20
    moved = [not old.equal(new) for old, new in zip(before, networks.parameters(), strict=True)]
    assert sum(moved) > 0.7 * len(moved)

    save_obfuscator(tmp_path, Description(photo_ddm_params, 3, 64), networks)
    loaded = load_obfuscator(tmp_path, master_key=KEY)
    same, own = KeyedDdm(networks, KEY, 64), nonces("folder", 8)
    images = scenes(8).float() / 255
    # Training lays the weights out differently in memory: sums come in another order, and may round apart.
    torch.testing.assert_close(loaded.encrypt(images, own), same.encrypt(images, own), rtol=0, atol=1.1 / 255)


@pytest.mark.parametrize(("channel", "least"), [("png", 36), ("jpeg75", 33), ("resize50", 27.5)])
def test_a_grey_face_needs_no_larger_x_e(keyed_ddm_params, faces, channel, least):
    params = dataclasses.replace(keyed_ddm_params, quaternions=16)
    make_deterministic(0, "tests/photo ddm", threads=1)
    networks = started_networks(Description(params, 1, 64), faces[:64])
    photos, own = faces[64:80].float() / 255, nonces(f"grey/{channel}", 16)
    sender = KeyedDdm(networks.eval().requires_grad_(False), KEY)
    hidden = sender.encrypt(photos, own)
    assert hidden.shape == photos.shape
    received = EXACT_CHANNELS[channel](hidden)
    assert psnr_db(sender.decrypt(received, own), photos).mean() > least
    assert psnr_db(sender.with_key(OTHER_KEY).decrypt(received, own), photos).mean() < 12


@pytest.mark.parametrize(("method", "least", "most"), [("photo_ddm", 10, 36), ("keyed_ddm", 5, 16)])
def test_more_quaternions_than_a_cell_can_draw_or_none_of_detail_are_refused(
    photo_ddm_params, keyed_ddm_params, method, least, most
):
    params = {"photo_ddm": photo_ddm_params, "keyed_ddm": keyed_ddm_params}[method]
    for count in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"quaternions is {count}; it must lie in {least}..{most}"):
            dataclasses.replace(params, quaternions=count)


def test_the_photo_model_is_for_colour(photo_ddm_params, tmp_path):
    save_obfuscator(tmp_path, Description(photo_ddm_params, 1, 64))
    with pytest.raises(DdmError, match="RGB"):
        load_obfuscator(tmp_path, master_key=KEY)
