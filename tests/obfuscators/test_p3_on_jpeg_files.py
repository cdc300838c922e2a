"""P3's public part against the definition, applied to the coefficients that libjpeg stores in a real file.

Ours come from the same pixels by a DCT in floats, libjpeg's by one in integers. Where a coefficient lies
halfway between two steps, the two may round to either side; nowhere else may they differ.
"""

import io

import numpy
import pytest
import torch
from jpeg_coefficients import read_planes
from PIL import Image
from scipy import fft

from ddm_core.channel import quantisation_table, recode_jpeg
from ddm_core.data.sources import read_orl
from ddm_core.obfuscators.classical import P3

# Grey levels from the middle between two steps, for each plane of a grey or colour picture. libjpeg's integer
# DCT is off by a tenth; in colour a pixel's luma rounds another way now and then, a mean of chroma often.
SLACK = {(False, 0): 0.15, (True, 0): 0.5, (True, 1): 2.0, (True, 2): 2.0}


@pytest.fixture(scope="module")
def face():
    """An ORL face, 92 x 112: no multiple of 8 columns."""
    content = read_orl()
    return numpy.asarray(Image.open(io.BytesIO(content[min(content)])))


def coloured(face):
    """The face under light whose colour changes from left to right."""
    ramp = numpy.linspace(0.4, 1.0, face.shape[1])
    return (face[..., None] * numpy.stack([ramp, 0.8 + 0 * ramp, ramp[::-1]], -1)).astype(numpy.uint8)


def stored(pixels, quality):
    """The planes of the file that Pillow (libjpeg) writes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return read_planes(buffer.getvalue())


def as_image(pixels):
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).copy()).permute(2, 0, 1)[None] / 255


def definition(quantised, threshold):
    """Ra, Govindan and Ortega: no DC; an AC above the threshold in size becomes the threshold."""
    public = numpy.where(abs(quantised) > threshold, threshold, quantised)
    public[..., 0] = 0
    return public


def public_parts(method, pixels):
    """Ours, plane by plane: the exact coefficients in steps, and the public part of each."""
    seen = []

    def record(coefficients):
        public = method._public(coefficients)
        seen.extend(zip(coefficients[0].numpy(), public[0].numpy(), strict=True))
        return public

    recode_jpeg(as_image(pixels), method.quality, record)
    return seen


@pytest.mark.parametrize(("threshold", "quality"), [(1, 90), (10, 90), (20, 90), (10, 75), (10, 50), (1, 95)])
@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_the_public_part_is_that_of_the_stored_coefficients_one_by_one(face, threshold, quality, colour):
    pixels = coloured(face) if colour else face
    planes = stored(pixels, quality)
    ours = public_parts(P3(threshold, quality), pixels)
    assert len(planes) == len(ours) == (3 if colour else 1)
    for number, (plane, seen) in enumerate(zip(planes, ours, strict=True)):
        rows, columns = plane.coefficients.shape[:2]
        exact, public = (values[:rows, :columns] for values in seen)
        assert plane.table.tolist() == quantisation_table(quality, chrominance=number > 0).tolist()
        expected = definition(plane.coefficients, threshold)
        assert (public != expected).mean() < 0.04
        assert abs(exact.round() - plane.coefficients).max() <= 1
        from_middle = abs(exact - numpy.floor(exact) - 0.5) * plane.table
        clear = from_middle > SLACK[bool(colour), number]
        assert (public == expected)[clear].all()
        assert clear.mean() > 0.5


def test_the_stored_coefficients_are_read_right(face):
    """The reader of files against the transform: decoding them gives what Pillow shows."""
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "JPEG", quality=75)
    (plane,) = read_planes(buffer.getvalue())
    spectra = (plane.coefficients * plane.table).reshape(*plane.coefficients.shape[:2], 8, 8)
    blocks = fft.idctn(spectra, axes=(2, 3), norm="ortho") + 128
    decoded = blocks.transpose(0, 2, 1, 3).reshape(112, 96)[:, :92]
    assert abs(decoded.clip(0, 255) - numpy.asarray(Image.open(buffer)).astype(float)).max() < 1.01


@pytest.mark.parametrize("threshold", [1, 10, 20])
def test_what_is_shown_is_the_stored_public_part_decoded(face, threshold):
    hidden = P3(threshold, 90).encrypt(as_image(face), ())[0, 0].numpy() * 255
    (plane,) = stored(face, 90)
    public = definition(plane.coefficients, threshold) * plane.table
    blocks = fft.idctn(public.reshape(*public.shape[:2], 8, 8), axes=(2, 3), norm="ortho") + 128
    shown = blocks.transpose(0, 2, 1, 3).reshape(112, 96)[:, :92].clip(0, 255)
    assert (abs(hidden - shown) < 0.51).mean() > 0.5
    assert abs(hidden - shown).mean() < 1
