"""The code band brings the header through what photo sites do, and says clearly when it cannot."""

import dataclasses
import io
import os

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddm_core.errors import DdmError
from ddm_core.photos.band import append_band, cut_payload, layout, payload_size, read_band
from ddm_core.photos.header import (
    MAX_REGIONS,
    MAX_SIDE,
    PARITY_BYTES,
    Box,
    DamagedError,
    Header,
    pack_extension,
    pack_primary,
    unpack_extension,
    unpack_primary,
)

SIDES = st.integers(1, MAX_SIDE)
FIXED = {"nonce": bytes(range(12)), "key_id": b"eight by", "model_id": b"four"}
KEY = bytes(range(32))
some = settings(max_examples=80, deadline=None)


@st.composite
def headers(draw, sides=SIDES):
    width, height = draw(sides), draw(sides)

    def box():
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        return Box(left, top, draw(st.integers(1, width - left)), draw(st.integers(1, height - top)))

    return Header(
        nonce=draw(st.binary(min_size=12, max_size=12)),
        key_id=draw(st.binary(min_size=8, max_size=8)),
        model_id=draw(st.binary(min_size=4, max_size=4)),
        width=width,
        height=height,
        patch=draw(st.integers(1, 15)),
        carrier=draw(st.integers(1, 15)),
        grey=draw(st.booleans()),
        regions=tuple(box() for _ in range(draw(st.sampled_from([0, 0, 1, 3, 40, MAX_REGIONS])))),
        tag=draw(st.binary(min_size=8, max_size=8)),
    )


def noise(header, random=None, colour=False):
    """A picture to send: noise in the place of the encrypted photo, as it looks."""
    width, height = payload_size(header)
    random = random or numpy.random.default_rng(0)
    return append_band(random.integers(60, 200, (height, width, 3)[: 2 + colour], dtype=numpy.uint8), header)


def header_of(width, height, **changes):
    return dataclasses.replace(
        Header(width=width, height=height, patch=4, carrier=4, grey=True, **FIXED), **changes
    )


def site(pixels, scale=1.0, quality=None, resampling=Image.Resampling.LANCZOS):
    """What a photo site makes of a picture: scaled, recompressed 4:2:0, metadata gone; in grey."""
    image = Image.fromarray(pixels).convert("RGB")
    if scale != 1.0:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, resampling)
    if quality is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        image = Image.open(io.BytesIO(buffer.getvalue()))
    return image.convert("L")


# The header as bytes


@some
@given(headers())
def test_a_header_is_read_back(header):
    read, regions = unpack_primary(pack_primary(header))
    assert regions == len(header.regions)
    if regions:
        read = unpack_extension(read, pack_extension(header))
    assert read == header


@some
@given(headers(), st.data())
def test_ten_wrong_bytes_are_corrected_and_many_are_noticed(header, data):
    block = bytearray(pack_primary(header))
    count = data.draw(st.integers(0, PARITY_BYTES // 2))
    for place in data.draw(st.permutations(range(len(block))))[:count]:
        block[place] ^= data.draw(st.integers(1, 255))
    assert unpack_primary(bytes(block))[0].nonce == header.nonce


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=64, max_size=64))
def test_any_bytes_are_a_header_or_one_clear_line(block):
    try:
        unpack_primary(block)
    except DdmError as error:
        assert "\n" not in str(error)


@some
@given(headers(), st.binary(max_size=600))
def test_a_damaged_extension_is_noticed(header, blocks):
    if blocks != pack_extension(header):
        with pytest.raises(DamagedError):
            unpack_extension(header, blocks)


def test_a_later_version_is_named(monkeypatch):
    monkeypatch.setattr("ddm_core.photos.header.VERSION", 9)
    block = pack_primary(header_of(64, 64))
    monkeypatch.undo()
    with pytest.raises(DdmError, match="unsupported format version 9, this code reads 1"):
        unpack_primary(block)


@some
@given(headers(), st.data())
def test_the_tag_covers_every_field_and_the_key(header, data):
    signed = header.signed(KEY)
    signed.check(KEY)
    changed = dataclasses.replace(
        signed,
        **data.draw(st.sampled_from([
            {"nonce": bytes(12)}, {"key_id": bytes(8)}, {"model_id": bytes(4)}, {"patch": header.patch ^ 1},
            {"width": header.width + 1}, {"grey": not header.grey}, {"regions": (Box(0, 0, 1, 1),) * 2},
        ])),
    )  # fmt: skip
    if changed != signed:
        with pytest.raises(DdmError, match="wrong key, or a header that was changed"):
            changed.check(KEY)
    with pytest.raises(DdmError, match="wrong key"):
        signed.check(bytes(32))


# Through the internet


SIZES = [
    (64, 64),
    (64, 4000),
    (4000, 64),
    (92, 112),
    (131, 97),
    (250, 250),
    (640, 427),
    (1023, 767),
    (3000, 1999),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.77, 0.5])
def test_the_header_survives_scaling_and_recompression(size, scale):
    header = header_of(*size)
    for resampling in (Image.Resampling.LANCZOS, Image.Resampling.BOX, Image.Resampling.BILINEAR):
        assert read_band(site(noise(header), scale, 75, resampling)) == header


