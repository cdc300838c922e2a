"""Unit octonions move S7, and unit quaternions S3, without stretching them; what they do can be undone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ddm_core.keys import Grid
from ddm_core.rotations import apart, exponential, logarithm, random_unit, rotate, rotate_back, together
from ddm_core.seeding import torch_generator

GRID = Grid(octonions=2, quaternions=5, rows=2, columns=3)
NUMBERS = 2 * 7 + 3
COMPONENTS = st.floats(-100, 100, width=32)

octonion = st.lists(COMPONENTS, min_size=8, max_size=8).map(
    lambda parts: torch.tensor(parts, dtype=torch.float64).view(1, 2, 4, 1, 1)
)
unit_octonion = octonion.filter(lambda o: float(o.norm()) > 0.1).map(lambda o: o / o.norm())
some = settings(max_examples=50)


def basis(index):
    return torch.zeros(8).index_fill(0, torch.tensor(index), 1.0).view(1, 2, 4, 1, 1)


def product(p, q):
    return rotate(p, q, octonions=1)


def drawn(name, batch=3):
    return random_unit(batch, GRID, torch_generator(0, f"tests/rotations/{name}"))


# e_i e_j, a row an i: photos encrypted yesterday must decrypt tomorrow, so the convention must stay.
PRODUCTS = """
+0 +1 +2 +3 +4 +5 +6 +7
+1 -0 +3 -2 +5 -4 -7 +6
+2 -3 -0 +1 +6 +7 -4 -5
+3 +2 -1 -0 +7 -6 +5 -4
+4 -5 -6 -7 -0 +1 +2 +3
+5 +4 -7 +6 -1 -0 -3 +2
+6 +7 +4 -5 -2 +3 -0 -1
+7 -6 +5 +4 -3 -2 +1 -0
"""


@pytest.mark.parametrize(("i", "row"), enumerate(PRODUCTS.split("\n")[1:-1]))
def test_the_products_of_basis_octonions_are_those_of_the_table(i, row):
    for j, entry in enumerate(row.split()):
        sign = -1 if entry[0] == "-" else 1
        assert product(basis(i), basis(j)).equal(sign * basis(int(entry[1])))


@pytest.mark.parametrize("index", range(1, 8))
def test_each_imaginary_unit_squares_to_minus_one_and_two_of_them_anticommute(index):
    assert product(basis(index), basis(index)).equal(-basis(0))
    for other in set(range(1, 8)) - {index}:
        assert product(basis(index), basis(other)).equal(-product(basis(other), basis(index)))


def test_octonions_are_not_associative():
    """So they are no pairs of something simpler: the smallest known counterexample."""
    i, j, e = basis(1), basis(2), basis(4)
    assert product(product(i, j), e).equal(-product(i, product(j, e)))


@some
@given(octonion, octonion)
def test_norms_multiply(p, q):
    assert_close(product(p, q).norm(), p.norm() * q.norm(), rtol=1e-9, atol=1e-9)


@some
@given(unit_octonion, octonion, octonion)
def test_a_rotation_keeps_distances_and_is_undone_by_the_conjugate(k, p, q):
    assert_close((product(k, p) - product(k, q)).norm(), (p - q).norm(), rtol=1e-9, atol=1e-9)
    assert_close(rotate_back(k, product(k, p), octonions=1), p, rtol=1e-9, atol=1e-9)


@some
@given(octonion, octonion, unit_octonion)
def test_with_the_latent_fixed_distances_of_rotations_are_kept_too(k, other, z):
    """Why a uniform rotation makes any unit latent uniform."""
    assert_close((product(k, z) - product(other, z)).norm(), (k - other).norm(), rtol=1e-9, atol=1e-9)


def test_groups_go_apart_and_together():
    latent = drawn("apart")
    groups = apart(latent, 2)
    assert groups.octonions.shape == (3, 2, 8, 2, 3)
    assert groups.quaternions.shape == (3, 1, 4, 2, 3)
    assert together(groups).equal(latent)


def test_each_group_is_rotated_by_its_own_rotation_alone():
    rotation, latent = drawn("rotation"), drawn("latent")
    rotated = rotate(rotation, latent, 2)
    for changed in range(5):
        other = rotation.clone()
        other[:, changed] = drawn("other")[:, changed]
        same = [rotate(other, latent, 2)[:, group].equal(rotated[:, group]) for group in range(5)]
        together_with = {0: {0, 1}, 1: {0, 1}, 2: {2, 3}, 3: {2, 3}, 4: {4}}[changed]
        assert {group for group in range(5) if not same[group]} == together_with


def test_rotations_are_of_unit_norm_and_follow_their_generator():
    first, same = drawn("follow"), drawn("follow")
    assert first.equal(same)
    assert not first.equal(drawn("another"))
    for group in apart(first, 2):
        assert (group.double().norm(dim=2) - 1).abs().max() < 3e-7


def test_short_vectors_come_back_from_their_exponential_and_long_ones_shorter():
    vectors = torch.randn(2, NUMBERS, 4, 5, generator=torch_generator(0, "tests/rotations/vectors")) * 0.4
    back, power = logarithm(exponential(vectors, 2, most_angle=2.7), 2)
    torch.testing.assert_close(back, vectors, rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(power, torch.ones_like(power), rtol=1e-5, atol=0)
    longest, _ = logarithm(exponential(vectors * 100, 2, most_angle=2.7), 2)
    for first, count in ((0, 7), (7, 7), (14, 3)):
        assert longest[:, first : first + count].norm(dim=1).max() < 2.7001


def test_a_group_that_never_arrived_has_a_finite_gradient():
    lost = torch.zeros(1, 5, 4, 1, 1, requires_grad=True)
    vectors, power = logarithm(lost, 2)
    (vectors.sum() + power.sum()).backward()
    assert lost.grad.isfinite().all()
