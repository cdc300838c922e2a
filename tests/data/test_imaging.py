"""Any photo file becomes a square uint8 array, or one line that says why not."""

import io
import struct
import zlib

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddm_core.data.alignment import align
from ddm_core.data.imaging import decode, encode_png
from ddm_core.data.raw import Region
from ddm_core.errors import DdmError


def encoded(image, suffix="PNG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, format=suffix, **settings)
    return buffer.getvalue()


def grey(content, size=16, square="crop"):
    return decode(content, image_size=size, channels=1, square=square)


def colour(content, size=16, square="crop"):
    return decode(content, image_size=size, channels=3, square=square)


def ramp(width, height):
    """Grey from 0 at the left to 255 at the right."""
    return Image.fromarray(numpy.tile(numpy.linspace(0, 255, width).astype(numpy.uint8), (height, 1)))


PHOTO = ramp(40, 32)
# EXIF orientation -> what turns an upright image into the one to be stored under it.
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(upright, orientation):
    return upright.transpose(UNDO[orientation]) if orientation in UNDO else upright


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "WEBP", "BMP", "PPM"])
def test_every_format_decodes_by_content_to_the_shape_asked_for(suffix):
    content = encoded(PHOTO, suffix)
    assert grey(content).shape == (1, 16, 16)
    assert colour(content).shape == (3, 16, 16)
    assert colour(content).dtype == numpy.uint8
    assert abs(grey(content).astype(int) - grey(encoded(PHOTO)).astype(int)).max() <= 6


def test_a_photo_already_square_and_of_the_right_size_keeps_every_pixel():
    pixels = numpy.arange(256, dtype=numpy.uint8).reshape(1, 16, 16)
    assert numpy.array_equal(grey(encode_png(pixels)), pixels)


@given(seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([1, 3]))
def test_png_encoding_is_lossless_and_repeatable(seed, channels):
    pixels = numpy.random.default_rng(seed).integers(0, 256, (channels, 16, 16), dtype=numpy.uint8)
    assert encode_png(pixels) == encode_png(pixels.copy())
    assert numpy.array_equal(
        decode(encode_png(pixels), image_size=16, channels=channels, square="pad"), pixels
    )


def test_crop_takes_the_centre():
    image = Image.new("L", (48, 16), 0)
    image.paste(200, (16, 0, 32, 16))
    assert (grey(encoded(image)) == 200).all()


def test_pad_repeats_the_edge_and_keeps_the_whole_photo():
    image = Image.new("L", (16, 8), 50)
    image.paste(200, (0, 0, 16, 4))
    padded = grey(encoded(image), square="pad")[0]
    assert (padded[:6] == 200).all()
    assert (padded[-6:] == 50).all()


def test_a_strip_of_extreme_shape_pads_without_a_huge_square():
    assert grey(encoded(Image.new("L", (30_000, 1), 7)), square="pad").tolist() == [[[7] * 16] * 16]


def test_shrinking_is_antialiased():
    stripes = Image.fromarray(numpy.tile(numpy.array([0, 255], numpy.uint8), (256, 128)))
    inner = grey(encoded(stripes))[0, 2:-2, 2:-2].astype(int)
    assert abs(inner - 128).max() <= 4


