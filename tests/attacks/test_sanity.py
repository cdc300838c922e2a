"""An attacker that fails where it must not fail is found out."""

import pytest

from ddm_core.attacks.sanity import Cell, check_attackers
from ddm_core.results import AttackResult


def cell(method, attacker, top1, seed=0):
    return Cell(seed, method, AttackResult(f"{method}_of_test", attacker, applicable=True, top1=top1))


@pytest.mark.parametrize(
    ("method", "attacker", "limit"),
    [
        ("none", "clean", 0.9),
        ("none", "retrained", 0.9),
        ("blur", "retrained", 0.5),
        ("mosaic", "retrained", 0.5),
    ],
)
@pytest.mark.parametrize(("above", "passed"), [(-0.01, False), (0.0, True), (0.05, True)])
def test_an_attacker_must_reach_its_limit(method, attacker, limit, above, passed):
    (check,) = check_attackers([cell(method, attacker, limit + above, seed=3)])
    assert (check.attacker, check.obfuscator, check.seed) == (attacker, f"{method}_of_test", 3)
    assert (check.measured, check.limit, check.passed) == (limit + above, limit, passed)


def test_the_attacker_that_knows_only_clean_photos_may_fail_on_blur_and_mosaic():
    assert check_attackers([cell("blur", "clean", 0.01), cell("mosaic", "clean", 0.02)]) == []


def test_failure_against_other_methods_says_nothing_of_the_attacker():
    assert check_attackers([cell("keyed_ddm", "retrained", 0.025), cell("p3", "retrained", 0.3)]) == []


def test_a_cell_that_does_not_apply_is_passed_over():
    skipped = AttackResult("none", "retrained", applicable=False, reason="left out")
    assert check_attackers([Cell(0, "none", skipped)]) == []


def test_every_seed_and_every_strength_is_checked():
    cells = [cell("mosaic", "retrained", 0.9, seed) for seed in (0, 1)] + [cell("blur", "retrained", 0.4)]
    assert [check.passed for check in check_attackers(cells)] == [True, True, False]
