"""Block scrambling moves, turns, negates and recolours squares, and nothing inside them beyond that."""

import numpy
import pytest
import torch

from ddm_core.evaluation import as_float
from ddm_core.exact_channels import real_jpeg
from ddm_core.keys import nonce_stream
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.block_scrambling import BlockScrambling, _turns
from ddm_core.obfuscators.pixel_bytes import to_bytes
from ddm_core.seeding import torch_generator

KEY = bytes(range(32))


def nonces(count):
    return list(nonce_stream(0, "tests/block scrambling", count))


def canonical(square):
    """The least of all that turning, flipping, negating and exchanging channels makes of a square."""
    every = []
    for signed in (square, 255 - square):
        for colours in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
            chosen = signed[colours[: len(square)]] if len(square) == 3 else signed
            for quarter in range(4):
                turned = numpy.rot90(chosen, quarter, (1, 2))
                every += [turned.tobytes(), turned[:, :, ::-1].tobytes()]
    return min(every)


def squares(image, block):
    pixels = to_bytes(image).numpy()
    height, width = pixels.shape[1:]
    return sorted(
        canonical(pixels[:, top : top + block, left : left + block])
        for top in range(0, height, block)
        for left in range(0, width, block)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "block"), [((32, 32), 8), ((20, 27), 8), ((17, 16), 4), ((16, 16), 16)])
def test_the_same_squares_are_there_turned_negated_and_elsewhere(size, block, channels):
    draws = torch_generator(0, "tests/block scrambling")
    photo = as_float(torch.randint(256, (1, channels, *size), generator=draws))
    hidden = BlockScrambling(block, KEY).encrypt(photo, nonces(1))
    assert not hidden.equal(photo)
    assert squares(hidden[0], block) == squares(photo[0], block)


@pytest.mark.parametrize(("shape", "count"), [((4, 4), 8), ((4, 3), 4), ((1, 5), 2), ((1, 1), 1)])
def test_every_turn_that_keeps_a_shape_is_used_once(shape, count):
    turns = _turns(*shape)
    assert len({tuple(turn) for turn in turns.tolist()}) == len(turns) == count
    assert turns.sort().values.equal(torch.arange(shape[0] * shape[1]).expand(count, -1))


def test_every_choice_is_fair():
    """Over many photos: where the first square goes, and whether it is negated, are near uniform."""
    photo = torch.zeros(1, 1, 16, 16)
    photo[..., :8, :8] = 100 / 255
    hidden = to_bytes(BlockScrambling(8, KEY).encrypt(photo.expand(2000, -1, -1, -1), nonces(2000)))
    corners = hidden[:, 0, ::8, ::8].flatten(1).long()
    first = (corners == 100) | (corners == 155)
    assert first.sum(1).eq(1).all()
    shares = first.float().mean(0)
    assert (shares - 0.25).abs().max() < 4 * (0.25 * 0.75 / 2000) ** 0.5
    assert abs((corners == 155).any(1).float().mean() - 0.5) < 4 * 0.5 / 2000**0.5


def test_it_survives_jpeg_as_encryption_then_compression_is_meant_to():
    ramp = torch.linspace(0.2, 0.8, 64)
    photo = (ramp[:, None] * ramp).expand(1, 1, -1, -1)
    cipher = BlockScrambling(16, KEY)
    received = real_jpeg(cipher.encrypt(photo, nonces(1)), 85)
    assert psnr_db(cipher.decrypt(received, nonces(1)), photo).item() > 35
