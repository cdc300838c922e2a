"""The differentiable channel does what libjpeg and Pillow do, and lets the gradient through."""

import io

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import fft
from torch.testing import assert_close

from ddm_core.channel import (
    from_coefficients,
    luma,
    quantisation_table,
    round_to_8_bits,
    simulate_jpeg,
    simulate_resize,
    to_coefficients,
    to_pillow,
    to_uint8,
)
from ddm_core.exact_channels import EXACT_CHANNELS, real_jpeg
from ddm_core.seeding import torch_generator

QUALITIES = (30, 50, 75, 85, 95)
SUBSAMPLINGS = ("4:2:0", "4:4:4")


@pytest.fixture(scope="module")
def photo():
    """A smooth 64 x 48 grey picture with a little noise, [1, 1, 64, 48], multiples of 1/255."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    noise = torch.rand(64, 48, generator=torch_generator(0, "tests/channel"))
    picture = 0.45 + 0.3 * torch.sin(columns / 7) * torch.cos(rows / 9) + 0.1 * noise
    return round_to_8_bits(picture)[None, None]


@pytest.fixture(scope="module", params=[(64, 48), (50, 37), (17, 33)], ids=str)
def colour_photos(request):
    """Four smooth colour pictures with a little noise of each channel's own, also of odd sizes."""
    draws = torch_generator(0, f"tests/channel/{request.param}")
    coarse = torch.rand(4, 3, 5, 5, generator=draws)
    smooth = torch.nn.functional.interpolate(coarse, request.param, mode="bicubic")
    return round_to_8_bits(smooth + 0.03 * torch.randn(smooth.shape, generator=draws))


def levels_apart(images, others):
    """Absolute differences in steps of 1/255."""
    return ((images - others) * 255.0).abs()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-2, 3, width=32), min_size=1, max_size=20))
def test_rounding_gives_the_nearest_8_bit_value(values):
    rounded = round_to_8_bits(torch.tensor(values))
    assert rounded.min() >= 0
    assert rounded.max() <= 1
    steps = rounded * 255.0
    assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    assert levels_apart(rounded, torch.tensor(values).clamp(0, 1)).max() <= 0.5 + 1e-4


def test_rounding_passes_the_gradient_straight_through_where_it_does_not_clip():
    values = torch.tensor([-0.5, 0.1234, 0.7, 1.5], requires_grad=True)
    round_to_8_bits(values).sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_coefficients_are_the_orthonormal_dct_of_8_by_8_blocks_and_lead_back():
    images = torch.rand(2, 3, 16, 24, generator=torch_generator(0, "tests/dct"))
    coefficients = to_coefficients(images)
    assert coefficients.shape == (2, 3, 2, 3, 64)
    block = (images[1, 2, 8:16, 16:24] * 255.0 - 128.0).double().numpy()
    expected = fft.dctn(block, norm="ortho").flatten()
    assert coefficients[1, 2, 1, 2].numpy() == pytest.approx(expected, abs=2e-3)
    assert_close(from_coefficients(coefficients), images, rtol=0, atol=1e-5)


def test_quantisation_tables_are_libjpegs_at_every_quality():
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
        luminance, chrominance = Image.open(buffer).quantization.values()
        assert quantisation_table(quality).tolist() == luminance, quality
        assert quantisation_table(quality, chrominance=True).tolist() == chrominance, quality


@pytest.mark.parametrize("quality", QUALITIES)
def test_simulated_jpeg_is_libjpegs_up_to_rounding(photo, quality):
    """libjpeg's transform rounds to 1/8: a coefficient halfway between two steps may go either way."""
    simulated, real = simulate_jpeg(photo, quality), real_jpeg(photo, quality)
    apart = levels_apart(simulated, real)
    assert (apart < 1.5).float().mean() > 0.85
    assert apart.mean() < 0.6
    assert apart.square().mean().sqrt() < levels_apart(real, photo).square().mean().sqrt() / 2


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_simulated_colour_jpeg_is_libjpegs_up_to_rounding(colour_photos, quality, subsampling):
    simulated = simulate_jpeg(colour_photos, quality, subsampling)
    real = real_jpeg(colour_photos, quality, subsampling)
    apart = levels_apart(simulated, real)
    assert apart.mean() < 1.5
    assert (apart < 3.5).float().mean() > 0.9
    assert apart.square().mean().sqrt() < levels_apart(real, colour_photos).square().mean().sqrt() / 2


