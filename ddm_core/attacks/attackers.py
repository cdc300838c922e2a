"""The table of attackers: name -> what it does. The name is the same in params, files and reports."""

from __future__ import annotations

from collections.abc import Callable

from ddm_core.attacks.inversion import inversion
from ddm_core.attacks.nonce_reuse import nonce_reuse
from ddm_core.attacks.protocol import Outcome, Target
from ddm_core.attacks.recognition import clean, retrained
from ddm_core.attacks.wrong_key import wrong_key

ATTACK: dict[str, Callable[[Target], Outcome]] = {
    "clean": clean,
    "retrained": retrained,
    "inversion": inversion,
    "wrong_key": wrong_key,
    "nonce_reuse": nonce_reuse,
}
