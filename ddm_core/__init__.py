"""Trains learned face-photo obfuscators by distribution discrepancy maximisation, and attacks them.

`load`, `encrypt` and `decrypt` are for programs that work with photos; see `ddm_core.photos.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddm_core.photos.api import decrypt, encrypt, load

__version__ = "0.1.0"
__all__ = ["decrypt", "encrypt", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes
    """Import the photo functions when they are first asked for: they need torch, which is slow to import."""
    if name not in __all__:
        raise AttributeError(f"module 'ddm_core' has no attribute '{name}'")
    from ddm_core.photos import api

    return getattr(api, name)
