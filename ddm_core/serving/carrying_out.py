"""Carries out moves: log, then alias or tag, then the mark that it is done.

A move is decided, written into the log, carried out, and marked (`ddm_core.serving.moves_log` says why that
is safe among several writers). Broken off anywhere, either nothing has happened yet, or the log says what is
to happen and the next move of that model does it first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.serving import moves_log
from ddm_core.serving.moves_log import Entry, Move, State
from ddm_core.serving.versions import ARCHIVED_TAG, FORCED_TAG, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient


def complete(client: MlflowClient, name: str) -> list[Entry]:
    """Carry out the move that its writer could not finish, if there is one; return the log."""
    entries = moves_log.read(client, name)
    unfinished = pending(entries)
    if unfinished is None:
        return entries
    _finish(client, name, unfinished)
    return moves_log.read(client, name)


def pending(entries: list[Entry]) -> Entry | None:
    """Return the move that was written and not carried out yet; there is at most one."""
    return next((entry for entry in entries if entry.state == "pending"), None)


def carry_out(client: MlflowClient, name: str, move: Move) -> None:
    """Write a move into the log and carry it out.

    Raises:
        OvertakenError: another move was first; this one has no effect.
        DdmError: the version was deleted meanwhile.
    """
    if _finish(client, name, moves_log.append(client, name, move)) == "void":
        raise DdmError(f"{name} version {move.version} was deleted meanwhile; nothing was moved")


def _finish(client: MlflowClient, name: str, entry: Entry) -> State:
    """Carry out a move and mark it; return what became of it, or of the later one of the same alias.

    Somebody who was held up between log and alias may set the alias after a later move has. Whoever sets one
    therefore looks at the log again, until the alias is what the log says.
    """
    from mlflow.exceptions import MlflowException

    while True:
        state = _apply(client, name, entry.move)
        later = [other for other in moves_log.read(client, name) if _replaces(other, entry)]
        if not later:
            break
        entry = later[-1]
    # The alias is where it belongs, which is what was asked for: the next move marks this one if need be.
    with suppress(MlflowException):
        moves_log.mark(client, name, entry, state)
    return state


def _replaces(other: Entry, entry: Entry) -> bool:
    if other.number <= entry.number or not other.counts:
        return False
    if entry.move.alias is None:
        return other.move.alias is None and other.move.version == entry.move.version
    return other.move.alias == entry.move.alias


def _apply(client: MlflowClient, name: str, move: Move) -> State:
    from mlflow.exceptions import MlflowException

    version = str(move.version)
    try:
        if move.overrode:
            mark = f"{move.alias} by {move.who}: {move.reason}; past: {'; '.join(move.overrode)}"
            client.set_model_version_tag(name, version, FORCED_TAG, mark)
        if move.alias:
            client.set_registered_model_alias(name, move.alias, version)
        else:
            client.set_model_version_tag(name, version, ARCHIVED_TAG, str(move.action == "archive").lower())
    except MlflowException:
        if any(int(found.version) == move.version for found in versions(client, name)):
            raise
        return "void"
    return "done"
