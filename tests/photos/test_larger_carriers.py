"""Models may draw the encrypted photo larger than the photo: everything else stays as it is."""

import pytest
from photo_files import encoded, pixels_of, psnr, scene
from PIL import Image
from started_networks import started_networks

from ddm_core.obfuscators.store import Description
from ddm_core.photos import cipher
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo
from ddm_core.photos.header import Box
from ddm_core.photos.model import PhotoModel


@pytest.fixture(scope="module")
def larger(photo_ddm_params):
    """The photo model, which draws 8 pixels as 12."""
    networks = started_networks(Description(photo_ddm_params, 3, 64))
    return PhotoModel(networks.eval().requires_grad_(False), b"four")


@pytest.mark.parametrize("size", [(64, 64), (201, 133)], ids=str)
def test_a_photo_comes_back_in_its_own_size(larger, ring, size):
    original = scene(*size)
    hidden = encrypt_photo(encoded(original), larger, ring)
    assert pixels_of(hidden).shape[1] >= 1.5 * size[0]
    shown = pixels_of(decrypt_photo(hidden, larger, ring))
    assert shown.shape == original.shape
    assert psnr(shown, original) > 18


def test_regions_grow_with_the_photo_and_the_rest_comes_back(larger, ring):
    original, box = scene(201, 133), Box(40, 40, 48, 40)
    content = encrypt_photo(encoded(original), larger, ring, regions=[box])
    hidden, shown = pixels_of(content), pixels_of(decrypt_photo(content, larger, ring))
    in_the_open = Image.fromarray(original[40:80, 40:88]).resize((72, 60))
    assert psnr(hidden[60:120, 60:132], in_the_open) < 16
    assert psnr(shown[90:], original[90:]) > 38
    assert psnr(shown[40:80, 40:88], original[40:80, 40:88]) > 17


def test_nothing_of_a_box_shows_around_it(larger, models, ring, monkeypatch):
    """Two photos that differ in the box alone have the same surroundings: scaling mixes none of it in."""
    one, box = scene(201, 133), Box(40, 40, 48, 40)
    other = one.copy()
    other[40:80, 40:88] = 255 - other[40:80, 40:88]
    monkeypatch.setattr(cipher, "fresh_nonces", lambda count: [bytes(12)] * count)
    for model, inside in (
        (larger, (slice(60, 120), slice(60, 132))),
        (models["colour"], (slice(40, 80), slice(40, 88))),
    ):
        files = [encrypt_photo(encoded(each), model, ring, regions=[box]) for each in (one, other)]
        first, second = map(pixels_of, files)
        differs = (first != second).any(axis=2)
        assert differs[inside].mean() > 0.5
        differs[inside] = False
        assert not differs.any()
