"""The word for an attack that proves nothing where it was tried."""

from __future__ import annotations

from ddm_core.errors import DdmError


class DoesNotApplyError(DdmError):
    """The attack cannot be tried, or its outcome would prove nothing; the message is the reason to record."""
