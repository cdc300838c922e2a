"""What each node of a TrainJob runs: fetch settings and photos, train together, hand the results back.

    python -m ddm_core.trainjob.node --name keyed_ddm --job s3://… --prepared s3://… --checkpoints s3://…

Kubeflow Trainer tells the nodes of each other in the environment, see `ddm_core.processes.run_together`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ddm_core.errors import DdmError


def command(name: str, job: str, prepared: str, checkpoints: str) -> list[str]:
    """Return the command line of a node."""
    addresses = ["--job", job, "--prepared", prepared, "--checkpoints", checkpoints]
    return ["python", "-m", "ddm_core.trainjob.node", "--name", name, *addresses]


def run(name: str, job: str, prepared: str, checkpoints: str) -> None:
    """Train the obfuscator `name` on this node and the others; whoever holds the result sends it.

    `job` is the S3 prefix of what the task gives and gets, `prepared` that of the photos, `checkpoints` the
    place of the checkpoints.

    Raises:
        DdmError: something is missing, S3 does not answer, or the training failed.
        SystemExit: SIGTERM came; a checkpoint is written.
    """
    from ddm_core.checkpoint_options import DEFAULT_INTERVAL, CheckpointOptions, parse_interval
    from ddm_core.processes import SECTION, train_together
    from ddm_core.trainjob.exchange import HISTORY, MODEL, PHOTOS, SETTINGS, received, remove, send

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        with (
            received(SETTINGS, f"{job}/{SETTINGS}", work / SETTINGS) as settings,
            received(PHOTOS, prepared, work / PHOTOS) as photos,
        ):
            made = train_together(
                name,
                params=settings / SECTION,
                prepared=photos,
                work=work,
                checkpoints=CheckpointOptions(checkpoints, parse_interval(DEFAULT_INTERVAL)),
                processes=None,
            )
        if made.model.is_dir():
            for kind, folder in ((MODEL, made.model), (HISTORY, made.history)):
                remove(f"{job}/{kind}")  # this container may have been restarted while it sent
                send(kind, folder, f"{job}/{kind}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return the exit status: 0 well, 1 a DdmError (one line on stderr)."""
    parser = argparse.ArgumentParser(description="One node of a training on several.")
    for flag in ("--name", "--job", "--prepared", "--checkpoints"):
        parser.add_argument(flag, required=True)
    options = parser.parse_args(arguments)
    try:
        run(**vars(options))
    except DdmError as error:
        print(f"ddm: error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
