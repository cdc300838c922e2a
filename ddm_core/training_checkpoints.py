"""Checkpoints of a training: written beside it, read when it goes on.

A checkpoint holds `state.safetensors` (a Snapshot's tensors) and `checkpoint.json`: the step, the seconds of
training until then, the history so far, and digests of both files, so that damage shows before it is used.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.checkpoint_options import CheckpointOptions
from ddm_core.checkpoint_places import (
    RECORD,
    STATE,
    DamagedCheckpointError,
    Place,
    UnreachablePlaceError,
    place_at,
)
from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes, sha256_file, write_text
from ddm_core.training_state import Snapshot

if TYPE_CHECKING:
    from ddm_core.data_parallel import Ranks

FORMAT_VERSION = 2
NO_CHECKPOINT = "there is no checkpoint"
MOST_FAILURES = 3  # of writing in a row, at a place that never took a checkpoint: its settings are wrong


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps and so many seconds; `history` holds its lines as plain values."""

    step: int
    seconds: float
    history: tuple[dict[str, Any], ...]
    snapshot: Snapshot

    @property
    def name(self) -> str:
        """Return its name, which sorts as the step does."""
        return f"step-{self.step:09}"

    @property
    def smoothed_l1(self) -> float:
        """Return the running mean of the reconstruction loss, by which the best checkpoint is told."""
        return float(self.snapshot.tensors["smoothed_l1"])


class Checkpoints:
    """The checkpoints of one training, written by a thread of their own while it goes on."""

    def __init__(self, place: Place, options: CheckpointOptions) -> None:
        self._place, self._options = place, options
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: Future[None] | None = None
        self._losses: dict[str, float] = {}  # of the checkpoints that are there
        self._failures = 0  # of writing, in a row
        self._step, self._saved_at = 0, time.monotonic()
        self.earlier_seconds = 0.0
        """What processes before this one have trained, as far as it counts."""

    def latest(self) -> Checkpoint | None:
        """Return the newest sound checkpoint; damaged ones are removed, with a line each on stderr."""
        found: Checkpoint | None = None
        for name in self._place.names():
            try:
                if found is None:
                    with self._place.opened(name, RECORD, STATE) as folder:
                        found = _read(folder)
                        self._losses[name] = found.smoothed_l1
                else:
                    with self._place.opened(name, RECORD) as folder:
                        self._losses[name] = float(_read_record(folder)["smoothed_l1"])
            except DamagedCheckpointError as damage:
                self._place.remove(name)
                print(f"{self._place.address}/{name}: damaged and removed: {damage}", file=sys.stderr)
        if found:
            self._step, self.earlier_seconds = found.step, found.seconds
            print(f"{self._place.address}: going on after step {found.step}", file=sys.stderr)
        return found

    def is_due(self, step: int) -> bool:
        """Tell whether a checkpoint is to be saved after `step`; not while the last one is being written.

        Raises:
            DdmError: the last one could not be written.
        """
        if self._writing:
            if not self._writing.done():
                return False
            self.wait()
        every = self._options.every
        if every.steps:
            return step // every.steps > self._step // every.steps
        return time.monotonic() - self._saved_at >= every.seconds

    def save(self, checkpoint: Checkpoint) -> None:
        """Have a checkpoint written in the background.

        Raises:
            DdmError: the one before could not be written.
        """
        self.wait()
        self._step, self._saved_at = checkpoint.step, time.monotonic()
        self._writing = self._thread.submit(self._write, checkpoint)

    def wait(self) -> None:
        """Wait until what was saved is written.

        Raises:
            DdmError: it could not be.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def standing(self) -> str:
        """Say in a few words what an end of the training now leaves to go on from."""
        with suppress(DdmError):
            self.wait()
        return self._standing()

    def _standing(self) -> str:
        if not self._losses:
            return NO_CHECKPOINT
        return f"the last good checkpoint is {self._place.address}/{max(self._losses)}"

    def note(self) -> str | None:
        """Return the text that was left for whoever goes on with the training."""
        return self._place.note()

    def write_note(self, text: str) -> None:
        """Leave a text for whoever goes on with the training."""
        self._place.write_note(text)

    def discard(self) -> None:
        """Remove all of them: the training is finished, and no write that failed matters any more."""
        with suppress(DdmError):
            self.wait()
        self._place.clear()

    def close(self) -> None:
        """Let the thread end what it is writing."""
        self._thread.shutdown()

    def _write(self, checkpoint: Checkpoint) -> None:
        from safetensors import SafetensorError

        try:
            self._place.write(checkpoint.name, lambda folder: _fill(folder, checkpoint))
            self._losses[checkpoint.name] = checkpoint.smoothed_l1
            self._failures = 0
            self._remove_superseded()
        except UnreachablePlaceError as error:
            self._note_failure(checkpoint, error)
        except (OSError, SafetensorError) as error:
            text = str(error).rpartition("error: ")[2].partition(" (os error")[0]  # safetensors' own words
            reason = error.strerror if isinstance(error, OSError) else text
            raise DdmError(
                f"{self._place.address}: the checkpoint of step {checkpoint.step} cannot be written"
                f" ({reason}); make room there and run the same command again; {self._standing()}"
            ) from None

    def _note_failure(self, checkpoint: Checkpoint, error: UnreachablePlaceError) -> None:
        self._failures += 1
        failure = (
            f"the checkpoint of step {checkpoint.step} is not written or an old one not removed: {error}"
        )
        if self._failures >= MOST_FAILURES and not self._losses:
            raise DdmError(f"{failure}; none was ever written, so the training ends") from None
        print(
            f"warning: {failure}; the training goes on, and the next one is tried when due;"
            f" {self._standing()}",
            file=sys.stderr,
        )

    def _remove_superseded(self) -> None:
        best = min(self._losses, key=lambda name: (self._losses[name], name))
        last = sorted(self._losses)[-self._options.keep :]
        for name in [name for name in self._losses if name != best and name not in last]:
            self._place.remove(name)
            del self._losses[name]


@contextmanager
def open_checkpoints(options: CheckpointOptions, key: str) -> Iterator[Checkpoints]:
    """Yield the checkpoints of the training `key`, alone on them; at the end what was saved is written.

    Raises:
        DdmError: the same training is running already, or S3 refuses.
    """
    place = place_at(options.place, key)
    if not options.resume:
        with place.held():
            place.clear()
    with place.held():
        checkpoints = Checkpoints(place, options)
        try:
            yield checkpoints
        finally:
            checkpoints.close()


def shared(ranks: Ranks, checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint of rank 0 in every process; it travels as it is stored, without pickle.

    Raises:
        DdmError: another process is gone.
    """
    from safetensors.torch import load, save

    values = checkpoint.step, checkpoint.seconds, checkpoint.history, checkpoint.snapshot.values
    step, seconds, history, rest = json.loads(ranks.from_leader(json.dumps(values).encode()))
    tensors = ranks.from_leader(save(checkpoint.snapshot.tensors))
    return Checkpoint(step, seconds, tuple(history), Snapshot(load(tensors), rest))


