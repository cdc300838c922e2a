"""Picture grids show every picture as it is, in its place, beside its label."""

import io

import numpy
import pytest
import torch
from PIL import Image

from ddm_core.grids import labelled_grid
from ddm_core.seeding import torch_generator


def opened(content):
    return numpy.array(Image.open(io.BytesIO(content)))


def pictures(name, columns, channels, side):
    return torch.rand(columns, channels, side, side, generator=torch_generator(0, f"tests/grids/{name}"))


@pytest.mark.parametrize(("side", "scale"), [(16, 6), (64, 2), (96, 1), (112, 1)])
def test_small_pictures_are_enlarged_without_smoothing(side, scale):
    images = pictures("small", 1, 1, side)
    canvas = opened(labelled_grid({"photo": images}))
    pixels = (images[0, 0] * 255).round().byte().numpy()
    expected = numpy.kron(pixels, numpy.ones((scale, scale), numpy.uint8))
    shown = canvas[4 : 4 + side * scale, 190 : 190 + side * scale]
    assert (shown == expected[..., None]).all()


def test_rows_and_columns_stand_in_their_order_grey_beside_colour():
    rows = {"photo x": pictures("x", 3, 1, 96), "decrypted": pictures("y", 3, 3, 96)}
    canvas = opened(labelled_grid(rows))
    assert canvas.shape == (2 * 100 + 4, 190 + 3 * 100, 3)
    for row, images in enumerate(rows.values()):
        for column, image in enumerate(images):
            top, left = 4 + row * 100, 190 + column * 100
            expected = (image * 255).round().byte().permute(1, 2, 0).numpy()
            assert (canvas[top : top + 96, left : left + 96] == expected).all()


def test_a_padded_row_has_room_beside_a_smaller_one():
    rows = {"photo x": pictures("x", 2, 3, 98), "encrypted": pictures("y", 2, 3, 100)}
    canvas = opened(labelled_grid(rows))
    assert canvas.shape == (2 * 104 + 4, 190 + 2 * 104, 3)
    for row, images in enumerate(rows.values()):
        for column, image in enumerate(images):
            top, left, side = 4 + row * 104, 190 + column * 104, image.shape[-1]
            expected = (image * 255).round().byte().permute(1, 2, 0).numpy()
            assert (canvas[top : top + side, left : left + side] == expected).all()


def test_labels_are_written_and_the_picture_repeats_bit_by_bit():
    images = pictures("labels", 1, 1, 16)
    labelled = labelled_grid({"photo": images})
    assert labelled.startswith(b"\x89PNG")
    assert labelled == labelled_grid({"photo": images})
    assert (opened(labelled)[:, :190] < 128).any()
    assert labelled != labelled_grid({"other": images})


def test_values_beyond_the_range_are_clipped():
    canvas = opened(labelled_grid({"": torch.full((1, 1, 96, 96), 1.7)}))
    assert (canvas == 255).all()
