"""The table of attackers: name -> what it does. The name is the same in params, files and reports."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ddm_core.results import ATTACKERS, CONTROLS, LAB_ATTACKERS

if TYPE_CHECKING:
    from ddm_core.attacks.protocol import Outcome, Target

MODULES = {"clean": "recognition", "retrained": "recognition"}
"""Where in ddm_core.attacks an attacker lives whose module does not have its name."""


def _attacker(name: str) -> Callable[[Target], Outcome]:
    def attack(target: Target) -> Outcome:
        # Imported on use: one attacker's cell must not depend on the packages that another one needs.
        module = importlib.import_module(f"ddm_core.attacks.{MODULES.get(name, name)}")
        outcome: Outcome = getattr(module, name)(target)
        return outcome

    return attack


ATTACK: dict[str, Callable[[Target], Outcome]] = {
    name: _attacker(name) for name in ATTACKERS + LAB_ATTACKERS + CONTROLS
}
