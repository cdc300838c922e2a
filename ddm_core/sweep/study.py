"""The sweep's memory and its choice of what to try next: an Optuna study in a database.

Maximised is the mean PSNR over the gate's channels, under one constraint an attacker: its upper 95 % bound
lies within the gate's limit. The sampler (TPE) ranks every trial that meets them above every one that does
not; so does `best`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddm_core.errors import DdmError
from ddm_core.learned_params import LearnedParams
from ddm_core.seeding import derive_seed
from ddm_core.strict import parse
from ddm_core.sweep.pruning import Curve
from ddm_core.sweep.space import Range, Setting, Space, is_whole
from ddm_core.sweep.task import Ended
from ddm_core.sweep.trial import Figures, as_plain
from ddm_core.tracking_address import mask

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

IDENTITY, STATE, REASON, FIGURES = "ddm.identity", "ddm.state", "ddm.reason", "ddm.figures"


def open_study(storage: str, name: str, identity: str) -> Study:
    """Return the study `name` of the database, made where it is missing.

    `identity` is a digest of all that decides a trial's figures. What a killed sweep left running is marked
    failed, and waits to be run again.

    Raises:
        DdmError: the database cannot be opened, or holds a sweep of that name with another identity.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _explained(storage):
        study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
        known = study.user_attrs.get(IDENTITY)
        if known is None:
            study.set_user_attr(IDENTITY, identity)
    if known not in (None, identity):
        raise DdmError(
            f"sweep '{name}': its settings, photos or code have changed since it began, so its trials cannot"
            " be compared; give another --name, or remove its folder to start anew"
        )
    _run_again(study)
    return study


def ask(study: Study, space: Space, base: LearnedParams) -> Trial:
    """Return a new trial with its values drawn, or one that was broken off.

    The draw depends on the seed, on how many trials there were and on what they came to, not on which
    process asks: a sweep that was interrupted goes on as it would have.
    """
    import optuna
    from optuna.trial import TrialState

    before = len(study.get_trials(deepcopy=False, states=(*_finished_states(), TrialState.RUNNING)))
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=space.startup_trials, seed=derive_seed(space.seed, f"sweep/{before}") % 2**32
    )
    return study.ask({name: _distribution(setting, base, name) for name, setting in space.settings.items()})


def known(study: Study, trial: Trial) -> Ended | None:
    """Return what an earlier trial of the very same values came to: it would come to that again."""
    for earlier in finished(study):
        if earlier.params == trial.params:
            state, reason = earlier.user_attrs[STATE], earlier.user_attrs.get(REASON, "")
            return Ended(state, earlier.intermediate_values, figures_of(earlier), reason)
    return None


def tell(study: Study, trial: Trial, ended: Ended) -> FrozenTrial:
    """Note what became of a trial. A broken training counts as pruned: its settings are of no use."""
    from optuna.trial import TrialState

    for step, psnr_db in ended.curve.items():
        trial.report(psnr_db, step)
    trial.set_user_attr(STATE, ended.state)
    if ended.figures is None:
        trial.set_user_attr(REASON, ended.reason)
        return study.tell(trial, state=TrialState.PRUNED)
    for attacker, excess in ended.figures.excess.items():
        trial.set_constraint(attacker, excess)
    trial.set_user_attr(FIGURES, as_plain(ended.figures))
    return study.tell(trial, ended.figures.psnr_db)


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that came to an end, complete or pruned, in order."""
    return study.get_trials(deepcopy=False, states=_finished_states())


def broken_off(study: Study) -> list[FrozenTrial]:
    """Return the trials that were running when a sweep was killed."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.FAIL,))


def figures_of(trial: FrozenTrial) -> Figures | None:
    """Return what a complete trial came to, None of a pruned one."""
    plain = trial.user_attrs.get(FIGURES)
    return None if plain is None else parse(plain, Figures, f"trial {trial.number}")


def rivals(study: Study) -> tuple[Curve, ...]:
    """Return the curves of the trials that turned out private."""
    return tuple(
        trial.intermediate_values
        for trial in finished(study)
        if (found := figures_of(trial)) is not None and found.private
    )


def best(study: Study) -> FrozenTrial | None:
    """Return the private trial of the highest mean PSNR, the earlier of equals; None if none is private."""
    private = [
        (found.psnr_db, -trial.number, trial)
        for trial in finished(study)
        if (found := figures_of(trial)) is not None and found.private
    ]
    return max(private, key=lambda entry: entry[:2])[2] if private else None


def _finished_states() -> tuple[Any, ...]:
    from optuna.trial import TrialState

    return TrialState.COMPLETE, TrialState.PRUNED


def _run_again(study: Study) -> None:
    """Mark what is still running failed: this process alone works on the study, and runs nothing yet."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)


def _distribution(setting: Setting, base: LearnedParams, name: str) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(setting, Range):
        return CategoricalDistribution(setting.choices)
    if is_whole(base, name):
        return IntDistribution(int(setting.low), int(setting.high), log=setting.log)
    return FloatDistribution(setting.low, setting.high, log=setting.log)


@contextmanager
def _explained(storage: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # SQLAlchemy's, its drivers' and Optuna's own
        lines = mask(str(error)).strip().splitlines() or [type(error).__name__]
        raise DdmError(
            f"--storage {mask(storage)}: {lines[0]}; give an address such as sqlite:///sweep.db"
        ) from None
