"""Permutations and learnable encryption move what they say, invertibly, and by one key for all photos."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddm_core.evaluation import as_float
from ddm_core.obfuscators.permutation import BlockPermutation, LearnableEncryption, PixelPermutation
from ddm_core.obfuscators.pixel_bytes import to_bytes
from ddm_core.seeding import torch_generator

NO_NONCES = ()
SIDES = st.integers(16, 40)
few = settings(max_examples=25, deadline=None)


def numbered(height, width):
    """A picture [1, 3, h, w] whose pixels can be told apart: the three bytes of their number."""
    number = torch.arange(height * width).view(1, 1, height, width)
    return as_float(torch.cat([number % 256, number // 256 % 256, number // 65536], dim=1).byte())


def origin(hidden):
    """Which pixel of `numbered` each place shows, [h * w]."""
    low, middle, high = to_bytes(hidden)[0].long().flatten(1)
    return low + 256 * middle + 65536 * high


@few
@given(SIDES, SIDES, st.integers(0, 99))
def test_a_pixel_permutation_shows_every_pixel_once_whatever_the_size(height, width, seed):
    order = origin(PixelPermutation(seed).encrypt(numbered(height, width), NO_NONCES))
    assert order.sort().values.equal(torch.arange(height * width))
    assert (order != torch.arange(height * width)).float().mean() > 0.9


@few
@given(SIDES, SIDES, st.integers(1, 12), st.integers(0, 99))
def test_a_block_permutation_shows_every_pixel_once_inside_its_own_square(height, width, block, seed):
    order = origin(BlockPermutation(block, seed).encrypt(numbered(height, width), NO_NONCES))
    assert order.sort().values.equal(torch.arange(height * width))
    places = torch.arange(height * width)
    assert (order // width // block).equal(places // width // block)
    assert (order % width // block).equal(places % width // block)


def test_a_block_permutation_is_the_same_in_every_whole_square():
    order = origin(BlockPermutation(8, 3).encrypt(numbered(20, 27), NO_NONCES)).view(20, 27)
    rows, columns = order // 27, order % 27
    first = (rows[:8, :8], columns[:8, :8])
    for top in (0, 8):
        for left in (0, 8, 16):
            square = slice(top, top + 8), slice(left, left + 8)
            assert (rows[square] - top).equal(first[0])
            assert (columns[square] - left).equal(first[1])
    assert not first[1].equal(torch.arange(8).expand(8, 8))


@pytest.mark.parametrize("kind", [PixelPermutation, lambda seed: BlockPermutation(8, seed)])
def test_the_seed_is_the_key_and_all_photos_share_it(kind):
    pictures = torch.rand(2, 1, 24, 24, generator=torch_generator(0, "tests/permutation"))
    same = kind(1).encrypt(pictures[:1].expand(2, -1, -1, -1), NO_NONCES)
    assert same[0].equal(same[1])
    assert not kind(1).encrypt(pictures, NO_NONCES).equal(kind(2).encrypt(pictures, NO_NONCES))


def nibbles(image):
    """The upper and lower halves of an image's bytes [2 c, h, w]."""
    pixels = to_bytes(image)[0].long()
    return torch.cat([pixels // 16, pixels % 16])


@few
@given(st.integers(16, 24), st.integers(16, 24), st.sampled_from([1, 3]), st.integers(0, 99))
def test_learnable_encryption_is_a_signed_permutation_of_the_halves_inside_each_square(
    height, width, channels, seed
):
    """Half by half: a change of one half of the photo is the same change of one half, in the same square."""
    method = LearnableEncryption(4, seed)
    black = torch.zeros(1, channels, height, width)
    plain = nibbles(method.encrypt(black, NO_NONCES))
    assert set(plain.unique().tolist()) == {0, 15}  # some places are reversed, some are not
    draws = torch_generator(seed, "tests/learnable encryption")
    row, column = (int(torch.randint(side, (1,), generator=draws)) for side in (height, width))
    reached = set()
    for channel in range(channels):
        for value in (16 * 5, 5):
            photo = black.clone()
            photo[0, channel, row, column] = value / 255
            change = nibbles(method.encrypt(photo, NO_NONCES)) - plain
            places = change.nonzero().tolist()
            assert len(places) == 1
            assert abs(change[tuple(places[0])]) == 5
            assert [places[0][1] // 4, places[0][2] // 4] == [row // 4, column // 4]
            reached.add(tuple(places[0]))
    assert len(reached) == 2 * channels


def test_learnable_encryption_uses_one_key_for_all_squares():
    grey = torch.full((1, 3, 16, 16), 77 / 255)
    hidden = LearnableEncryption(4, 0).encrypt(grey, NO_NONCES)
    squares = hidden.unfold(2, 4, 4).unfold(3, 4, 4)
    assert all(
        squares[:, :, row, column].equal(squares[:, :, 0, 0]) for row in range(4) for column in range(4)
    )
    assert len(hidden.unique()) > 2