def _fill(folder: Path, checkpoint: Checkpoint) -> None:
    import numpy as np
    from safetensors.torch import save_file

    # numpy, for it works in this thread alone: torch would start a second team of OpenMP threads, and with
    # more of them than cores OpenMP puts all to sleep between operations, which slows every later step.
    tensors = checkpoint.snapshot.tensors
    if not all(bool(np.isfinite(tensor.numpy()).all()) for tensor in tensors.values()):
        raise DdmError(f"the weights are not finite after step {checkpoint.step}; lower learning_rate")
    save_file(tensors, folder / STATE)
    with (folder / STATE).open("rb") as file:
        os.fsync(file.fileno())
    record = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "smoothed_l1": checkpoint.smoothed_l1,
        "state_sha256": sha256_file(folder / STATE),
        "values": checkpoint.snapshot.values,
        "history": checkpoint.history,
    }
    write_text(folder / RECORD, json.dumps({"sha256": _digest(record), "record": record}, indent=1) + "\n")


def _read(folder: Path) -> Checkpoint:
    from safetensors.torch import load_file

    record = _read_record(folder)
    if sha256_file(folder / STATE) != record["state_sha256"]:
        raise DamagedCheckpointError(f"{STATE} has another checksum than when it was written")
    snapshot = Snapshot(load_file(folder / STATE), record["values"])
    return Checkpoint(record["step"], record["seconds"], tuple(record["history"]), snapshot)


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record: dict[str, Any] = content["record"]
        whole = content["sha256"] == _digest(record)
    except (ValueError, TypeError, KeyError):
        raise DamagedCheckpointError(f"{RECORD} is not what was written") from None
    if not whole:
        raise DamagedCheckpointError(f"{RECORD} has another checksum than when it was written")
    if record["format_version"] != FORMAT_VERSION:
        raise DamagedCheckpointError(f"format version {record['format_version']}, not {FORMAT_VERSION}")
    return record


def _digest(record: dict[str, Any]) -> str:
    return sha256_bytes(json.dumps(record, sort_keys=True).encode())
