"""Data of another DVC project at one of its versions: `dvc://<git repository>@<revision>:<path>`.

DVC is called as a command, so that nothing here depends on its code; it finds the project's remote and the
credentials for it as it always does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from ddm_core.errors import DdmError
from ddm_core.files import write_text

SCHEME = "dvc://"
FORM = "dvc://<git repository>@<branch, tag or commit>:<path>"
NETWORK_SCHEMES = ("https", "http", "ssh", "git", "file")


@dataclass(frozen=True)
class DvcAddress:
    """A path of a DVC project at a revision.

    `repository` is a local path, `https://host/name`, `ssh://user@host/name` or `user@host:name`; `revision`
    is a branch, a tag or a commit; `path` is relative, with forward slashes. The last two hold no `@`.
    """

    repository: str
    revision: str
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}@{self.revision}:{self.path}"


@dataclass(frozen=True)
class DvcVersion:
    """What an address stood for when it was read.

    `commit` is the full git commit of its revision. `digest` is DVC's own hash of the folder (32 hexadecimal
    digits and `.dir`) or file (32 digits), as dvc.lock and .dvc files hold it: the same digest, the same
    names and bytes. It lies at `place` now.
    """

    address: DvcAddress
    commit: str
    digest: str
    place: Path


def is_dvc(uri: str) -> bool:
    """Tell whether `uri` is meant as the address of a DVC project's data."""
    return uri.startswith(SCHEME)


def parse_dvc(uri: str) -> DvcAddress:
    """Return the parts of `uri`: its last `@` ends the repository, the first `:` after it ends the revision.

    Raises:
        DdmError: not of that form, or a part that git or DVC could take for something else: an option,
            another transport, a place outside of the repository. A password is never repeated.
    """
    parts = re.fullmatch(r"dvc://(?P<repository>.+)@(?P<revision>[^@:]+):(?P<path>[^@]+)", uri)
    if parts is None or not uri.isprintable():
        raise DdmError(f"uri is not {FORM}; revision and path hold no @")
    address = DvcAddress(**parts.groupdict())
    _refuse_bad_repository(address.repository)
    if not re.fullmatch(r"[\w][\w./+~^-]*", address.revision) or ".." in address.revision:
        raise DdmError(f"uri: {address.revision!r} is no revision; name a branch, a tag or a commit")
    if address.path.startswith(("-", "/")) or {"", ".", ".."} & set(address.path.split("/")):
        raise DdmError(f"uri: {address.path!r} is no plain relative path; write it like data/raw")
    return address


def read_dvc(uri: str, folder: Path, *, timeout_seconds: float = 24 * 3600) -> DvcVersion:
    """Fetch what `uri` names into the existing folder `folder`, and say which version it was.

    The files of a folder come right into `folder`, a file does under its own name. Everything is fetched and
    checked before the first file appears in `folder`.

    Raises:
        DdmError: malformed address, no such repository, revision, folder or file, no access, data that are
            not in the project's remote or are damaged there, DVC missing, or no end within `timeout_seconds`.
    """
    address = parse_dvc(uri)
    repository = absolute_repository(address.repository)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dvc-", suffix=".tmp") as temporary:
        work = Path(temporary)
        # A project of its own, so that DVC writes down what it fetched: the commit, and the folder's hash.
        write_text(work / ".dvc/config", "[core]\n    no_scm = true\n[cache]\n    type = hardlink,copy\n")
        options = ("--rev", address.revision, "--out", "content")
        _dvc(work, address, timeout_seconds, "import", *options, "--", repository, address.path)
        version = _version(address, work / "content.dvc", folder)
        _lay(work / "content", folder, version)
    return version