def test_16_bit_png_and_pgm_keep_their_brightness():
    levels = numpy.tile(numpy.linspace(0, 65535, 16).astype(numpy.uint16), (16, 1))
    expected = numpy.round(levels / 257).astype(numpy.uint8)
    png = encoded(Image.fromarray(levels))
    pgm = b"P5 16 16 65535\n" + levels.astype(">u2").tobytes()
    assert numpy.array_equal(grey(png)[0], expected)
    assert numpy.array_equal(grey(pgm)[0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_photo_upright(orientation):
    upright = Image.new("L", (32, 32), 0)
    upright.paste(255, (0, 0, 16, 16))  # the bright quarter is at the top left when upright
    stored = turned(upright, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = grey(encoded(stored, "JPEG", exif=exif, quality=95))[0]
    assert decoded[:7, :7].min() > 240
    assert decoded[:, 9:].max() < 15
    assert decoded[9:].max() < 15


def test_transparency_is_laid_over_white():
    half = numpy.zeros((16, 16, 4), numpy.uint8)
    half[..., 3] = 255
    half[:, 8:, 3] = 0
    rgba = colour(encoded(Image.fromarray(half)))
    assert (rgba[:, :, :8] == 0).all()
    assert (rgba[:, :, 8:] == 255).all()


def test_palette_with_a_transparent_colour_is_laid_over_white():
    image = Image.new("P", (16, 16), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (8, 0, 16, 16))
    decoded = colour(encoded(image, transparency=0))
    assert (decoded[:, :, :8] == 255).all()
    assert decoded[:, 0, 15].tolist() == [200, 100, 50]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_white_is_white_in_every_mode(mode):
    image = Image.new("RGB", (20, 20), "white").convert(mode)
    assert (colour(encoded(image, "JPEG" if mode == "CMYK" else "PNG")) >= 254).all()


def test_grey_is_the_luma_of_colour():
    assert grey(encoded(Image.new("RGB", (16, 16), (255, 0, 0)))).max() == 76  # 0.299 * 255


def bomb(width, height):
    """A valid PNG header that promises far more pixels than the file holds."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def corrupt_png():
    content = bytearray(
        encode_png(numpy.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=numpy.uint8))
    )
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


UNREADABLE = {
    "empty": (b"", "empty"),
    "text": (b"This is not a photo.", "not an image"),
    "gif": (encoded(PHOTO, "GIF"), "not an image in a known format"),
    "truncated jpeg": (encoded(PHOTO, "JPEG")[:-200], "truncated"),
    "truncated png": (encoded(PHOTO)[:-60], "truncated"),
    "truncated bmp": (encoded(PHOTO, "BMP")[:-60], "truncated"),
    "truncated webp": (encoded(PHOTO, "WEBP")[:-60], "truncated"),
    "truncated pgm": (encoded(PHOTO, "PPM")[:-60], "truncated"),
    "header alone": (encoded(PHOTO)[:20], "corrupt or truncated|not an image"),
    "flipped byte": (corrupt_png(), "corrupt"),
    "bomb of 400 megapixels": (bomb(20_000, 20_000), "megapixels"),
    "bomb of 90 megapixels": (bomb(10_000, 9_000), "megapixels"),
    "bomb of 81 megapixels": (bomb(9_000, 9_000), "megapixels"),
    "side of 2 billion": (bomb(2_000_000_000, 1), "megapixels"),
    "side of 40000": (bomb(40_000, 2), "30000 a side"),
    "float samples": (b"Pf\n2 2\n-1.0\n" + bytes(16), "floating-point"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_file_gets_a_one_line_reason(name):
    content, reason = UNREADABLE[name]
    with pytest.raises(DdmError, match=reason) as caught:
        grey(content)
    assert "\n" not in str(caught.value)


@given(
    suffix=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "PPM"]),
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_a_damaged_file_decodes_or_is_refused_but_never_crashes(suffix, place, byte, cut):
    content = bytearray(encoded(PHOTO, suffix))
    index = int(place * len(content))
    content[index] = byte
    try:
        decoded = colour(bytes(content[: index + 1] if cut else content))
    except DdmError as error:
        assert "\n" not in str(error)
    else:
        assert decoded.shape == (3, 16, 16)


def noise(width, height, seed=0):
    """A colour photo in which no two parts are alike."""
    return Image.fromarray(
        numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    )


def of_region(image, region, margin=0.0, square="crop", **settings):
    content = encoded(image, **settings)
    return decode(content, image_size=16, channels=3, square=square, region=region, margin=margin)


@given(
    box=st.tuples(st.integers(0, 29), st.integers(0, 19), st.integers(1, 30), st.integers(1, 20)),
    square=st.sampled_from(["crop", "pad"]),
)
def test_a_box_gives_the_photo_that_was_cut_to_it(box, square):
    left, top, width, height = box
    box = left, top, min(30, left + width), min(20, top + height)
    cut = noise(30, 20).crop(box)
    assert numpy.array_equal(
        of_region(noise(30, 20), Region(box), square=square), colour(encoded(cut), square=square)
    )


@pytest.mark.parametrize(
    ("box", "margin", "whole"),
    [
        ((10, 10, 20, 30), 0.5, (5, 0, 25, 40)),
        ((10, 10, 20, 30), 0.25, (7, 5, 23, 35)),
        ((10.6, 10.4, 19.2, 30), 0, (10, 10, 20, 30)),
        ((-5, -5, 20, 30), 0, (0, 0, 20, 30)),
        ((30, 30, 60, 70), 0.1, (27, 26, 40, 50)),
        ((-100, -100, 900, 900), 9, (0, 0, 40, 50)),
    ],
)
def test_a_margin_widens_the_box_to_whole_pixels_as_far_as_the_photo_goes(box, margin, whole):
    photo = noise(40, 50)
    expected = of_region(photo, Region(whole))
    assert numpy.array_equal(of_region(photo, Region(box), margin), expected)


@pytest.mark.parametrize(
    "box",
    [(40, 0, 50, 10), (0, 50, 10, 60), (-9, 0, 0, 9), (5, 5, 5, 9), (9, 9, 5, 5), (0, 0, float("nan"), 9)],
)
def test_a_box_that_holds_nothing_of_the_photo_is_refused(box):
    with pytest.raises(DdmError, match="holds nothing of the photo of 40 x 50 pixels; mend the box"):
        of_region(noise(40, 50), Region(box))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_is_meant_in_pixels_as_stored_before_the_exif_orientation(orientation):
    upright, box = noise(30, 44), (5, 7, 20, 17)
    landmarks = ((8, 9), (21, 8), (15, 16), (9, 24), (20, 25))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = turned(upright, orientation)

    def mark(*rectangle):
        """Where a rectangle of the upright photo lies in the stored one."""
        mask = Image.new("L", upright.size)
        mask.paste(255, rectangle)
        return turned(mask, orientation).getbbox()

    by_box = of_region(stored, Region(mark(*box)), exif=exif)
    assert numpy.array_equal(by_box, of_region(upright, Region(box)))
    points = tuple(mark(x, y, x + 1, y + 1)[:2] for x, y in landmarks)
    by_landmarks = of_region(stored, Region(landmarks=points), exif=exif)
    assert numpy.array_equal(by_landmarks, of_region(upright, Region(landmarks=landmarks)))


def test_landmarks_give_the_aligned_face_whatever_the_box_and_the_square_say():
    landmarks = ((12, 15), (28, 14), (20, 22), (13, 31), (27, 30))
    expected = align(noise(40, 50), landmarks, 16)
    for square in ("crop", "pad"):
        region = Region((0, 0, 3, 3), landmarks)
        assert numpy.array_equal(of_region(noise(40, 50), region, 0.5, square), expected)
    grey_face = decode(
        encoded(noise(40, 50)), image_size=16, channels=1, square="crop", region=Region(landmarks=landmarks)
    )
    assert numpy.array_equal(grey_face, align(noise(40, 50).convert("L"), landmarks, 16))


def test_a_region_that_says_nothing_changes_nothing():
    assert numpy.array_equal(of_region(noise(40, 50), Region(), 0.5), colour(encoded(noise(40, 50))))


def test_a_box_of_a_palette_photo_keeps_its_transparency():
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (16, 0, 32, 32))
    region = Region((8, 0, 24, 16))
    cut = of_region(image, region, transparency=0)
    assert (cut[:, :, :8] == 255).all()
    assert cut[:, 8, 12].tolist() == [200, 100, 50]


def test_a_box_of_a_16_bit_photo_keeps_its_brightness():
    levels = numpy.tile(numpy.linspace(0, 65535, 32).astype(numpy.uint16), (32, 1))
    cut = of_region(Image.fromarray(levels), Region((16, 8, 32, 24)))
    assert numpy.array_equal(cut[0, 0], numpy.round(levels[0, 16:] / 257).astype(numpy.uint8))
