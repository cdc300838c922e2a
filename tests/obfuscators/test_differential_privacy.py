"""DP-Pix and DP-Blur: the noise is Laplace of the scale that the guarantee needs, fresh and secret."""

import math

import numpy
import pytest
import torch
from scipy import stats

from ddm_core.keys import nonce_stream
from ddm_core.obfuscators.classical import Blur, Mosaic
from ddm_core.obfuscators.differential_privacy import DpBlur, DpPix, laplace
from ddm_core.seeding import torch_generator

KEY = bytes(range(32))


def nonces(count, name="nonces"):
    return list(nonce_stream(0, f"tests/differential privacy/{name}", count))


def pictures(*shape):
    return torch.rand(*shape, generator=torch_generator(0, "tests/differential privacy"))


def grey(count, channels, *size):
    return torch.full((count, channels, *size), 128 / 255)


def test_draws_are_laplace_of_scale_one():
    draws = laplace(KEY, nonces(50), (1, 20, 20), "tests").double().numpy().ravel()
    assert stats.kstest(draws, stats.laplace.cdf).pvalue > 0.01
    assert numpy.isfinite(draws).all()


def test_draws_are_independent_from_square_to_square_and_photo_to_photo():
    draws = laplace(KEY, nonces(2000), (1, 2, 2), "tests").double().numpy().reshape(2000, 4)
    assert abs(numpy.corrcoef(draws.T) - numpy.eye(4)).max() < 4 / 2000**0.5


@pytest.mark.parametrize(("block", "neighbourhood", "epsilon"), [(8, 4, 5.0), (4, 1, 2.0), (16, 16, 10.0)])
def test_squares_differ_from_their_mean_by_laplace_noise_of_the_papers_scale(block, neighbourhood, epsilon):
    """The mean of |noise| is its scale; grey 128 with a small scale is hardly ever clipped."""
    images = grey(200, 1, 64, 64)
    hidden = DpPix(block, neighbourhood, epsilon, KEY).encrypt(images, nonces(200))
    noise = (hidden - images)[..., ::block, ::block].double() * 255
    expected = 255 * neighbourhood / (block**2 * epsilon)
    assert expected < 20, "or clipping would be seen"
    # of n draws of |Laplace|, the mean deviates by scale / sqrt(n); rounding adds a little
    assert noise.abs().mean().item() == pytest.approx(expected, rel=4 / noise.numel() ** 0.5 + 0.02)
    assert abs(noise.mean().item()) < 4 * math.sqrt(2) * expected / noise.numel() ** 0.5


def test_every_pixel_of_a_square_shows_the_same_value_and_colours_have_noise_of_their_own():
    hidden = DpPix(8, 4, 1.0, KEY).encrypt(grey(1, 3, 16, 16), nonces(1))
    assert hidden.equal(Mosaic(8).encrypt(hidden, ()))
    assert len(hidden[..., ::8, ::8].unique()) > 8


def test_smaller_squares_at_the_edge_get_the_larger_noise_that_they_need():
    """A strip of 2 of 8 columns: a quarter of the pixels, so four times the scale."""
    images = grey(400, 1, 8, 10)
    noise = (DpPix(8, 1, 2.0, KEY).encrypt(images, nonces(400)) - images).double() * 255
    whole, strip = noise[..., 0, 0].abs().mean().item(), noise[..., 0, 9].abs().mean().item()
    assert whole == pytest.approx(255 / (64 * 2), rel=0.25)
    assert strip == pytest.approx(255 / (16 * 2), rel=0.25)


def test_with_much_budget_it_is_the_mosaic_and_with_little_it_is_noise():
    images = pictures(4, 1, 32, 32)
    mosaic = Mosaic(8).encrypt(images, ())
    assert (DpPix(8, 1, 1e6, KEY).encrypt(images, nonces(4)) - mosaic).abs().max() < 1.01 / 255
    hidden = DpPix(8, 16, 0.01, KEY).encrypt(images, nonces(4))
    assert ((hidden == 0) | (hidden == 1)).float().mean() > 0.9


def test_dp_blur_is_dp_pix_and_then_the_blur():
    images, pixelise, blur = pictures(2, 3, 20, 20), DpPix(4, 4, 1.0, KEY), Blur(9)
    hidden = DpBlur(pixelise, blur).encrypt(images, nonces(2))
    assert hidden.equal(blur.encrypt(pixelise.encrypt(images, nonces(2)), ()))
    other = DpBlur(pixelise, blur).with_key(bytes(32))
    assert not other.encrypt(images, nonces(2)).equal(hidden)


def test_averaging_many_encryptions_wears_the_noise_off():
    """Why it is no one-time pad: each encryption of one photo spends epsilon anew."""
    photo = pictures(1, 1, 32, 32).expand(400, -1, -1, -1)
    mosaic = Mosaic(8).encrypt(photo[:1], ())
    hidden = DpPix(8, 4, 1.0, KEY).encrypt(photo, nonces(400))
    once = (hidden[:1] - mosaic).abs().mean()
    assert (hidden.mean(0, keepdim=True) - mosaic).abs().mean() < once / 4