def _refuse_bad_repository(repository: str) -> None:
    scheme, separator, rest = repository.partition("://")
    if not separator:
        # `git@host:name` is ssh; `ext::command` would run a command; an option begins with a dash.
        if "::" in repository or re.match(r"-|[^/]*@-", repository):
            raise DdmError(
                "uri: its repository is neither a path nor an address; write it like https://host/name"
            )
        return
    if scheme not in NETWORK_SCHEMES or rest.startswith("-") or "@-" in rest:
        raise DdmError(f"uri: its repository is no address of {', '.join(NETWORK_SCHEMES)}; use one of them")
    user = rest.partition("/")[0].rpartition("@")[0]
    if ":" in user or (user and scheme.startswith("http")):
        raise DdmError("uri: its repository holds credentials; leave them to git's credential helper")


def absolute_repository(repository: str) -> str:
    """Return a local path as seen from anywhere: people write it relative to here, and DVC works elsewhere.

    Any other address stays as it is.
    """
    local = "://" not in repository and not re.match(r"[^/]*@[^/]*:", repository)
    return str(Path(repository).expanduser().absolute()) if local else repository


def _dvc(folder: Path, address: DvcAddress, timeout_seconds: float, *arguments: str) -> None:
    # -P: whatever lies in the current folder, `dvc` is the installed one.
    command = [sys.executable, "-P", "-m", "dvc", *arguments]
    unattended = {"DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": ""}
    places = {"DVC_SITE_CACHE_DIR": str(folder / ".dvc/site")}
    environment = {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes"} | dict(os.environ) | unattended | places
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired:
        raise DdmError(f"{address}: no end within {timeout_seconds:g} seconds; check the network") from None
    if done.returncode:
        raise DdmError(f"{address}: {_reason(done.stderr, address)}")


def _reason(said: str, address: DvcAddress) -> str:  # noqa: PLR0911 - one line a mistake
    """Recognise what DVC says of common mistakes; its own words may hold addresses with secrets."""
    if "No module named dvc" in said:
        return "DVC is not installed; install requirements.lock"
    if "unknown Git revision" in said:
        return f"the repository has no revision {address.revision}; name a branch, a tag or a commit of it"
    if "Failed to clone" in said:
        return "no git repository there, or no access to it; try `git ls-remote` with the same repository"
    if f"unexpected error - ['{address.path}']" in said or "No such file or directory" in said:
        return f"the repository has no {address.path} at {address.revision}; `dvc list` shows what it has"
    if "No storage files available" in said or "missing" in said:
        return "its data are not in the project's DVC remote; run `dvc push` where they were made"
    if re.search("credentials|denied|forbidden", said, re.IGNORECASE):
        return "no access to the project's DVC remote; set its credentials, such as AWS_PROFILE"
    return "DVC could not fetch it; run `dvc get` with the same repository, --rev and path to see why"


def _version(address: DvcAddress, record: Path, folder: Path) -> DvcVersion:
    recorded = yaml.safe_load(record.read_text(encoding="utf-8"))
    digest = str(recorded["outs"][0]["md5"])
    place = folder if digest.endswith(".dir") else folder / address.path.rpartition("/")[2]
    return DvcVersion(address, str(recorded["deps"][0]["repo"]["rev_lock"]), digest, place)


def _lay(content: Path, folder: Path, version: DvcVersion) -> None:
    """Move what was fetched into place after a check: DVC takes what its remote gives under a hash's name."""
    single = content.is_file()
    files = [content] if single else sorted(path for path in content.rglob("*") if path.is_file())
    if (_md5(content) if single else _folder_md5(content, files)) != version.digest:
        raise DdmError(
            f"{version.address}: damaged in the project's DVC remote; remove it there and push again"
        )
    for path in files:
        path.chmod(0o644)  # DVC protects what it links to its cache
    if single:
        content.replace(version.place)
        return
    for path in content.iterdir():
        path.replace(folder / path.name)


def _folder_md5(folder: Path, files: list[Path]) -> str:
    """Return DVC's hash of a folder: that of a list of its files."""
    entries = [{"md5": _md5(path), "relpath": path.relative_to(folder).as_posix()} for path in files]
    entries.sort(key=lambda entry: entry["relpath"])
    listing = json.dumps(entries, sort_keys=True)
    return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
