"""How a whole pipeline ended: told in the log, and recorded in MLflow when it failed."""

from __future__ import annotations

import sys

from ddm_core.errors import DdmError

SUCCEEDED = "SUCCEEDED"


def report_outcome(state: str, task: str | None, message: str | None) -> None:
    """Print how the pipeline ended; a failure becomes a failed run `pipeline` in MLflow too.

    `state` is KFP's (SUCCEEDED, FAILED, CANCELED). An unreachable MLflow is told, not raised: it may be the
    very reason for the failure.
    """
    if state == SUCCEEDED:
        print("pipeline: succeeded")
        return
    line = (
        f"pipeline: {state.lower()}" + (f" in {task}" if task else "") + (f": {message}" if message else "")
    )
    print(line, file=sys.stderr)
    from ddm_core.tracking import record_failure

    try:
        record_failure("pipeline", {"ddm.pipeline_state": state, "ddm.pipeline_error": line})
    except DdmError as error:
        print(f"pipeline: the failure is not recorded: {error}", file=sys.stderr)
