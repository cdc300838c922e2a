"""The baselines do what their definitions say, on 8-bit pictures of any shape they allow."""

import math

import numpy
import pytest
import torch
from scipy import fft, ndimage

from ddm_core.channel import round_to_8_bits
from ddm_core.obfuscators.classical import P3, Blur, Identity, Mosaic
from ddm_core.obfuscators.protocol import DecryptingObfuscator
from ddm_core.seeding import torch_generator

LUMINANCE = """
16 11 10 16 24 40 51 61     12 12 14 19 26 58 60 55     14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62     18 22 37 56 68 109 103 77   24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""  # ITU-T T.81, table K.1

OBFUSCATORS = [Identity(), Mosaic(4), Mosaic(8), Blur(5), Blur(31), P3(10, 90), P3(1, 75)]
NO_NONCES = ()


def pictures(name, *shape):
    return round_to_8_bits(torch.rand(*shape, generator=torch_generator(0, f"tests/classical/{name}")))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("obfuscator", OBFUSCATORS, ids=repr)
def test_every_baseline_keeps_the_shape_gives_8_bits_and_repeats(obfuscator, channels):
    images = pictures("all", 2, channels, 32, 48)
    hidden = obfuscator.encrypt(images, NO_NONCES)
    assert hidden.shape == images.shape
    assert hidden.min() >= 0
    assert hidden.max() <= 1
    assert torch.allclose(hidden * 255, (hidden * 255).round(), rtol=0, atol=1e-4)
    assert hidden.equal(obfuscator.encrypt(images, NO_NONCES))
    assert not isinstance(obfuscator, DecryptingObfuscator)


@pytest.mark.parametrize("obfuscator", OBFUSCATORS, ids=repr)
def test_every_baseline_treats_each_photo_by_itself(obfuscator):
    images = pictures("alone", 2, 3, 32, 32)
    together = obfuscator.encrypt(images, NO_NONCES)
    alone = obfuscator.encrypt(images[1:], NO_NONCES)
    assert torch.allclose(together[1:], alone, rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize("obfuscator", OBFUSCATORS[:-2], ids=repr)
def test_every_baseline_but_p3_treats_each_channel_by_itself(obfuscator):
    images = pictures("alone", 2, 3, 32, 32)
    together = obfuscator.encrypt(images, NO_NONCES)
    alone = obfuscator.encrypt(images[1:, 2:], NO_NONCES)
    assert torch.allclose(together[1:, 2:], alone, rtol=0, atol=1.01 / 255)


def test_settings_are_shown():
    assert [repr(obfuscator) for obfuscator in OBFUSCATORS[::3]] == [
        "Identity()",
        "Blur(kernel=5)",
        "P3(threshold=1, quality=75)",
    ]


def test_none_is_the_identity_to_8_bits():
    images = torch.rand(1, 1, 16, 16, generator=torch_generator(0, "tests/none"))
    assert Identity().encrypt(images, NO_NONCES).equal(round_to_8_bits(images))
    assert Identity().encrypt(round_to_8_bits(images), NO_NONCES).equal(round_to_8_bits(images))


@pytest.mark.parametrize(
    ("height", "width", "block"), [(16, 16, 4), (16, 24, 8), (10, 13, 4), (5, 9, 16), (8, 8, 1)]
)
def test_mosaic_shows_the_mean_of_each_block_also_at_the_edges(height, width, block):
    images = pictures("mosaic", 1, 1, height, width)
    expected = numpy.empty((height, width))
    for top in range(0, height, block):
        for left in range(0, width, block):
            place = slice(top, top + block), slice(left, left + block)
            expected[place] = images[0, 0].double().numpy()[place].mean()
    hidden = Mosaic(block).encrypt(images, NO_NONCES)[0, 0].numpy()
    assert hidden == pytest.approx(expected, abs=0.51 / 255)


@pytest.mark.parametrize("kernel", [3, 5, 15, 31, 61])
def test_blur_is_a_gaussian_of_opencvs_sigma_with_replicated_edges(kernel):
    images = pictures("blur", 1, 1, 24, 32)
    radius = (kernel - 1) // 2
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    weights = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-radius, radius + 1)]
    weights = numpy.array(weights) / sum(weights)
    expected = images[0, 0].double().numpy()
    for axis in (0, 1):
        expected = ndimage.correlate1d(expected, weights, axis=axis, mode="nearest")
    hidden = Blur(kernel).encrypt(images, NO_NONCES)[0, 0].numpy()
    assert hidden == pytest.approx(expected, abs=0.51 / 255)


def test_blur_keeps_a_constant_picture_because_its_weights_sum_to_one():
    grey = round_to_8_bits(torch.full((1, 3, 16, 16), 0.3))
    for kernel in (3, 31, 61):
        assert torch.allclose(Blur(kernel).encrypt(grey, NO_NONCES), grey, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("threshold", "quality"), [(1, 90), (10, 90), (20, 90), (5, 40)])
def test_p3_removes_the_dc_and_the_sign_and_excess_of_large_coefficients(threshold, quality):
    """The public part, coefficient by coefficient, written out from Ra et al. (2013)."""
    # not rounded to 8 bits: those give coefficients exactly between two steps, where floats decide
    image = torch.rand(1, 1, 16, 24, generator=torch_generator(0, "tests/p3"))
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = [min(255, max(1, (int(entry) * scale + 50) // 100)) for entry in LUMINANCE.split()]
    expected = numpy.empty((16, 24))
    large = 0
    for top in range(0, 16, 8):
        for left in range(0, 24, 8):
            place = slice(top, top + 8), slice(left, left + 8)
            spectrum = fft.dctn(image[0, 0].double().numpy()[place] * 255 - 128, norm="ortho")
            public = numpy.empty((8, 8))
            for row in range(8):
                for column in range(8):
                    step = table[8 * row + column]
                    quantised = round(spectrum[row, column] / step)
                    if row == column == 0:
                        kept = 0
                    elif abs(quantised) <= threshold:
                        kept = quantised
                    else:
                        kept = threshold
                        large += 1
                    public[row, column] = kept * step
            expected[place] = (fft.idctn(public, norm="ortho") + 128) / 255
    assert large > 0, "the picture must have coefficients above the threshold"
    hidden = P3(threshold, quality).encrypt(image, NO_NONCES)[0, 0].numpy()
    assert hidden == pytest.approx(expected.clip(0, 1), abs=0.52 / 255)


def test_p3_shows_nothing_of_a_pictures_brightness():
    dark, bright = (torch.full((1, 1, 8, 8), level) for level in (0.1, 0.9))
    assert P3(10, 90).encrypt(dark, NO_NONCES).equal(P3(10, 90).encrypt(bright, NO_NONCES))
