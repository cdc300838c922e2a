"""Names the photos that a run is to take: by a digest or a commit, in place of an address alone."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from pathlib import Path

from ddm_core.data.dvc_source import DvcAddress, is_dvc, parse_dvc
from ddm_core.errors import DdmError
from ddm_core.fetch_params import FetchParams

LOOK_SECONDS = 60


def pin_photos(params: FetchParams) -> FetchParams:
    """Return `params` that name the photos which are there now, unless they name them already.

    A branch or tag of a DVC project becomes the commit that it stands for, without fetching a photo. Photos
    elsewhere are fetched once, into a folder that does not stay, and their digest is filled in.

    Raises:
        DdmError: the repository or the photos cannot be read, or text files beside the photos decide too.
    """
    if params.is_pinned:
        return params
    pinned = dataclasses.replace(
        params,
        uri=_at_commit(params.uri),
        lists=tuple(str(_at_commit(place)) for place in params.lists),
        corrections=_at_commit(params.corrections),
        exclude_people=_at_commit(params.exclude_people),
        verification=_at_commit(params.verification),
    )
    if not pinned.beside_is_pinned:
        raise DdmError(
            "--pin: fetch.lists, fetch.corrections and fetch.verification name files that may change; keep "
            "them in a DVC project, or leave --pin out"
        )
    return pinned if pinned.is_pinned else dataclasses.replace(pinned, digest=_digest(pinned))


def _at_commit(place: str | None) -> str | None:
    if place is None or not is_dvc(place):
        return place
    address = parse_dvc(place)
    return str(dataclasses.replace(address, revision=_commit_of(address)))


def _commit_of(address: DvcAddress) -> str:
    """As git itself: a tag goes before a branch of its name, an annotated tag stands for its commit."""
    tag, branch = f"refs/tags/{address.revision}", f"refs/heads/{address.revision}"
    found = _remote_references(address, f"{tag}^{{}}", tag, branch, address.revision)
    for name in (f"{tag}^{{}}", tag, branch, address.revision):
        if name in found:
            return found[name]
    raise DdmError(
        f"--pin: {address.repository} has no branch or tag {address.revision}; name one of them, or a commit "
        "with all its 40 digits"
    )


def _remote_references(address: DvcAddress, *names: str) -> dict[str, str]:
    unattended = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": ""}
    environment = {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes"} | dict(os.environ) | unattended
    try:
        done = subprocess.run(
            ["git", "ls-remote", "--", address.repository, *names],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LOOK_SECONDS,
        )
    except FileNotFoundError:
        raise DdmError("--pin: git is not installed; install it, or name a commit") from None
    except subprocess.TimeoutExpired:
        raise DdmError(
            f"--pin: {address.repository} does not answer within {LOOK_SECONDS} s; name a commit or try later"
        ) from None
    if done.returncode:
        raise DdmError(
            f"--pin: no git repository at {address.repository}, or no access; try `git ls-remote` with it"
        )
    lines = (line.split("\t") for line in done.stdout.splitlines())
    return {name: commit for commit, name in lines}


def _digest(params: FetchParams) -> str:
    from ddm_core.stages import fetch

    with tempfile.TemporaryDirectory() as folder:
        return fetch.run(params, raw=Path(folder) / "raw").digest
