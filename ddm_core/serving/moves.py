"""Promote, roll back, archive: decides moves. Nothing else moves an alias or archives a version."""

from __future__ import annotations

import getpass
import os
import re
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.gate import judge
from ddm_core.params import GateParams
from ddm_core.serving import moves_log
from ddm_core.serving.carrying_out import carry_out, complete, pending
from ddm_core.serving.evidence import read_evidence
from ddm_core.serving.examination import compare, digest, examine, refuse_changed, refuse_unusable
from ddm_core.serving.moves_log import Action, Entry, Move
from ddm_core.serving.versions import CHAMPION, aliases, find_version, is_archived, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_ALIAS = r"(?!latest$|v[0-9]+$)[a-z][a-z0-9_-]{0,99}"  # MLflow keeps `latest` and `v1` for itself


@dataclass(frozen=True)
class Outcome:
    """What was moved, or why nothing was, in one line.

    `moved` false and `refused` false: it was so already. `refused`: the champion's rule says no.
    """

    moved: bool
    text: str
    refused: bool = False


def promote(
    client: MlflowClient,
    name: str,
    which: str,
    gate: GateParams,
    *,
    alias: str = CHAMPION,
    reason: str = "",
    force: bool = False,
) -> Outcome:
    """Let `alias` point to a version (its number, or an alias it holds), if its evidence passes the gate.

    The evidence is what the registry stores, held against its digests and the version's files. Without a
    `reason` the champion's rule decides about the champion too. `force` sets the gate's and the evidence's
    objections aside; it needs a `reason`, and the version is marked for ever.

    Raises:
        DdmError: the version is not there, archived, without files, or fails (and no force).
        OvertakenError: somebody else moved something of this model meanwhile.
    """
    _check_words(alias, reason)
    if force and not reason:
        raise DdmError('--force needs --reason "…": it is kept for ever beside the version')
    entries = complete(client, name)
    held = aliases(client, name).get(alias)
    found = find_version(client, name, which)
    if int(found.version) == held:
        return Outcome(False, f"version {held} is {alias} already")
    refuse_unusable(found)
    evidence, objections = examine(found, gate)
    if objections and not force:
        raise DdmError(
            f"{name} version {found.version} is not promoted: {'; '.join(objections)};"
            f" see ddm registry show {found.version}"
        )
    if alias == CHAMPION and evidence is not None:
        better, comparison = compare(client, name, evidence, held, gate)
        if not better and not reason:
            return Outcome(False, f"the champion stays: {comparison}", refused=True)
        reason = reason or comparison
    move = _decide(
        "promote", found, entries, gate, alias=alias, before=held, reason=reason, overrode=objections
    )
    carry_out(client, name, move)
    return Outcome(True, moves_log.describe(move))


def rollback(
    client: MlflowClient,
    name: str,
    gate: GateParams,
    *,
    alias: str = CHAMPION,
    to: str = "",
    reason: str = "",
) -> Outcome:
    """Let `alias` point to the version that held it before, or to an earlier holder `to`.

    The gate is not asked again: the version held the alias, and a rollback is for haste. Its files must be
    there, and its evidence must be what it was when it was promoted.

    Raises:
        DdmError: nothing to go back to, or that version never held the alias, is archived or damaged.
        OvertakenError: somebody else moved something of this model meanwhile.
    """
    _check_words(alias, reason)
    unfinished = pending(moves_log.read(client, name))
    entries = complete(client, name)
    if unfinished and _is_this_rollback(unfinished.move, alias, to):
        return Outcome(True, f"finished what was broken off: {moves_log.describe(unfinished.move)}")
    held = aliases(client, name).get(alias)
    target = to or _nearest_holder(client, name, entries, alias, held)
    found = find_version(client, name, target)
    if int(found.version) == held:
        return Outcome(False, f"version {held} is {alias} already")
    if int(found.version) not in _all_holders(entries, alias):
        raise DdmError(
            f"{name} version {found.version} never was {alias}; use ddm registry promote {found.version}"
        )
    refuse_unusable(found)
    refuse_changed(found, entries, alias)
    move = _decide("rollback", found, entries, gate, alias=alias, before=held, reason=reason)
    carry_out(client, name, move)
    return Outcome(True, moves_log.describe(move))


