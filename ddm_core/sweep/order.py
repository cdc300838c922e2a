"""What a sweep is told to do, and what decides the figures of its trials."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ddm_core.checkpoints import weights_digest
from ddm_core.data.manifest import Summary
from ddm_core.errors import DdmError
from ddm_core.gate import Proportion, wilson
from ddm_core.learned_params import LearnedParams
from ddm_core.params import Params
from ddm_core.reporting.wording import percent
from ddm_core.sweep.space import Space
from ddm_core.sweep.trial import Laboratory
from ddm_core.training_key import code_digest


@dataclass(frozen=True)
class Order:
    """What is to be done: `obfuscator` of `params`, over its checked `space`, until `trials` have ended.

    `name` is the sweep's; `results` its folder; `storage` an address of a database as SQLAlchemy takes it,
    None for one in that folder. `jobs` trials run side by side. `command` is recorded in MLflow.
    """

    name: str
    obfuscator: str
    params: Params
    space: Space
    trials: int
    prepared: Path
    recogniser: Path
    results: Path
    storage: str | None = None
    jobs: int = 1
    mlflow: bool = True
    command: str = "ddm sweep"

    @property
    def base(self) -> LearnedParams:
        """Return the settings that a trial starts from."""
        return cast(LearnedParams, self.params.train[self.obfuscator])

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels that the mean PSNR is over: the gate's."""
        return tuple(self.params.register.gate.channels)


def laboratory(order: Order) -> Laboratory:
    """Return what the trials share: params with the sweep's own number of encryptions."""
    encryptions, params = order.space.encryptions_per_photo, order.params
    params = dataclasses.replace(
        params,
        attack=dataclasses.replace(params.attack, encryptions_per_photo=encryptions),
        utility=dataclasses.replace(params.utility, encryptions_per_photo=encryptions),
    )
    return Laboratory(order.obfuscator, params, order.prepared, order.recogniser)


def decisive_facts(order: Order, summary: Summary) -> dict[str, Any]:
    """Return everything that decides what a trial comes to, as plain data."""
    params = laboratory(order).params
    space = dataclasses.asdict(order.space)
    del space["trials"]  # more of them are the same sweep, continued
    return {
        "obfuscator": order.obfuscator,
        "settings": dataclasses.asdict(order.base),
        "space": space,
        "attack": dataclasses.asdict(params.attack),
        "utility": dataclasses.asdict(params.utility),
        "gate": dataclasses.asdict(params.register.gate),
        "dataset": summary.dataset_digest,
        "recogniser": weights_digest(order.recogniser),
        "code": code_digest(),
    }


def require_possible(order: Order, summary: Summary) -> None:
    """Refuse limits that even guessing would fail: few encryptions make wide intervals.

    Raises:
        DdmError: there are too few.
    """
    n = summary.counts.test * (order.space.encryptions_per_photo if order.base.keyed else 1)
    _, upper = wilson(Proportion(1 / summary.counts.identities, n), 0.975)
    gate = order.params.register.gate
    limits = [limit.max_top1_upper95 for limit in gate.attackers.values()]
    least = min(*limits, gate.max_worst_case_top1_upper95)
    if upper > least:
        raise DdmError(
            f"sweep: with {n} test encryptions the upper 95 % bound of an attacker that guesses is"
            f" {percent(upper)} %, above the gate's {percent(least)} %; raise encryptions_per_photo"
        )
