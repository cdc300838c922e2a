"""One training in several processes of one pod: `torchrun` starts them, this process waits for them.

`run` is what the component `train` calls, `run_together` what each node of a TrainJob calls as well.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.files import read_json, write_json
from ddm_core.results import TIMING
from ddm_core.termination import EXIT_STATUS, sigterm_noted

if TYPE_CHECKING:
    from ddm_core.checkpoint_options import CheckpointOptions
    from ddm_core.params import ObfuscatorParams
    from ddm_core.stages.train import TrainResult

SECTION = "train.json"  # JSON is YAML
STDERR = 2
LOOK_SECONDS = 0.2  # between two looks at whether SIGTERM came
LAST_WORDS_SECONDS = 5.0  # for what the processes said last to come through
OTHERS_END = "lost touch with another process"
_ERROR = re.compile(r"(?:^ddm: error: |(?=\b\w*(?:Error|Exception): ))(.+)")


@dataclasses.dataclass(frozen=True)
class Made:
    """The folders that a training wrote; on a node without the first process they are not there."""

    model: Path
    history: Path

    def copied_to(self, model: Path, history: Path) -> TrainResult:
        """Copy the folders to these places, each at once, and return what the stage would have returned."""
        from ddm_core.checkpoints import weights_digest
        from ddm_core.files import join_folders
        from ddm_core.stages.train import TrainResult

        join_folders([self.model], model)
        join_folders([self.history], history)
        return TrainResult(weights_digest(model), read_json(history / TIMING)["seconds"])


def run(
    params: ObfuscatorParams,
    *,
    name: str,
    prepared: Path,
    model: Path,
    history: Path,
    checkpoints: CheckpointOptions | None,
    processes: int,
) -> TrainResult:
    """Train as `stages.train.run` does, in that many processes on this machine: one a GPU.

    Of several, the first alone writes. Without `checkpoints` what they keep goes when they end.

    Raises:
        DdmError: as the stage.
        SystemExit: SIGTERM came; a checkpoint is written.
    """
    from ddm_core.checkpoint_options import DEFAULT_INTERVAL, CheckpointOptions, parse_interval
    from ddm_core.learned_params import LEARNED
    from ddm_core.stages import train

    if processes == 1 or not isinstance(params, LEARNED):
        return train.run(
            params, name=name, prepared=prepared, model=model, history=history, checkpoints=checkpoints
        )
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        kept = checkpoints or CheckpointOptions(str(work / "kept"), parse_interval(DEFAULT_INTERVAL))
        section = write_section(work, name, params)
        made = train_together(
            name, params=section, prepared=prepared, work=work, checkpoints=kept, processes=processes
        )
        return made.copied_to(model, history)


def train_together(
    name: str,
    *,
    params: Path,
    prepared: Path,
    work: Path,
    checkpoints: CheckpointOptions,
    processes: int | None,
) -> Made:
    """Let `run_together` train the obfuscator `name` of the file `params`; what it makes lies in `work`.

    As many checkpoints are kept as `ddm train` keeps. Raises as `run_together`.
    """
    made = Made(work / "models" / name, work / "histories" / name)
    paths = {
        "--params": params,
        "--prepared": prepared,
        "--models": made.model.parent,
        "--histories": made.history.parent,
        "--checkpoints": checkpoints.place,
        "--checkpoint-every": str(checkpoints.every),
    }
    anew = [] if checkpoints.resume else ["--no-resume"]
    run_together(["train", name, *(str(part) for pair in paths.items() for part in pair), *anew], processes)
    return made


def write_section(folder: Path, name: str, params: ObfuscatorParams) -> Path:
    """Write a parameter file that holds this one obfuscator, for `ddm train`; return its path."""
    path = folder / SECTION
    write_json(path, {"train": {name: dataclasses.asdict(params)}})
    return path


def run_together(arguments: Sequence[str], processes: int | None) -> None:
    """Run `ddm ARGUMENTS` in so many processes that know each other, and wait for them.

    With None the environment says how many there are on how many nodes, and where the first is: `torchrun`
    reads PET_NPROC_PER_NODE, PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT, which Kubeflow
    Trainer sets.

    Raises:
        DdmError: one of them failed; the first error that they named.
        SystemExit: SIGTERM came, and was passed on; status 143, which `torchrun` itself would make a 1.
    """
    here = [] if processes is None else ["--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-m", "torch.distributed.run", *here, "-m", "ddm_core.cli", *arguments]
    said = Said()
    with sigterm_noted() as terminated:
        # A session of their own: who signals this whole process group must not signal them twice.
        launcher = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
        reader = Thread(target=said.pass_on, args=(launcher.stderr,), daemon=True)
        reader.start()
        try:
            passed_on = False
            while launcher.poll() is None:
                if terminated() and not passed_on:
                    launcher.terminate()
                    passed_on = True
                _wait(launcher)
        finally:
            if launcher.poll() is None:
                launcher.terminate()
                launcher.wait()
        reader.join(LAST_WORDS_SECONDS)
        if launcher.returncode == 0:
            return
        if terminated():
            raise SystemExit(EXIT_STATUS)
        raise DdmError(said.reason() or "training in several processes failed without a word")


class Said:
    """What processes say on stderr: all of it is passed on, and the errors among it are kept."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._errors: list[str] = []

    def pass_on(self, stream: IO[bytes]) -> None:
        """Write what comes, when it comes, to this process's stderr, until the stream ends."""
        rest = b""
        with open(STDERR, "wb", buffering=0, closefd=False) as ours:
            while chunk := os.read(stream.fileno(), 1 << 16):
                said = chunk.replace(b"\r", b"\n")  # a log has no line to write over
                ours.write(said)
                *lines, rest = (rest + said).split(b"\n")
                self._errors += [
                    line
                    for line in (line.decode("utf-8", "replace") for line in lines)
                    if _ERROR.search(line)
                ]

    def reason(self) -> str | None:
        """Return the first error that a process named, one of its own rather than another's end."""
        found = sorted(self._errors, key=lambda line: OTHERS_END in line)
        match = _ERROR.search(found[0]) if found else None
        return match[1] if match else None


def _wait(launcher: subprocess.Popen[bytes]) -> None:
    try:
        launcher.wait(timeout=LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return
