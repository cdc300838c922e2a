"""The exact channels do what their names say: each is held against a computation of its own."""

import io

import numpy
import pytest
import torch
from PIL import ExifTags, Image, PngImagePlugin
from torch.nn import functional as F

from ddm_core.channel import round_to_8_bits, to_pillow, to_uint8
from ddm_core.channel_names import LAB_CHANNELS, distinct_channels
from ddm_core.exact_channels import EXACT_CHANNELS, share_on_photo_site
from ddm_core.metrics import psnr_db
from ddm_core.reporting.wording import channel_label
from ddm_core.results import CHANNELS
from ddm_core.seeding import torch_generator

QUALITIES = (95, 85, 75, 50, 30)
SIZES = [(32, 48), (29, 35)]


def smooth_photos(channels, size, count=2):
    """Smooth pictures with a little noise, multiples of 1/255."""
    draws = torch_generator(0, f"tests/exact/{channels}/{size}")
    coarse = torch.rand(count, channels, 6, 6, generator=draws)
    smooth = F.interpolate(coarse, size, mode="bicubic")
    return round_to_8_bits(smooth + 0.02 * torch.randn(smooth.shape, generator=draws))


@pytest.fixture(params=[(channels, size) for channels in (1, 3) for size in SIZES], ids=str)
def photos(request):
    """Grey and RGB photos of even and of odd sides."""
    return smooth_photos(*request.param)


def by_pillow(images, change):
    """The images, each changed as a Pillow image."""
    changed = [numpy.asarray(change(to_pillow(array))) for array in to_uint8(images)]
    return (
        torch.from_numpy(numpy.stack(changed)).view(*images.shape[:1], *images.shape[2:], -1).movedim(-1, 1)
        / 255.0
    )


