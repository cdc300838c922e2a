"""Where MLflow is, told without its secrets. Imports no mlflow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddm_core.errors import DdmError

DEFAULT_URI = "sqlite:///mlflow.db"


def is_default() -> bool:
    """Tell whether MLflow stays in the current folder."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given in ("", DEFAULT_URI, f"sqlite:///{Path.cwd() / 'mlflow.db'}")


def tracking_uri() -> str:
    """Return the address that MLflow is given: MLFLOW_TRACKING_URI or `mlflow.db` in the current folder."""
    # Absolute, because MLflow keeps one connection an address, whatever the current folder becomes.
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}" if is_default() else os.environ["MLFLOW_TRACKING_URI"]


def shown_uri() -> str:
    """Return the address for people and records: credentials masked, the default one relative."""
    return DEFAULT_URI if is_default() else mask(tracking_uri())


def ui_command() -> str:
    """Return what to type, or to open, to see runs and models."""
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        return f"open {mask(uri)}"
    # The variable, not its value: it may hold a password.
    store = DEFAULT_URI if is_default() else '"$MLFLOW_TRACKING_URI"'
    return f"MLFLOW_DISABLE_TELEMETRY=true .venv/bin/mlflow ui --backend-store-uri {store}"


def mask(text: str) -> str:
    """Return `text` with the user, password and password-like query of every address replaced by ***."""
    masked = re.sub(r"://[^\s/]*@", "://***@", text)
    return re.sub(r"(?i)\b(password|passwd|token|secret)=[^&\s'\"]+", r"\1=***", masked)


@contextmanager
def explained() -> Iterator[None]:
    """Turn whatever MLflow raises inside the block into a one-line DdmError without credentials."""
    try:
        yield
    except DdmError:
        raise
    except Exception as error:
        lines = mask(str(error)).strip().splitlines() or [type(error).__name__]
        mend = "see that mlflow.db and mlartifacts/ are whole and writable, or move both away"
        if not is_default():
            mend = "see that it runs and that MLFLOW_TRACKING_URI is right"
        raise DdmError(f"MLflow at {shown_uri()}: {lines[0].rstrip('.')}; {mend}") from None
