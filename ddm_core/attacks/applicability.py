"""The word for an attack that proves nothing where it was tried."""

from __future__ import annotations

from ddm_core.errors import DdmError
from ddm_core.results import CleanLevel


class DoesNotApplyError(DdmError):
    """The attack cannot be tried, or its outcome would prove nothing; the message is the reason to record.

    `clean_level` is what was measured where the attacker was found too weak.
    """

    def __init__(self, reason: str, clean_level: CleanLevel | None = None) -> None:
        super().__init__(reason)
        self.clean_level = clean_level
