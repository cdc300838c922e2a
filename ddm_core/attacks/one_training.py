"""Fewer trainings, for attackers whose training data are dear or whose training is repeated."""

from __future__ import annotations

import dataclasses

from ddm_core.params import AttackParams


def one_training(params: AttackParams, part: int) -> AttackParams:
    """Return settings for one training of the first architecture, in a `part`-th of the epochs."""
    return dataclasses.replace(
        params,
        epochs=max(1, params.epochs // part),
        architectures=params.architectures[:1],
        validation_fraction=0.0,
        patience_epochs=0,
    )