def archive(
    client: MlflowClient, name: str, which: str, gate: GateParams, *, reason: str = "", undo: bool = False
) -> Outcome:
    """Put a version away, so that it is neither promoted nor rolled back to; its files stay.

    Raises:
        DdmError: the version is not there, or holds an alias.
        OvertakenError: somebody else moved something of this model meanwhile.
    """
    _check_words(CHAMPION, reason)
    entries = complete(client, name)
    found = find_version(client, name, which)
    holding = [alias for alias, held in aliases(client, name).items() if held == int(found.version)]
    if holding and not undo:
        raise DdmError(f"{name} version {found.version} is {' and '.join(holding)}; move that first")
    if is_archived(found) is not undo:
        return Outcome(False, f"version {found.version} is {'not archived' if undo else 'archived already'}")
    move = _decide("restore" if undo else "archive", found, entries, gate, reason=reason)
    carry_out(client, name, move)
    return Outcome(True, moves_log.describe(move))


def earlier_holders(entries: list[Entry], alias: str, held: int | None) -> list[int]:
    """Return the versions that rollbacks would go back to one after the other, the nearest last.

    What was rolled back from is not gone back to. `held` is who holds the alias now, which differs from the
    log where somebody moved it by hand.
    """
    stack: list[int] = []
    for move in (entry.move for entry in entries if entry.counts and entry.move.alias == alias):
        if move.before is not None and stack[-1:] != [move.before]:
            stack.append(move.before)
        if move.action == "rollback" and move.version in stack:
            del stack[stack.index(move.version) :]
        stack.append(move.version)
    while stack and stack[-1] == held:
        stack.pop()
    return stack


def _nearest_holder(
    client: MlflowClient, name: str, entries: list[Entry], alias: str, held: int | None
) -> str:
    known = {int(version.version): version for version in versions(client, name)}
    for number in reversed(earlier_holders(entries, alias, held)):
        if number in known and not is_archived(known[number]):
            return str(number)
    raise DdmError(f"{name}: no version held {alias} before; promote one (ddm registry promote VERSION)")


def _all_holders(entries: list[Entry], alias: str) -> set[int | None]:
    moves = [entry.move for entry in entries if entry.counts and entry.move.alias == alias]
    return {move.version for move in moves} | {move.before for move in moves}


def _is_this_rollback(move: Move, alias: str, to: str) -> bool:
    return move.action == "rollback" and move.alias == alias and to in ("", str(move.version))


def _decide(
    action: Action,
    version: ModelVersion,
    entries: list[Entry],
    gate: GateParams,
    *,
    reason: str,
    alias: str | None = None,
    before: int | None = None,
    overrode: tuple[str, ...] = (),
) -> Move:
    figures, limits = {}, {}
    with suppress(DdmError):  # a version without sound evidence has no figures to tell of
        checks = judge(read_evidence(version).content, gate).checks
        figures = {check.name: check.measured for check in checks if check.measured is not None}
        limits = {check.name: check.limit for check in checks if check.limit is not None}
    return Move(
        id=uuid.uuid4().hex,
        action=action,
        version=int(version.version),
        alias=alias,
        before=before,
        who=_who(),
        reason=" ".join(reason.split()),
        overrode=overrode,
        evidence_sha256=digest(version),
        figures=figures,
        limits=limits,
        after=moves_log.latest(entries),
    )


def _who() -> str:
    """Return the name that MLflow's login knows, or the account and machine; nobody proves either."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or f"{_account()}@{socket.gethostname()}"


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user has no name
        return f"user {os.getuid()}"


def _check_words(alias: str, reason: str) -> None:
    if re.fullmatch(_ALIAS, alias) is None:
        raise DdmError(
            f"{alias!r} cannot be an alias; use small letters, digits, '-' and '_', such as champion"
        )
    if len(reason) > moves_log.MAX_REASON:
        raise DdmError(f"--reason has {len(reason)} characters; {moves_log.MAX_REASON} at most")
