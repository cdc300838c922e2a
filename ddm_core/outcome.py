"""How a whole pipeline ended: told in the log, and recorded in MLflow when it failed."""

from __future__ import annotations

import os
import sys

from ddm_core.errors import DdmError
from ddm_core.tracking_address import is_default

# KFP's own words, and those of the metadata store that its drivers pass on unchanged.
SUCCESSES = ("SUCCEEDED", "COMPLETE", "CACHED", "SKIPPED")
FAILURES = ("FAILED", "CANCELED", "CANCELLED", "CANCELING", "CANCELLING")


def report_outcome(state: str, message: str | None) -> None:
    """Print how the pipeline ended; a failure becomes a failed run `pipeline` in MLflow too.

    `state` is one of `SUCCESSES` or `FAILURES`. Of any other state, such as RUNNING, which some versions of
    KFP report of a pipeline with loops, nothing is recorded: it may stand for a success. An MLflow that
    cannot be reached, or that no setting names to a pod, is told, not raised: it may be the very reason for
    the failure.
    """
    if state in SUCCESSES:
        print("pipeline: succeeded")
    elif state in FAILURES:
        line = f"pipeline: {state.lower()}: {message or 'its page in KFP tells which task, and why'}"
        print(line, file=sys.stderr)
        _record(state, line)
    else:
        print(
            f"pipeline: ended in the unknown state {state}; nothing is recorded, its page in KFP tells more",
            file=sys.stderr,
        )


def _record(state: str, line: str) -> None:
    from ddm_core.tracking import record_failure

    try:
        if is_default() and "KUBERNETES_SERVICE_HOST" in os.environ:  # a store that vanishes with the pod
            raise DdmError("MLFLOW_TRACKING_URI is not set; set it in the ConfigMap ddm-settings")
        record_failure("pipeline", {"ddm.pipeline_state": state, "ddm.pipeline_error": line})
    except DdmError as error:
        print(f"pipeline: the failure is not recorded: {error}", file=sys.stderr)