def test_each_subsampling_is_simulated_nearer_to_its_own_kind_than_to_the_other(colour_photos):
    for own, other in (SUBSAMPLINGS, SUBSAMPLINGS[::-1]):
        simulated = simulate_jpeg(colour_photos, 85, own)
        to_own = levels_apart(simulated, real_jpeg(colour_photos, 85, own)).mean()
        assert to_own < levels_apart(simulated, real_jpeg(colour_photos, 85, other)).mean() / 2


@pytest.mark.parametrize("jpeg", [simulate_jpeg, real_jpeg])
def test_colour_is_subsampled_unless_asked_otherwise(jpeg):
    """One-pixel stripes of red and blue: 4:2:0 has one chroma sample for both, 4:4:4 one for each."""
    stripes = torch.zeros(1, 3, 16, 16)
    stripes[:, 0, :, ::2] = stripes[:, 2, :, 1::2] = 1.0
    subsampled, whole = (jpeg(stripes, 95, subsampling)[0, :, :, ::2] for subsampling in SUBSAMPLINGS)
    assert (whole[0] - whole[2]).mean() > 0.9
    assert (subsampled[0] - subsampled[2]).mean() < 0.5
    assert jpeg(stripes, 95).equal(jpeg(stripes, 95, "4:2:0"))


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_simulated_jpeg_of_neutral_colours_is_that_of_grey_bit_by_bit(photo, quality, subsampling):
    """Why keyed DDM draws luma only: chroma subsampling has nothing to throw away."""
    neutral = simulate_jpeg(photo.expand(-1, 3, -1, -1), quality, subsampling)
    assert neutral.equal(simulate_jpeg(photo, quality).expand_as(neutral))


def test_luma_is_pillows_grey(colour_photos):
    grey = [numpy.array(to_pillow(array).convert("L")) for array in to_uint8(colour_photos)]
    expected = torch.from_numpy(numpy.stack(grey))[:, None] / 255.0
    assert levels_apart(luma(colour_photos), expected).max() < 1
    assert luma(expected).equal(expected)


@pytest.mark.parametrize("percent", [75, 50])
def test_simulated_resizing_is_pillows_bicubic_up_to_rounding(photo, percent):
    simulated, real = simulate_resize(photo, percent / 100), EXACT_CHANNELS[f"resize{percent}"](photo)
    apart = levels_apart(simulated, real)
    assert apart.max() < 2.5
    assert apart.mean() < 0.5


def test_resizing_to_the_same_size_changes_nothing(photo):
    assert_close(simulate_resize(photo, 1.0), photo, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "channel",
    [
        *[pytest.param(lambda x, q=q: simulate_jpeg(x, q), id=f"jpeg{q}") for q in QUALITIES],
        *[
            pytest.param(
                lambda x, s=s: simulate_jpeg(torch.cat([x, x.flip(2), 1 - x], dim=1), 75, s)[:, :1],
                id=f"colour{s}",
            )
            for s in SUBSAMPLINGS
        ],
        *[pytest.param(lambda x, s=s: simulate_resize(x, s), id=f"resize{s}") for s in (0.5, 0.75)],
    ],
)
def test_gradients_through_the_channel_are_finite_and_reach_every_pixel(photo, channel):
    wanted = photo.flip(3)
    images = photo.clone().requires_grad_()
    received = channel(images)
    (received - wanted).square().sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.9
    # a step against the gradient brings the received picture nearer to the wanted one
    with torch.no_grad():
        nearer = channel((images - 0.05 * images.grad).clamp(0, 1))
    assert (nearer - wanted).square().sum() < (received - wanted).square().sum()


def test_real_jpeg_of_a_grey_carrier_repeated_over_rgb_survives_chroma_subsampling(photo):
    grey = EXACT_CHANNELS["jpeg75"](photo)
    colour = EXACT_CHANNELS["jpeg75"](photo.expand(-1, 3, -1, -1))
    assert levels_apart(colour, grey).max() < 2.5


def test_images_become_pillow_images_and_8_bit_arrays():
    images = torch.tensor([[-0.1, 0.5], [1.0, 2.0]]).expand(1, 3, 2, 2)
    array = to_uint8(images)
    assert array.dtype == numpy.uint8
    assert array[0, :, :, 0].tolist() == [[0, 128], [255, 255]]
    assert to_pillow(array[0]).mode == "RGB"
    assert to_pillow(array[0, :, :, :1]).mode == "L"
