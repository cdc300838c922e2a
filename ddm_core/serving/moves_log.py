"""The log of moves: what became of a registered model's aliases and versions, who did it, and why.

MLflow has no compare-and-set: of two writers of an alias or a tag the last one wins, and nobody is told. What
it does do atomically is to number versions: a new version of a registered model gets the highest number plus
one under a primary key, together with its tags, in one transaction. So the versions of the registered model
`NAME.moves` are a log that concurrent writers append to and can neither lose nor reorder: one version a move.

Every move says after which number it was decided. The first to be appended after a number takes effect; one
that was decided after the same number comes later in the log, is seen there by everybody as overtaken, and
moves nothing. No lease, no clock, nothing that expires. A request that the network repeated appends a move
twice, with the same id: the second is overtaken by the first.

The log is written before the alias moves, and marked done after. A move that its writer could not finish is
finished by whoever comes next (`ddm_core.serving.moves.complete`).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ddm_core.errors import DdmError
from ddm_core.serving.versions import versions
from ddm_core.strict import parse

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SUFFIX = ".moves"
MOVE_TAG = "ddm.move"
STATE_TAG = "ddm.move_state"
MAX_REASON = 1000  # characters

Action = Literal["promote", "rollback", "archive", "restore"]
State = Literal["done", "pending", "overtaken", "void"]


class OvertakenError(DdmError):
    """Somebody else moved something of this model since it was looked at; nothing of ours was moved."""


@dataclass(frozen=True)
class Move:
    """One move of `version`; `alias` went there from version `before` (`None`: nobody held it).

    `figures` are what the gate read, by check, and `limits` what it asked for: the policy may be another by
    now (`None` where a move was recorded without). `overrode` are the objections that --force set
    aside; a move with any is marked for ever. `after` is the number of the move that was the latest when this
    one was decided (0: none). `id` tells a repeated request from a second move.
    """

    id: str
    action: Action
    version: int
    alias: str | None
    before: int | None
    who: str
    reason: str
    overrode: tuple[str, ...]
    evidence_sha256: str | None
    figures: dict[str, float]
    after: int
    limits: dict[str, float] | None = None


@dataclass(frozen=True)
class Entry:
    """A move in the log: its number, when it was appended (milliseconds since 1970, the store's clock).

    `state`: done; pending (written, not carried out yet); overtaken (another was first, nothing moved);
    void (the version was deleted before it could be carried out).
    """

    number: int
    recorded_at: int
    move: Move
    state: State

    @property
    def counts(self) -> bool:
        """Whether the move took effect, or will."""
        return self.state in ("done", "pending")


def read(client: MlflowClient, name: str) -> list[Entry]:
    """Return the log of a registered model, the oldest first.

    Raises:
        DdmError: an entry is out of shape.
    """
    entries: list[Entry] = []
    latest = 0
    known: set[str] = set()
    for version in versions(client, name + SUFFIX):
        if MOVE_TAG not in version.tags:  # added by hand
            continue
        move = _parse(version)
        if move.id in known:  # a request that the network repeated
            continue
        known.add(move.id)
        state: State = "overtaken"
        if move.after == latest:
            latest = int(version.version)
            state = _state(version)
        entries.append(Entry(int(version.version), int(version.creation_timestamp), move, state))
    # Who appended a later one had finished those before it.
    return [
        dataclasses.replace(entry, state="done")
        if entry.state == "pending" and entry.number != latest
        else entry
        for entry in entries
    ]


def latest(entries: list[Entry]) -> int:
    """Return the number that the next move follows; 0 for an empty log."""
    return max((entry.number for entry in entries if entry.state != "overtaken"), default=0)


def append(client: MlflowClient, name: str, move: Move) -> Entry:
    """Append a move that was decided after reading the log, and return its entry.

    Raises:
        OvertakenError: another move was appended since; this one has no effect.
    """
    log = name + SUFFIX
    _create_log(client, name)
    client.create_model_version(
        log,
        source=f"models:/{name}/{move.version}",
        tags={MOVE_TAG: json.dumps(dataclasses.asdict(move), ensure_ascii=False)},
        description=describe(move),
        await_creation_for=0,  # nothing is copied: a reference is ready at once
    )
    entries = read(client, name)
    ours = [entry for entry in entries if entry.move.id == move.id]
    for entry in ours:
        if entry.counts:
            return entry
    winner = next(entry for entry in entries if entry.move.after == move.after and entry.counts)
    raise OvertakenError(
        f"{name}: nothing was moved, for {winner.move.who} was first: {describe(winner.move)}; look"
        " (ddm registry history) and run again if you still want it"
    )


def mark(client: MlflowClient, name: str, entry: Entry, state: State) -> None:
    """Note that a move was carried out (`done`) or never can be (`void`)."""
    client.set_model_version_tag(name + SUFFIX, str(entry.number), STATE_TAG, state)


def describe(move: Move) -> str:
    """Return a move in one line."""
    what = f"{move.action} version {move.version}"
    if move.alias:
        origin = f"from version {move.before}" if move.before is not None else "held by nobody before"
        what = f"{move.action}: {move.alias} to version {move.version}, {origin}"
    forced = f", FORCED past: {'; '.join(move.overrode)}" if move.overrode else ""
    because = f" ({move.reason})" if move.reason else ""
    return f"{what}{because}{forced}"[: 4 * MAX_REASON]


def _create_log(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    if client.search_registered_models(f"name = '{name + SUFFIX}'"):
        return
    try:
        client.create_registered_model(
            name + SUFFIX, description=f"What became of {name}: one version a move. Written by ddm registry."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # somebody else was first, which is as good
            raise


def _parse(version: ModelVersion) -> Move:
    where = f"{version.name} version {version.version}"
    try:
        content = json.loads(version.tags[MOVE_TAG])
    except json.JSONDecodeError:
        raise DdmError(f"{where}: tag {MOVE_TAG} was damaged; restore it from a backup of MLflow") from None
    return parse(content, Move, where)


def _state(version: ModelVersion) -> State:
    known: dict[str, State] = {"done": "done", "void": "void"}
    return known.get(version.tags.get(STATE_TAG, ""), "pending")
