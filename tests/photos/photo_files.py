"""Photos that tests make up, as arrays and as files, and how alike two of them are."""

import io

import numpy
from PIL import Image


def scene(width, height, colour=True):
    """A smooth picture with edges, as photos have them: uint8 [height, width, 3] or [height, width]."""
    rows, columns = numpy.mgrid[:height, :width]
    ramp = 90 + 60 * numpy.sin(columns / 37) * numpy.cos(rows / 29)
    disc = 50 * (numpy.hypot(rows - height / 2, columns - width / 3) < min(width, height) / 4)
    if not colour:
        return (ramp + disc).astype(numpy.uint8)
    planes = [ramp + disc, 0.8 * ramp + 30 + disc / 2, 200 - 0.9 * ramp]
    return numpy.stack(planes, axis=2).astype(numpy.uint8)


def encoded(pixels, kind="PNG", **settings):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def pixels_of(content):
    return numpy.asarray(Image.open(io.BytesIO(content)))


def psnr(one, other):
    error = numpy.mean((numpy.asarray(one, float) - numpy.asarray(other, float)) ** 2)
    return float("inf") if error == 0 else 10 * numpy.log10(255**2 / error)
