"""What is tried next, what is given up, and which trial is best: on figures made up to tell them apart."""

import math

import pytest

from ddm_core.errors import DdmError
from ddm_core.sweep.pruning import median_rule
from ddm_core.sweep.space import Choices, Pruning, Range, Space
from ddm_core.sweep.study import ask, best, broken_off, finished, known, open_study, rivals, tell
from ddm_core.sweep.task import Ended
from ddm_core.sweep.trial import Figures

LIMIT = 0.08
SPACE = Space(
    settings={"learning_rate": Range(1e-4, 1e-1, log=True), "quaternions": Range(5, 8)},
    trials=24,
    seed=0,
    startup_trials=4,
)


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def complete(psnr_db, upper95, curve=None):
    """A trial that ended with this PSNR, and an attacker whose upper bound this is."""
    figures = Figures(psnr_db, {"attacker_clean": upper95 - LIMIT}, "clean", 0.0, upper95, "", {})
    return Ended("complete", curve or {25: psnr_db}, figures)


def landscape(params):
    """The best PSNR is at a learning rate of 1e-2, and a model of five quaternions leaks but gains 20 dB."""
    leaks = params["quaternions"] == 5
    psnr_db = 30 - 3 * abs(math.log10(params["learning_rate"]) + 2) + 20 * leaks
    return complete(psnr_db, 0.9 if leaks else 0.03)


def tried(study):
    return [trial.params for trial in finished(study)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, keyed_ddm_params):
    """A sweep of the landscape that nothing interrupted. Read only."""
    folder = tmp_path_factory.mktemp("whole")
    study = open_study(f"sqlite:///{folder / 'study.db'}", "whole", "identity")
    for _ in range(SPACE.trials):
        trial = ask(study, SPACE, keyed_ddm_params)
        tell(study, trial, landscape(trial.params))
    return study


def test_values_lie_in_their_ranges_and_whole_ones_are_whole(swept):
    assert len(tried(swept)) == SPACE.trials
    for params in tried(swept):
        assert 1e-4 <= params["learning_rate"] <= 1e-1
        assert params["quaternions"] in (5, 6, 7, 8)
        assert isinstance(params["quaternions"], int)


def test_a_private_trial_beats_one_that_leaks_but_restores_better(swept):
    trials = finished(swept)
    found = best(swept)
    assert any(trial.params["quaternions"] == 5 and trial.value > found.value for trial in trials)
    private = [trial.value for trial in trials if trial.params["quaternions"] > 5]
    assert found.value == max(private)


def test_the_sampler_looks_where_trials_were_private(swept):
    """One that drew at random would take what leaks once in four times; one that went by PSNR, each time."""
    learned = tried(swept)[SPACE.trials // 2 :]
    assert sum(params["quaternions"] == 5 for params in learned) <= 1


def test_without_a_private_trial_there_is_no_best_one(storage, keyed_ddm_params):
    study = open_study(storage, "leaks", "identity")
    tell(study, ask(study, SPACE, keyed_ddm_params), complete(40.0, 0.9))
    assert best(study) is None


def test_a_sweep_that_was_killed_goes_on_with_the_very_trials_it_would_have_made(
    swept, storage, keyed_ddm_params
):
    trials = 9
    for place in range(trials):
        study = open_study(storage, "killed", "identity")
        if place in (1, 7):  # among the random ones, and among the others
            ask(study, SPACE, keyed_ddm_params)
            study = open_study(storage, "killed", "identity")
        trial = ask(study, SPACE, keyed_ddm_params)
        tell(study, trial, landscape(trial.params))
    assert tried(study) == tried(swept)[:trials]
    assert len(broken_off(study)) == 2


def test_another_seed_makes_other_trials(swept, storage, keyed_ddm_params):
    other = Space(SPACE.settings, trials=1, seed=1)
    trial = ask(open_study(storage, "other", "identity"), other, keyed_ddm_params)
    assert trial.params not in tried(swept)


def test_a_sweep_whose_settings_have_changed_is_refused(storage):
    open_study(storage, "keyed_ddm", "identity")
    with pytest.raises(DdmError, match=r"sweep 'keyed_ddm': .* have changed .* --name"):
        open_study(storage, "keyed_ddm", "another identity")


@pytest.mark.parametrize("address", ["nowhere", "sqlite:////nowhere/study.db", "mysql://me:secret@host/x"])
def test_a_database_that_cannot_be_opened_is_one_line_without_its_password(address):
    with pytest.raises(DdmError) as refused:
        open_study(address, "keyed_ddm", "identity")
    assert "--storage" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_same_values_come_to_the_same_without_another_training(storage, keyed_ddm_params):
    study = open_study(storage, "keyed_ddm", "identity")
    space = Space({"batch_size": Choices((8, 16))}, trials=3, seed=0)
    ended = {8: complete(20.0, 0.03, {25: 10.0, 50: 12.0}), 16: Ended("pruned", {25: 5.0}, reason="behind")}
    answers = []
    for _ in range(3):
        trial = ask(study, space, keyed_ddm_params)
        answers.append(known(study, trial))
        tell(study, trial, ended[trial.params["batch_size"]])
    repeated = [answer for answer in answers if answer is not None]
    assert answers[0] is None
    assert repeated
    assert all(answer in ended.values() for answer in repeated)


# Pruning


def test_a_training_below_the_median_of_its_rivals_at_the_same_step_falls_behind():
    behind = median_rule(Pruning(startup_trials=3), [{25: 10.0}, {25: 20.0}, {25: 30.0}])
    assert behind({25: 19.0})
    assert not behind({25: 21.0})


def test_nobody_falls_behind_before_there_are_rivals_or_before_the_warm_up():
    rivals = [{25: 20.0, 50: 20.0}] * 2
    assert not median_rule(Pruning(startup_trials=3), rivals)({25: 1.0})
    assert not median_rule(None, rivals)({25: 1.0})
    behind = median_rule(Pruning(startup_trials=2, warmup_steps=50), rivals)
    assert not behind({25: 1.0})
    assert behind({25: 1.0, 50: 1.0})


def test_only_private_trials_are_rivals(storage, keyed_ddm_params):
    """Otherwise settings that leak, and restore better, would end the trainings of those that hide."""
    study = open_study(storage, "keyed_ddm", "identity")
    for ended in (
        complete(40.0, 0.9, {25: 40.0}),
        complete(20.0, 0.03, {25: 20.0}),
        Ended("pruned", {25: 9.0}, reason="behind"),
    ):
        tell(study, ask(study, SPACE, keyed_ddm_params), ended)
    assert rivals(study) == ({25: 20.0},)
