"""An attacker that fails where it must not fail is found out, and so is one that was never tried there."""

import pytest

from ddm_core.attacks.sanity import LEVELS, STRONGEST, Cell, below_level, check_attackers, may_judge
from ddm_core.results import AttackResult, VerificationFigures

OWN_LEVELS = [level for level in LEVELS if level.attacker not in STRONGEST]


def result(attacker, obfuscator, figure):
    if attacker == "verification":
        figures = VerificationFigures(figure, 0, figure, (figure, figure), 0, 0, 0, 6000)
        better = VerificationFigures(1, 0, 1, (1, 1), 0, 0, 0, 6000)
        pairs = {"obfuscated": better, "linkage": figures}
        return AttackResult(obfuscator, attacker, applicable=True, verification=pairs)
    return AttackResult(obfuscator, attacker, applicable=True, top1=figure)


def passing(seed=0, leave_out=(), **changed):
    """Cells in which every attacker reaches its level, but for those that `changed` names with a figure."""
    cells = []
    for level in LEVELS:
        figure = changed.get(f"{level.attacker}__{level.obfuscator}", level.limit)
        if (level.attacker, level.obfuscator) not in leave_out:
            cells.append(Cell(seed, result(level.attacker, level.obfuscator, figure)))
    return cells


def failed(cells):
    return [(check.attacker, check.obfuscator) for check in check_attackers(cells) if not check.passed]


def test_attackers_at_their_levels_pass():
    checks = check_attackers(passing(seed=3))
    assert [(check.attacker, check.obfuscator, check.limit) for check in checks] == [
        (level.attacker, level.obfuscator, level.limit) for level in LEVELS
    ]
    assert all(check.passed and check.seed == 3 and check.measured == check.limit for check in checks)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: f"{level.attacker}-{level.obfuscator}")
def test_an_attacker_beyond_its_level_is_found_out(level):
    beyond = level.limit + (0.01 if level.at_most else -0.01)
    cells = passing(**{f"{level.attacker}__{level.obfuscator}": beyond})
    assert failed(cells) == [(level.attacker, level.obfuscator)]


def test_the_collapse_has_two_sides_on_blur_and_on_mosaic():
    gate = {
        (level.obfuscator, level.attacker): level.at_most for level in LEVELS if level.attacker in STRONGEST
    }
    for obfuscator in ("blur31", "mosaic16"):
        assert gate[obfuscator, "clean"] is True
        assert gate[obfuscator, "retrained"] is False


@pytest.mark.parametrize("obfuscator", ["none", "blur31", "mosaic16"])
def test_a_gate_that_was_not_run_is_not_passed(obfuscator):
    cells = passing(leave_out={("retrained", obfuscator)})
    (check,) = (check for check in check_attackers(cells) if not check.passed)
    assert (check.attacker, check.obfuscator, check.measured) == ("retrained", obfuscator, None)


def test_the_gate_is_asked_for_whoever_attacks():
    asked = check_attackers([Cell(0, result("wrong_key", "theirs", 0.025))])
    assert {check.attacker for check in asked} == {*STRONGEST}
    assert not any(check.passed for check in asked)


@pytest.mark.parametrize("level", OWN_LEVELS, ids=lambda level: level.attacker)
def test_an_attacker_that_applies_somewhere_must_have_shown_its_own_level(level):
    control = (level.attacker, level.obfuscator)
    without = passing(leave_out={control})
    assert failed(without) == []
    assert failed([*without, Cell(0, result(level.attacker, "theirs", 0.02))]) == [control]


def test_an_attacker_that_applies_nowhere_needs_no_level():
    skipped = AttackResult("none", "pretrained", applicable=False, reason="not installed")
    assert failed([*passing(leave_out={("pretrained", "none")}), Cell(0, skipped)]) == []


def test_every_seed_is_checked_for_itself():
    cells = [*passing(seed=0), *passing(seed=1, averaging__dp_pix_1=0.02)]
    assert below_level(check_attackers(cells)) == {("averaging", 1)}


def test_one_attacker_s_failure_takes_its_own_verdict_and_the_gate_s_takes_everybody_s():
    one = check_attackers(passing(inversion__none=0.3))
    assert (may_judge("inversion", 0, one), may_judge("averaging", 0, one)) == (False, True)
    everybody = check_attackers(passing(retrained__blur31=0.3))
    assert not may_judge("averaging", 0, everybody)
    assert may_judge("averaging", 1, everybody)
