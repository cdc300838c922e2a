"""Range checks of the parameter dataclasses: a broken one is a ValueError that the strict parser explains."""

from __future__ import annotations

import math
from typing import Any


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def require_positive(params: Any, *names: str) -> None:  # noqa: ANN401 - any parameter dataclass
    """Raise ValueError unless every named number is above 0 and finite."""
    for name in names:
        value = getattr(params, name)
        require(0 < value < math.inf, f"{name} is {value}; it must be above 0")
