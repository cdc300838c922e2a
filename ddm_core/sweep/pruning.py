"""Whether a training is given up: Optuna's median rule, among the trials that turned out private alone.

Among all of them, settings that leak but restore better photos would end those that hide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ddm_core.sweep.space import Pruning

Curve = Mapping[int, float]
"""Optimiser step -> PSNR in decibels."""


def median_rule(pruning: Pruning | None, rivals: Sequence[Curve]) -> Callable[[Curve], bool]:
    """Return the function that tells whether a training with this curve so far falls behind the `rivals`."""
    if pruning is None or len(rivals) < pruning.startup_trials:
        return lambda curve: False
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # this may be a process of its own
    pruner = optuna.pruners.MedianPruner(pruning.startup_trials, pruning.warmup_steps)
    study = optuna.create_study(direction="maximize")  # in memory
    study.add_trials([optuna.create_trial(value=0.0, intermediate_values=dict(rival)) for rival in rivals])

    def falls_behind(curve: Curve) -> bool:
        running = optuna.create_trial(state=optuna.trial.TrialState.RUNNING, intermediate_values=dict(curve))
        return pruner.prune(study, running)

    return falls_behind
