"""Tiles give the very pixels of one pass over the whole photo, and share no keystream."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from photo_files import scene
from PIL import Image

from ddm_core.keys import Grid
from ddm_core.obfuscators.cell_code import PATCH
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.store import Description, build_networks, save_obfuscator
from ddm_core.params import load
from ddm_core.photos import tiles
from ddm_core.photos.tiles import Keystream, hide, reveal

CHECKOUT = Path(__file__).parents[2]
KEY, NONCE = bytes(range(32)), bytes(range(12))


def stream(model, photo):
    grid = model.networks.grid(tiles.to_tensor(photo))
    return Keystream(KEY, NONCE, grid)


def photo_of(name, width, height):
    return scene(width, height, name == "colour").reshape(height, width, -1)


@pytest.mark.parametrize("name", ["grey", "colour"])
@pytest.mark.parametrize("size", [(64, 64), (200, 72), (8, 8), (104, 264)], ids=str)
def test_tiles_are_seamless(models, monkeypatch, name, size):
    model, photo = models[name], photo_of(name, *size)
    whole = hide(model.networks, photo, stream(model, photo))
    whole_back = reveal(model.networks, whole, stream(model, photo))
    monkeypatch.setattr(tiles, "TILE", 40)
    tiled = hide(model.networks, photo, stream(model, photo))
    tiled_back = reveal(model.networks, whole, stream(model, photo))
    # floating-point sums run in another order: a value on the brink may round to the next grey level
    for one, other in ((whole, tiled), (whole_back, tiled_back)):
        difference = numpy.abs(one.astype(int) - other)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_a_photo_gets_the_pixels_that_the_measured_obfuscator_gives(models, name):
    model, photo = models[name], photo_of(name, 64, 48)
    images = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    expected = KeyedDdm(model.networks, KEY).encrypt(images, [NONCE])[0, 0]
    hidden = hide(model.networks, photo, stream(model, photo))
    assert numpy.abs(hidden / 255 - expected.numpy()).max() < 0.5 / 255 + 1e-6


def test_a_neighbourhood_is_as_wide_as_the_networks_see(models):
    """One changed pixel of the photo reaches as far as the radii say, and no further."""
    networks, photo = copy.deepcopy(models["grey"].networks), photo_of("grey", 256, 256)
    for layer in networks.encoder.trunk.modules():  # what comes from afar must show in grey levels
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight *= 4
    changed = photo.copy()
    changed[128, 128] ^= 255
    keystream = stream(models["grey"], photo)
    before, after = (hide(networks, each, keystream) for each in (photo, changed))
    rows, columns = numpy.nonzero(before != after)
    assert abs(rows // PATCH - 16).max() == networks.hide_reach
    assert abs(columns // PATCH - 16).max() == networks.hide_reach


def test_a_part_of_the_photo_uses_its_own_part_of_the_keystream(models):
    model, photo = models["grey"], photo_of("grey", 64, 64)
    whole = stream(model, photo)
    assert whole.at(3, 5).rows(range(2)).equal(whole.rows(range(3, 5))[..., 5:])
    here, there = (
        hide(model.networks, photo[:32, :32], whole.at(row, column)) for row, column in ((0, 0), (0, 4))
    )
    assert (here != there).mean() > 0.9


def test_a_keystream_does_not_show_its_key():
    assert KEY.hex() not in repr(Keystream(KEY, NONCE, Grid(0, 1, 1, 1)))
    assert "key=" not in repr(Keystream(KEY, NONCE, Grid(0, 1, 1, 1)))


# A process counts the memory that its parent had when it was started; this one has little.
PEAK = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(status, usage.ru_maxrss)
"""


@pytest.fixture
def photo_model_folder(tmp_path):
    """Networks as large as those of `make photo`, not trained: what they hold in memory is the same."""
    params = load(CHECKOUT / "photo/params.yaml")
    torch.manual_seed(0)
    description = Description(params.train["photo"], params.prepare.channels, params.prepare.image_size)
    (tmp_path / "model").mkdir()
    save_obfuscator(tmp_path / "model", description, build_networks(description))
    return tmp_path / "model"


@pytest.mark.timeout(280)
def test_twelve_megapixels_take_less_than_a_gigabyte_and_a_half(photo_model_folder, key_file, tmp_path):
    """The whole command in a process of its own; its peak memory is what the system says."""
    Image.fromarray(numpy.tile(scene(1000, 750), (4, 4, 1))).save(tmp_path / "large.jpg")
    for verb, photo in (("encrypt", tmp_path / "large.jpg"), ("decrypt", tmp_path / "encrypted/large.png")):
        run = [sys.executable, "-m", "ddm_core.cli", verb, str(photo), "-o", str(tmp_path / f"{verb}ed"),
            "--key", str(key_file), "--model", str(photo_model_folder)]  # fmt: skip
        output = subprocess.check_output([sys.executable, "-c", PEAK, *run], text=True)
        status, kibibytes = map(int, output.splitlines()[-1].split())
        assert status == 0
        assert 1e5 < kibibytes < 1.5e6
    assert Image.open(tmp_path / "decrypted/large.png").size == (4000, 3000)
