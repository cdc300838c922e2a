"""Models may draw the encrypted photo larger than the photo: everything else stays as it is."""

import pytest
from photo_files import encoded, pixels_of, psnr, scene
from torch.nn import functional as F

from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.photos import cipher
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo
from ddm_core.photos.header import Box
from ddm_core.photos.model import PhotoModel


class DoubledNetworks(KeyedNetworks):
    """Keyed DDM that draws each pixel of x_e as 2x2."""

    carrier = 8

    def hide(self, images, rotation):
        return F.interpolate(super().hide(images, rotation), scale_factor=2)

    def reveal(self, hidden, rotation):
        return super().reveal(F.avg_pool2d(hidden, 2), rotation)


@pytest.fixture(scope="module")
def doubled(models):
    networks = DoubledNetworks(3, models["colour"].networks.params)
    networks.load_state_dict(models["colour"].networks.state_dict())
    return PhotoModel(networks.eval().requires_grad_(False), b"four")


@pytest.mark.parametrize("size", [(64, 64), (201, 133)], ids=str)
def test_a_photo_comes_back_in_its_own_size(doubled, ring, size):
    original = scene(*size)
    hidden = encrypt_photo(encoded(original), doubled, ring)
    assert pixels_of(hidden).shape[1] >= 2 * size[0]
    shown = pixels_of(decrypt_photo(hidden, doubled, ring))
    assert shown.shape == original.shape
    assert psnr(shown, original) > 18


def test_regions_grow_with_the_photo_and_the_rest_comes_back(doubled, ring):
    original, box = scene(201, 133), Box(40, 40, 48, 40)
    content = encrypt_photo(encoded(original), doubled, ring, regions=[box])
    hidden, shown = pixels_of(content), pixels_of(decrypt_photo(content, doubled, ring))
    assert psnr(hidden[80:160, 80:176], original[40:80, 40:88].repeat(2, 0).repeat(2, 1)) < 16
    assert psnr(shown[90:], original[90:]) > 38
    assert psnr(shown[40:80, 40:88], original[40:80, 40:88]) > 17


def test_nothing_of_a_box_shows_around_it(doubled, models, ring, monkeypatch):
    """Two photos that differ in the box alone have the same surroundings: scaling mixes none of it in."""
    one, box = scene(201, 133), Box(40, 40, 48, 40)
    other = one.copy()
    other[40:80, 40:88] = 255 - other[40:80, 40:88]
    monkeypatch.setattr(cipher, "fresh_nonces", lambda count: [bytes(12)] * count)
    for model, grown in ((doubled, 2), (models["colour"], 1)):
        files = [encrypt_photo(encoded(each), model, ring, regions=[box]) for each in (one, other)]
        first, second = map(pixels_of, files)
        differs = (first != second).any(axis=2)
        assert differs[40 * grown : 80 * grown, 40 * grown : 88 * grown].mean() > 0.5
        differs[40 * grown : 80 * grown, 40 * grown : 88 * grown] = False
        assert not differs.any()
