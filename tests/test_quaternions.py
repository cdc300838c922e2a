"""Unit quaternions form a group that moves S3 without stretching it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ddm_core.quaternions import conjugate, multiply, normalise
from ddm_core.seeding import torch_generator

COMPONENTS = st.floats(-100, 100, width=32)
ONE = torch.tensor([1.0, 0.0, 0.0, 0.0]).double().view(1, 1, 4, 1, 1)

quaternion = st.lists(COMPONENTS, min_size=4, max_size=4).map(
    lambda parts: torch.tensor(parts, dtype=torch.float64).view(1, 1, 4, 1, 1)
)
unit_quaternion = quaternion.filter(lambda q: float(q.norm()) > 0.1).map(normalise)
some = settings(max_examples=50, deadline=None)


def basis(letter):
    return torch.zeros(1, 1, 4, 1, 1).index_fill(2, torch.tensor("1ijk".index(letter)), 1.0)


@pytest.mark.parametrize(
    ("left", "right", "sign", "product"),
    [
        ("1", "i", 1, "i"),
        ("j", "1", 1, "j"),
        ("i", "i", -1, "1"),
        ("j", "j", -1, "1"),
        ("k", "k", -1, "1"),
        ("i", "j", 1, "k"),
        ("j", "k", 1, "i"),
        ("k", "i", 1, "j"),
        ("j", "i", -1, "k"),
        ("k", "j", -1, "i"),
        ("i", "k", -1, "j"),
    ],
)
def test_the_product_is_hamiltons(left, right, sign, product):
    assert multiply(basis(left), basis(right)).equal(sign * basis(product))


@some
@given(quaternion, quaternion, quaternion)
def test_the_product_is_associative(p, q, r):
    assert_close(multiply(multiply(p, q), r), multiply(p, multiply(q, r)), rtol=1e-9, atol=1e-6)


@some
@given(quaternion, quaternion)
def test_norms_multiply(p, q):
    assert_close(multiply(p, q).norm(), p.norm() * q.norm(), rtol=1e-9, atol=1e-9)


@some
@given(unit_quaternion)
def test_the_conjugate_of_a_unit_quaternion_is_its_inverse(q):
    assert_close(multiply(q, conjugate(q)), ONE, rtol=0, atol=1e-12)
    assert_close(multiply(conjugate(q), q), ONE, rtol=0, atol=1e-12)


@some
@given(quaternion, quaternion)
def test_the_conjugate_of_a_product_is_the_product_of_conjugates_turned_round(p, q):
    assert_close(conjugate(multiply(p, q)), multiply(conjugate(q), conjugate(p)), rtol=1e-9, atol=1e-9)


@some
@given(unit_quaternion, quaternion, quaternion)
def test_a_rotation_keeps_distances_and_is_undone_by_the_conjugate(k, p, q):
    """The reason why small channel noise stays small after decryption."""
    assert_close((multiply(k, p) - multiply(k, q)).norm(), (p - q).norm(), rtol=1e-9, atol=1e-9)
    assert_close(multiply(conjugate(k), multiply(k, p)), p, rtol=1e-9, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=4, max_size=4))
def test_every_group_of_four_numbers_becomes_a_unit_quaternion(parts):
    unit = normalise(torch.tensor(parts).view(1, 1, 4, 1, 1))
    assert abs(float(unit.double().norm()) - 1.0) < 3e-7


@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-20, 1e-7])
def test_a_vanishing_group_becomes_the_identity_and_is_not_shrunken(size):
    vectors = torch.randn(2, 3, 4, 5, 5, generator=torch_generator(0, "tests/vanishing"))
    vectors[1, 2, :, 3, 4] = torch.tensor([0.0, size, 0.0, -size / 2])
    unit = normalise(vectors)
    assert unit[1, 2, :, 3, 4].equal(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert (unit.double().norm(dim=2) - 1).abs().max() < 3e-7


def test_gradients_of_a_vanishing_group_are_finite():
    vectors = torch.zeros(1, 1, 4, 1, 2)
    vectors[..., 1] = 1.0
    vectors.requires_grad_()
    normalise(vectors)[:, :, 2].sum().backward()
    assert vectors.grad.isfinite().all()
    assert vectors.grad[..., 1].abs().sum() > 0
