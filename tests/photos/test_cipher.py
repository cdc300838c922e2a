"""A photo comes back from its encrypted file, through what photo sites do, and only with the right key."""

import dataclasses
import io

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import encoded, pixels_of, psnr, scene
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from ddm_core.errors import DdmError
from ddm_core.key_ring import KeyRing, MasterKey, key_id
from ddm_core.obfuscators.cell_code import PATCH
from ddm_core.photos import cipher
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo
from ddm_core.photos.header import Box
from ddm_core.photos.picture import SUFFIXES, Output, read_pixels

SIZES = [(1, 1), (3, 200), (64, 64), (92, 112), (133, 71), (640, 427)]


def there_and_back(content, model, ring, output=None, **settings):
    hidden = encrypt_photo(content, model, ring, output or Output(), **settings)
    return hidden, decrypt_photo(hidden, model, ring)


def site(content, scale=0.5, quality=75):
    """What a photo site makes of a file: scaled, recompressed with 4:2:0, metadata gone."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    size = round(image.width * scale), round(image.height * scale)
    return encoded(image.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=quality, subsampling="4:2:0")


def refused(content, model, ring):
    with pytest.raises(DdmError) as raised:
        decrypt_photo(content, model, ring)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Any photo


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["grey", "colour"])
def test_a_photo_of_any_size_comes_back_in_that_size(models, ring, size, name):
    original = scene(*size, colour=name == "colour")
    hidden, shown = there_and_back(encoded(original), models[name], ring)
    assert pixels_of(shown).shape == original.shape
    if min(size) > 60:
        width, height = size
        assert psnr(pixels_of(shown), original) > 18  # untrained networks
        luma = Image.fromarray(original).convert("L")
        assert psnr(pixels_of(hidden)[:height, :width], luma) < 15


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("output", ["png", "jpeg", "webp"])
def test_every_format_goes_in_and_out(models, ring, kind, output):
    original = scene(200, 120)
    content = encoded(original, kind, **({} if kind == "PNG" else {"quality": 95}))
    hidden = encrypt_photo(content, models["colour"], ring, Output(output, 90))
    assert Image.open(io.BytesIO(hidden)).format == output.upper()
    shown = decrypt_photo(hidden, models["colour"], ring, Output(output, 95))
    assert Image.open(io.BytesIO(shown)).format == output.upper()
    assert psnr(pixels_of(shown), original) > 18


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(models, ring, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(scene(120, 72), "JPEG", exif=exif, quality=95)
    upright = read_pixels(content)
    shown = there_and_back(content, models["colour"], ring, keep_metadata=True)[1]
    assert ExifTags.Base.Orientation not in Image.open(io.BytesIO(shown)).getexif()
    assert psnr(pixels_of(shown), upright) > 18


def test_a_grey_photo_stays_grey_under_a_colour_model(models, ring):
    original = scene(100, 80, colour=False)
    shown = there_and_back(encoded(original), models["colour"], ring)[1]
    assert pixels_of(shown).shape == (80, 100)
    grey_as_rgb = Image.fromarray(original).convert("RGB")
    assert pixels_of(there_and_back(encoded(grey_as_rgb), models["grey"], ring)[1]).shape == (80, 100)


def test_transparency_is_laid_over_white():
    colours = scene(96, 64)
    alpha = numpy.full((64, 96, 1), 255, numpy.uint8)
    alpha[:, :48] = 0
    read = read_pixels(encoded(numpy.concatenate([colours, alpha], 2)))
    assert (read[:, :48] == 255).all()
    assert (read[:, 48:] == colours[:, 48:]).all()


def test_a_colour_profile_is_applied():
    original = scene(64, 64)
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_pixels(encoded(original, icc_profile=lab_like))
    assert numpy.abs(same.astype(int) - original).max() <= 1
    assert (read_pixels(encoded(original, icc_profile=b"damaged")) == original).all()


def test_a_colour_photo_and_a_grey_model_is_a_clear_error(models, ring):
    with pytest.raises(
        DdmError, match="a colour photo, and this model is for grey ones; make the one for colour"
    ):
        encrypt_photo(encoded(scene(64, 64)), models["grey"], ring)


# Through the internet


@pytest.mark.parametrize("name", ["grey", "colour"])
@pytest.mark.parametrize("output", ["png", "jpeg"])
def test_it_decrypts_after_scaling_recompression_and_stripping(models, ring, name, output):
    original = scene(640, 427, colour=name == "colour")
    hidden = encrypt_photo(encoded(original), models[name], ring, Output(output, 90))
    direct = psnr(pixels_of(decrypt_photo(hidden, models[name], ring)), original)
    recompressed = psnr(pixels_of(decrypt_photo(site(hidden, 1.0), models[name], ring)), original)
    scaled = decrypt_photo(site(hidden), models[name], ring)
    assert pixels_of(scaled).shape == original.shape
    assert direct > 18
    assert recompressed > direct - 4
    # far above what a wrong key gives, though these networks never learned to withstand scaling
    assert psnr(pixels_of(scaled), original) > 12


# Secrecy


def test_two_nonces_or_two_keys_give_unrelated_files_of_the_same_photo(models, ring, other_ring):
    content = encoded(scene(160, 120))
    files = [encrypt_photo(content, models["colour"], each) for each in (ring, ring, other_ring)]
    photos = [pixels_of(file)[:120, :160].astype(float) for file in files]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (photos[one] != photos[other]).mean() > 0.95
        assert abs(numpy.corrcoef(photos[one].ravel(), photos[other].ravel())[0, 1]) < 0.05


def test_an_encrypted_photo_is_unrelated_to_the_photo(models, ring):
    original = scene(160, 120)
    hidden = pixels_of(encrypt_photo(encoded(original), models["colour"], ring))[:120, :160]
    assert abs(numpy.corrcoef(hidden.ravel(), original.mean(axis=2).ravel())[0, 1]) < 0.05


def test_an_older_key_of_the_ring_still_decrypts(models, ring, other_ring):
    hidden = encrypt_photo(encoded(scene(64, 64)), models["colour"], ring)
    rotated = KeyRing((*ring.keys, *other_ring.keys))
    assert pixels_of(decrypt_photo(hidden, models["colour"], rotated)).shape == (64, 64, 3)
    renewed = encrypt_photo(encoded(scene(64, 64)), models["colour"], rotated)
    assert refused(renewed, models["colour"], ring).startswith("wrong key: the photo needs key")


# What is refused


def test_a_wrong_key_is_named_by_its_id(models, ring, other_ring):
    hidden = encrypt_photo(encoded(scene(64, 64)), models["colour"], ring)
    message = refused(hidden, models["colour"], other_ring)
    assert message.startswith("wrong key")
    assert ring.current.id.hex() in message
    assert other_ring.current.id.hex() in message


def test_a_key_whose_id_collides_is_told_by_the_tag(models, ring, monkeypatch):
    hidden = encrypt_photo(encoded(scene(64, 64)), models["colour"], ring)
    impostor = MasterKey(bytes(32))
    monkeypatch.setattr(KeyRing, "find", lambda self, wanted: impostor)
    assert "tag does not match" in refused(hidden, models["colour"], KeyRing((impostor,)))
    assert key_id(bytes(32)) != ring.current.id


def test_another_model_is_named(models, ring):
    hidden = encrypt_photo(encoded(scene(64, 64, colour=False)), models["colour"], ring)
    message = refused(hidden, models["grey"], ring)
    assert models["colour"].id.hex() in message
    assert models["grey"].id.hex() in message


def test_an_unsupported_version_is_named(models, ring, monkeypatch):
    monkeypatch.setattr("ddm_core.photos.header.VERSION", 7)
    hidden = encrypt_photo(encoded(scene(64, 64)), models["colour"], ring)
    monkeypatch.undo()
    assert refused(hidden, models["colour"], ring).startswith("unsupported format version 7")


def test_a_cropped_a_foreign_and_a_painted_over_photo_are_told_apart(models, ring):
    hidden = Image.open(io.BytesIO(encrypt_photo(encoded(scene(320, 240)), models["colour"], ring)))
    assert refused(encoded(hidden.crop((0, 60, *hidden.size))), models["colour"], ring).startswith("cropped")
    assert refused(encoded(scene(320, 240)), models["colour"], ring).startswith("not one of ours")
    painted = numpy.array(hidden)
    painted[256:-16, : hidden.width // 2] = 24
    assert refused(encoded(painted), models["colour"], ring).startswith("damaged header")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_one_line(models, ring, content):
    refused(content, models["colour"], ring)
    with pytest.raises(DdmError):
        encrypt_photo(content, models["colour"], ring)


@pytest.fixture(scope="module")
def hidden_files(models, ring):
    photo = encoded(scene(64, 64))
    return {kind: encrypt_photo(photo, models["colour"], ring, Output(kind, 80)) for kind in SUFFIXES}


CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(SUFFIXES)), CHANGES, st.floats(0.5, 1))
def test_a_damaged_file_decrypts_or_is_refused_with_one_line(damage, kind, changes, kept):
    damage(kind, changes, kept)


@pytest.fixture(scope="module")
def damage(models, ring, hidden_files):
    def decrypt(kind, changes, kept):
        content = bytearray(hidden_files[kind])
        for place, value in changes:
            content[int(place * (len(content) - 1))] = value
        try:
            shown = decrypt_photo(bytes(content[: int(kept * len(content))]), models["colour"], ring)
            assert pixels_of(shown).shape == (64, 64, 3)
        except DdmError as error:
            assert "\n" not in str(error)

    return decrypt


# Metadata


def with_metadata(kind="JPEG"):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Secret Camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (47.0, 22.0, 11.0)
    extra = {}
    if kind == "PNG":
        extra["pnginfo"] = PngImagePlugin.PngInfo()
        extra["pnginfo"].add_text("Comment", "Secret Camera")
    return encoded(scene(120, 80), kind, exif=exif, **extra)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("output", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("kept", [False, True])
def test_metadata_never_shows_and_comes_back_only_when_kept(models, ring, kind, output, kept):
    content = with_metadata(kind)
    assert b"Secret Camera" in content
    hidden = encrypt_photo(content, models["colour"], ring, Output(output), keep_metadata=kept)
    assert b"Secret Camera" not in hidden
    with Image.open(io.BytesIO(hidden)) as image:
        assert set(image.getexif()) <= {ExifTags.IFD.Exif}
        assert not image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert "icc_profile" not in image.info
    shown = Image.open(io.BytesIO(decrypt_photo(hidden, models["colour"], ring, Output(output)))).getexif()
    assert shown.get(ExifTags.Base.Make) == ("Secret Camera" if kept else None)
    latitude = shown.get_ifd(ExifTags.IFD.GPSInfo).get(ExifTags.GPS.GPSLatitude)
    assert latitude == ((47.0, 22.0, 11.0) if kept else None)


def test_sealed_metadata_that_a_site_strips_or_damages_is_lost_and_the_photo_is_not(models, ring):
    hidden = encrypt_photo(with_metadata(), models["colour"], ring, keep_metadata=True)
    exif = Image.open(io.BytesIO(hidden)).getexif()
    note = bytearray(exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote])
    note[40] ^= 1
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(note)
    damaged = encoded(Image.open(io.BytesIO(hidden)), exif=exif)
    for content in (site(hidden, 1.0), damaged):
        shown = decrypt_photo(content, models["colour"], ring)
        assert not Image.open(io.BytesIO(shown)).getexif()
        assert pixels_of(shown).shape == (80, 120, 3)


def test_metadata_too_large_to_travel_is_an_error(models, ring):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = numpy.random.default_rng(0).bytes(61_000).hex()[:61_000]
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = numpy.random.default_rng(0).bytes(62_000)
    content = encoded(scene(64, 64), "PNG", exif=exif)
    with pytest.raises(DdmError, match="go without --keep-metadata"):
        encrypt_photo(content, models["colour"], ring, keep_metadata=True)


# Regions


BOXES = (Box(21, 33, 60, 50), Box(130, 5, 40, 40))


def of_cells(start, length):
    """The whole cells that hold these pixels."""
    return slice(start // PATCH * PATCH, -(-(start + length) // PATCH) * PATCH)


@pytest.mark.parametrize("colour", [True, False])
def test_only_the_boxes_are_encrypted_and_exactly_those_are_decrypted(models, ring, colour):
    original = scene(203, 131, colour)
    hidden, shown = there_and_back(encoded(original), models["colour"], ring, regions=BOXES)
    inside = numpy.zeros((131, 203), bool)
    for left, top, width, height in BOXES:
        box = original[top : top + height, left : left + width]
        there = pixels_of(hidden)[top : top + height, left : left + width]
        assert psnr(there, box) < 16
        assert psnr(pixels_of(shown)[top : top + height, left : left + width], box) > 17
        inside[of_cells(top, height), of_cells(left, width)] = True
    assert (pixels_of(hidden)[:131, :203][~inside] == original[~inside]).all()
    assert (pixels_of(shown)[~inside] == original[~inside]).all()


def test_regions_survive_the_chain(models, ring):
    original = scene(640, 427)
    hidden = encrypt_photo(encoded(original), models["colour"], ring, regions=BOXES)
    shown = pixels_of(decrypt_photo(site(hidden), models["colour"], ring))
    assert shown.shape == original.shape
    assert psnr(shown[200:], original[200:]) > 25
    assert psnr(shown[33:83, 21:81], original[33:83, 21:81]) > 11


def test_overlapping_boxes_are_encrypted_once(models, ring, monkeypatch):
    calls = []
    monkeypatch.setattr(cipher, "hide", lambda *given, real=cipher.hide: calls.append(given) or real(*given))
    boxes = [Box(0, 0, 50, 50), Box(40, 40, 50, 50), Box(49, 1, 30, 30), Box(150, 150, 9, 9)]
    encrypt_photo(encoded(scene(200, 200)), models["colour"], ring, regions=boxes)
    assert [(photo.shape[:2], stream.row, stream.column) for _, photo, stream in calls] == [
        ((96, 96), 0, 0), ((16, 16), 18, 18),
    ]  # fmt: skip


def test_a_box_outside_of_the_photo_is_refused(models, ring):
    with pytest.raises(DdmError, match="the box 300,0,10,10 holds nothing of the photo of 200x100 pixels"):
        encrypt_photo(encoded(scene(200, 100)), models["colour"], ring, regions=[Box(300, 0, 10, 10)])


def test_moved_boxes_are_noticed(models, ring, monkeypatch):
    """Somebody without the key who writes a header of their own has no tag for it."""
    monkeypatch.setattr(cipher.Header, "signed", lambda self, key: dataclasses.replace(self, tag=b"8 bytes!"))
    hidden = encrypt_photo(encoded(scene(200, 100)), models["colour"], ring, regions=[Box(0, 0, 10, 10)])
    assert "header that was changed" in refused(hidden, models["colour"], ring)