@settings(max_examples=25, deadline=None)
@given(headers(st.integers(64, 700)), st.floats(0.5, 1.3), st.integers(60, 95))
def test_any_header_survives_the_chain_at_any_scale(header, scale, quality):
    header = dataclasses.replace(header, patch=8, carrier=12)
    assert read_band(site(noise(header), scale, quality)) == header


def test_a_thousand_photos():
    """Sizes from 64 to 4000 pixels a side, any aspect, half the size, then JPEG 75: at most one is lost.

    By default a sample of 100; DDM_BAND_PHOTOS=1000 for all.
    """
    count = int(os.environ.get("DDM_BAND_PHOTOS", "100"))
    random = numpy.random.default_rng(1)
    lost = []
    for _ in range(count):
        width, height = numpy.exp(random.uniform(numpy.log(64), numpy.log(4000), 2)).astype(int).tolist()
        header = header_of(width, height, nonce=random.bytes(12), key_id=random.bytes(8), tag=random.bytes(8))
        try:
            assert read_band(site(noise(header, random), 0.5, 75)) == header
        except (DdmError, AssertionError):
            lost.append((width, height))
    assert len(lost) <= count // 1000, lost


def test_the_payload_comes_back_in_its_size_and_exactly_without_scaling():
    header = header_of(301, 203)
    pixels = noise(header)
    same = cut_payload(Image.fromarray(pixels), header)
    assert numpy.array_equal(numpy.asarray(same), pixels[:204, :304])
    scaled = cut_payload(site(pixels, 0.5), header)
    assert scaled.size == (304, 204)


def test_the_band_does_not_reach_into_the_photo_when_scaled():
    """A photo of one grey stays that grey to its last row, halved and scaled back."""
    header = header_of(640, 480)
    flat = append_band(numpy.full((480, 640), 128, numpy.uint8), header)
    back = numpy.asarray(cut_payload(site(flat, 0.5), header), int)
    assert abs(back - 128).max() <= 1


def test_the_band_takes_a_small_part_of_a_large_photo():
    for width, height in ((4000, 3000), (3000, 4000), (2048, 1365)):
        place = layout(header_of(width, height))
        assert place.width * place.height < 1.06 * width * height


# What is refused


def refused(picture):
    with pytest.raises(DdmError) as raised:
        read_band(picture)
    return str(raised.value)


@pytest.mark.parametrize("size", [(92, 112), (640, 427), (1500, 1000)], ids=str)
@pytest.mark.parametrize("side", ["top", "left", "right", "bottom", "bottom row", "everywhere"])
def test_a_cropped_photo_is_called_cropped(size, side):
    picture = site(noise(header_of(*size)), 0.8, 80)
    width, height = picture.size
    square = round(layout(header_of(*size)).width / layout(header_of(*size)).columns * 0.8)
    box = {
        "top": (0, height // 5, width, height), "left": (width // 6, 0, width, height),
        "right": (0, 0, width - width // 7, height), "bottom": (0, 0, width, height - 2 * square),
        "bottom row": (0, 0, width, height - square),
        "everywhere": (width // 9, height // 9, width - width // 9, height - 3 * square),
    }[side]  # fmt: skip
    assert refused(picture.crop(box)).startswith("cropped")


@pytest.mark.parametrize("change", [Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM])
def test_a_photo_that_was_turned_or_mirrored_is_told_so(change):
    picture = site(noise(header_of(640, 427)), 0.8, 80)
    assert refused(picture.transpose(change)).startswith("cropped, turned or mirrored")


@pytest.mark.parametrize("kind", ["flat", "ramp", "noise", "disc", "tiny", "stripes of a band's height"])
def test_another_picture_is_not_one_of_ours(kind):
    rows, columns = numpy.mgrid[:300, :400]
    pictures = {
        "flat": numpy.full((300, 400), 200), "ramp": columns * 255 // 400,
        "noise": numpy.random.default_rng(0).integers(0, 256, (300, 400)),
        "disc": numpy.where(numpy.hypot(rows - 150, columns - 200) < 90, 220, 30),
        "tiny": numpy.zeros((1, 1)),
        "stripes of a band's height": numpy.where(rows // 10 % 2, 220, 30),
    }  # fmt: skip
    assert refused(Image.fromarray(pictures[kind].astype(numpy.uint8))).startswith("not one of ours")


def test_a_painted_over_band_is_called_damaged():
    header = header_of(640, 427)
    pixels = noise(header)
    place = layout(header)
    square = place.width // place.columns
    pixels[-(place.band_height - square) : -square, : place.width // 2] = 24
    assert refused(Image.fromarray(pixels)).startswith("damaged header")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.binary(min_size=16, max_size=16))
def test_any_picture_has_a_header_or_one_clear_line(width, height, seed):
    random = numpy.random.default_rng(list(seed))
    picture = Image.fromarray(random.integers(0, 256, (height, width), dtype=numpy.uint8))
    assert "\n" not in refused(picture)