def through_file(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def halved(side):
    return max(1, round(side / 2))


def levels_apart(images, others):
    """Mean absolute difference in steps of 1/255."""
    return ((images - others) * 255.0).abs().mean().item()


# Names


def test_every_name_has_its_channel_and_every_channel_its_name():
    assert tuple(EXACT_CHANNELS) == LAB_CHANNELS
    assert len(set(LAB_CHANNELS)) == len(LAB_CHANNELS)


def test_the_main_pipelines_channels_are_among_them_in_the_same_order():
    assert tuple(name for name in LAB_CHANNELS if name in CHANNELS) == CHANNELS


def test_every_channel_has_a_label_of_its_own_in_words():
    labels = [channel_label(name) for name in LAB_CHANNELS]
    assert not set(labels) & set(LAB_CHANNELS)
    assert len(set(labels)) == len(labels)


def test_names_that_differ_for_colour_alone_are_left_out_for_grey():
    assert distinct_channels(LAB_CHANNELS, 3) == LAB_CHANNELS
    left_out = [name for name in LAB_CHANNELS if name not in distinct_channels(LAB_CHANNELS, 1)]
    assert left_out == [f"jpeg{quality}_444" for quality in QUALITIES]


def test_what_is_left_out_for_grey_is_bit_by_bit_what_stays():
    grey = smooth_photos(1, (29, 35))
    for name in set(LAB_CHANNELS) - set(distinct_channels(LAB_CHANNELS, 1)):
        assert EXACT_CHANNELS[name](grey).equal(EXACT_CHANNELS[name.removesuffix("_444")](grey)), name


# What all of them keep


@pytest.mark.parametrize("name", LAB_CHANNELS)
def test_every_channel_keeps_the_shape_and_gives_8_bit_images_like_the_photo(photos, name):
    received = EXACT_CHANNELS[name](photos)
    assert received.shape == photos.shape
    assert received.dtype == photos.dtype
    assert received.min() >= 0
    assert received.max() <= 1
    assert received.equal((received * 255.0).round() / 255.0)
    assert psnr_db(received, photos).min() > 17


@pytest.mark.parametrize("name", LAB_CHANNELS)
def test_every_channel_does_the_same_each_time_to_each_image_alone(photos, name):
    received = EXACT_CHANNELS[name](photos)
    assert EXACT_CHANNELS[name](photos).equal(received)
    assert EXACT_CHANNELS[name](photos[1:]).equal(received[1:])


@pytest.mark.parametrize("name", LAB_CHANNELS)
def test_every_channel_stores_its_images_in_8_bits_before_anything_else(name):
    wild = 2 * smooth_photos(3, (29, 35)) - 0.5 + 0.001
    assert EXACT_CHANNELS[name](wild).equal(EXACT_CHANNELS[name](round_to_8_bits(wild)))


@pytest.mark.parametrize("name", LAB_CHANNELS)
def test_an_even_picture_stays_what_it_is(name):
    even = torch.full((1, 3, 29, 35), 128 / 255.0)
    assert ((EXACT_CHANNELS[name](even) - even) * 255.0).abs().max() < 1.5


def test_harsher_channels_lose_more():
    photos = smooth_photos(3, (64, 48))
    loss = {name: levels_apart(channel(photos), photos) for name, channel in EXACT_CHANNELS.items()}
    for suffix in ("", "_444"):
        by_quality = [loss[f"jpeg{quality}{suffix}"] for quality in QUALITIES]
        assert by_quality == sorted(by_quality)
    assert loss["png"] == 0 < loss["jpeg95"]
    assert loss["resize75"] < loss["resize50"] < loss["resize25"]
    assert loss["resize50"] < loss["photo_site"]
    assert all(loss[f"jpeg{quality}_444"] < loss[f"jpeg{quality}"] for quality in (95, 85, 75))


# Each against a computation of its own


def test_png_keeps_every_8_bit_value():
    images = torch.arange(256).view(1, 1, 16, 16) / 255.0
    assert EXACT_CHANNELS["png"](images).equal(images)
    colours = smooth_photos(3, (29, 35))
    assert EXACT_CHANNELS["png"](colours).equal(colours)


@pytest.mark.parametrize("quality", QUALITIES)
def test_jpeg_is_pillows_at_that_quality_and_subsampling(photos, quality):
    for name, subsampling in ((f"jpeg{quality}", 2), (f"jpeg{quality}_444", 0)):
        options = {"quality": quality, "subsampling": subsampling}
        expected = by_pillow(photos, lambda image, options=options: through_file(image, "JPEG", **options))
        assert EXACT_CHANNELS[name](photos).equal(expected)


def test_webp_is_the_lossy_kind_at_quality_80(photos):
    options = {"quality": 80, "lossless": False}
    expected = by_pillow(
        photos, lambda image: through_file(image.convert("RGB"), "WEBP", **options).convert(image.mode)
    )
    received = EXACT_CHANNELS["webp"](photos)
    assert received.equal(expected)
    assert not received.equal(photos)


@pytest.mark.parametrize("percent", [75, 50, 25])
def test_resizing_is_bicubic_to_that_share_of_both_sides_and_back(photos, percent):
    height, width = photos.shape[-2:]
    small = (round(width * percent / 100), round(height * percent / 100))
    expected = by_pillow(
        photos,
        lambda image: image.resize(small, Image.Resampling.BICUBIC).resize(
            (width, height), Image.Resampling.BICUBIC
        ),
    )
    assert EXACT_CHANNELS[f"resize{percent}"](photos).equal(expected)


@pytest.mark.parametrize(("side", "margin"), [(16, 1), (32, 1), (64, 3), (101, 4), (112, 4)])
def test_cropping_takes_4_percent_of_each_side_and_at_least_one_pixel(side, margin):
    photos = smooth_photos(1, (side, side), count=1)
    changed = (EXACT_CHANNELS["crop_pad"](photos) != photos)[0, 0]
    inner = slice(margin, side - margin)
    assert not changed[inner, inner].any()
    # the photo is noisy: repeating an edge changes what was beyond it
    assert changed[margin - 1].any()
    assert changed[:, side - margin].any()


def test_cropped_margins_repeat_the_edge_and_positions_stay(photos):
    height, width = photos.shape[-2:]
    down, across = max(1, round(0.04 * height)), max(1, round(0.04 * width))
    rows = torch.arange(height).clamp(down, height - 1 - down)
    columns = torch.arange(width).clamp(across, width - 1 - across)
    assert EXACT_CHANNELS["crop_pad"](photos).equal(photos[:, :, rows][..., columns])


def test_margins_follow_each_side_of_an_oblong_photo():
    photo = smooth_photos(3, (25, 100), count=1)
    received = EXACT_CHANNELS["crop_pad"](photo)
    assert received[..., 1:-1, 4:-4].equal(photo[..., 1:-1, 4:-4])
    assert received[..., :, 3].equal(received[..., :, 4])


def test_a_photo_site_halves_codes_as_jpeg_75_and_the_receiver_enlarges(photos):
    def chain(image):
        half = image.resize((halved(image.width), halved(image.height)), Image.Resampling.BICUBIC)
        coded = through_file(half, "JPEG", quality=75, subsampling="4:2:0")
        return coded.resize(image.size, Image.Resampling.BICUBIC)

    assert EXACT_CHANNELS["photo_site"](photos).equal(by_pillow(photos, chain))


# What a photo site does to a file


def with_metadata(kind, orientation=1):
    """A photo file as a camera writes it: maker, place, orientation, comment, profile, XMP."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera Maker"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 12.0, 19.0)
    image = to_pillow(to_uint8(smooth_photos(3, (32, 48), count=1))[0])
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "Anna at home")
    options = {"pnginfo": text} if kind == "PNG" else {"comment": b"Anna at home", "xmp": b"<x:xmpmeta/>"}
    file = io.BytesIO()
    image.save(file, kind, exif=exif, icc_profile=b"a colour profile", **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_site_strips_all_metadata(kind):
    upload = with_metadata(kind)
    before = Image.open(io.BytesIO(upload))
    assert before.getexif()[ExifTags.Base.Make] == "Camera Maker"
    assert before.getexif().get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (52, 12, 19)
    assert b"Anna at home" in upload
    assert "icc_profile" in before.info

    shown = share_on_photo_site(upload)
    after = Image.open(io.BytesIO(shown))
    assert dict(after.getexif()) == {}
    assert set(after.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    for trace in (b"Camera Maker", b"Exif", b"Anna", b"colour profile", b"xmpmeta"):
        assert trace not in shown
    segments = {name for name, _ in after.applist}
    assert segments == {"APP0"}  # JFIF's own header


def test_a_photo_site_serves_a_jpeg_of_half_the_size_with_subsampled_chroma():
    shown = Image.open(io.BytesIO(share_on_photo_site(with_metadata("JPEG"))))
    assert (shown.format, shown.mode, shown.size) == ("JPEG", "RGB", (24, 16))
    assert [layer[1:3] for layer in shown.layer] == [(2, 2), (1, 1), (1, 1)]
    reference = io.BytesIO()
    Image.new("RGB", (8, 8)).save(reference, "JPEG", quality=75)
    assert shown.quantization == Image.open(reference).quantization


def test_a_photo_site_turns_a_photo_upright_before_it_forgets_how_the_camera_was_held():
    upright = Image.open(io.BytesIO(share_on_photo_site(with_metadata("PNG"))))
    turned = Image.open(io.BytesIO(share_on_photo_site(with_metadata("PNG", orientation=6))))
    assert turned.size == upright.size[::-1]
    back = numpy.asarray(turned.transpose(Image.Transpose.ROTATE_90), dtype=float)
    assert numpy.abs(back - numpy.asarray(upright, dtype=float)).mean() < 3
