"""Resumable downloads of many files, each known by its SHA-256, from servers of strangers.

A file appears at its place only when it is whole and has its SHA-256. Unfinished ones lie in the folder's
`.parts`, named by their SHA-256, and are continued by HTTP ranges, in this run or in the next.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.files import sha256_file, write_bytes

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from ddm_core.data.polite_client import PoliteClient

PARTS_NAME = ".parts"
REPORT_NAME = "dead_links.tsv"
WORKERS_PER_CONNECTION = 8  # most wait for a busy host or for a retry; they hold no connection meanwhile
CHUNK = 256 * 1024  # bytes


@dataclass(frozen=True)
class Download:
    """A file that is wanted: its SHA-256, the addresses to try in turn, its place relative to the folder."""

    sha256: str
    urls: tuple[str, ...]
    relative: str


@dataclass(frozen=True)
class DownloadSettings:
    """How hard to try, and how politely.

    `concurrency` requests at a time in all and `per_host` at one host, at most `rate` a second at one host
    (a longer Crawl-delay in robots.txt counts); `timeout` in seconds to connect and between two pieces of an
    answer; after a failure that may pass `retries` more attempts, the first after `first_pause` seconds, then
    twice as many each time, or as the server asks; no file of more than `max_bytes`.
    """

    concurrency: int = 8
    per_host: int = 2
    timeout: float = 20.0
    retries: int = 3
    first_pause: float = 1.0
    max_bytes: int = 20_000_000
    rate: float = 4.0


@dataclass(frozen=True)
class DeadLink:
    """An address that did not give its file: the HTTP status, if there was an answer, and why in one line."""

    sha256: str
    url: str
    status: int | None
    reason: str


@dataclass(frozen=True)
class DownloadResult:
    """Files fetched now, files that were there already, files of which no address gave anything."""

    fetched: int
    present: int
    dead: int
    dead_links: tuple[DeadLink, ...]


def download_all(
    downloads: Sequence[Download],
    folder: Path,
    settings: DownloadSettings,
    *,
    admits: Callable[[str], bool] | None = None,
) -> DownloadResult:
    """Fetch what is not in `folder` yet; a file that cannot be had is in the result, and is no error.

    `admits` says to which IP addresses a connection may be made; by default to public ones.

    Raises:
        DdmError: another download into the folder is running.
        OSError: the folder cannot be written.
    """
    from ddm_core.data.polite_client import is_public

    with _locked_parts(folder) as parts:
        try:
            outcomes = asyncio.run(_run(downloads, folder, parts, settings, admits or is_public))
        except BaseExceptionGroup as errors:  # one worker failed, and the others were stopped for it
            raise errors.exceptions[0] from None
    failures = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
    return DownloadResult(
        fetched=outcomes.count("fetched"),
        present=outcomes.count("present"),
        dead=len(failures),
        dead_links=tuple(link for links in failures for link in links),
    )


def write_dead_links(path: Path, links: Sequence[DeadLink]) -> None:
    """Write the report of dead links: tab-separated with a header, in the order of the list."""
    lines = [f"{link.sha256}\t{link.url}\t{link.status or ''}\t{link.reason}\n" for link in links]
    report = "".join(["sha256\turl\tstatus\treason\n", *lines])
    write_bytes(
        path, report.encode(errors="surrogateescape")
    )  # addresses keep the bytes they had in the list


_Outcome = str | tuple[DeadLink, ...]  # "fetched", "present", or what went wrong at each address


async def _run(
    downloads: Sequence[Download],
    folder: Path,
    parts: Path,
    settings: DownloadSettings,
    admits: Callable[[str], bool],
) -> list[_Outcome]:
    from tqdm import tqdm

    from ddm_core.data.polite_client import PoliteClient

    outcomes: list[_Outcome] = [()] * len(downloads)
    waiting = iter(enumerate(downloads))
    progress = tqdm(total=len(downloads), desc="download", unit="file")

    async def work(client: PoliteClient) -> None:
        for place, download in waiting:  # all workers draw from the one iterator
            outcomes[place] = await _download(client, download, folder, parts, settings)
            progress.update()

    with progress:
        async with PoliteClient(settings, admits) as client, asyncio.TaskGroup() as workers:
            for _ in range(WORKERS_PER_CONNECTION * settings.concurrency):
                workers.create_task(work(client))
    return outcomes


async def _download(
    client: PoliteClient, download: Download, folder: Path, parts: Path, settings: DownloadSettings
) -> _Outcome:
    from ddm_core.data.polite_client import DeadLinkError, TransientError

    target, part = folder / download.relative, parts / download.sha256
    if _is_whole(target, download.sha256):
        return "present"
    dead_links = []
    for url in download.urls:
        try:
            await _fetch(client, url, part, download.sha256, settings)
        except DeadLinkError as error:
            if not isinstance(error, TransientError):
                part.unlink(missing_ok=True)
            dead_links.append(DeadLink(download.sha256, url, error.status, error.reason))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            return "fetched"
    return tuple(dead_links)


async def _fetch(client: PoliteClient, url: str, part: Path, sha256: str, settings: DownloadSettings) -> None:
    """Bring `part` to its SHA-256, with retries."""
    from ddm_core.data.polite_client import TransientError

    for attempt in range(settings.retries + 1):
        if _is_whole(part, sha256):  # by an earlier run that was killed before it moved the file
            return
        try:
            await _transfer(client, url, part, sha256, settings.max_bytes)
            return
        except TransientError as error:
            if error.status == 416:  # what we have is no beginning of what the server has
                part.unlink(missing_ok=True)
            if attempt == settings.retries:
                raise
            await asyncio.sleep(settings.first_pause * 2**attempt)


async def _transfer(client: PoliteClient, url: str, part: Path, sha256: str, max_bytes: int) -> None:
    """Make one request for `part`, or for what is missing of it."""
    from ddm_core.data.polite_client import DeadLinkError, TransientError

    begun = part.stat().st_size if part.exists() else 0
    async with client.get(url, {"Range": f"bytes={begun}-"} if begun else None) as response:
        continued = begun > 0 and _continues_at(response, begun)
        size = begun if continued else 0
        if size + (response.content_length or 0) > max_bytes:
            raise _too_large(max_bytes, response.status)
        with part.open("ab" if continued else "wb") as file:
            async for chunk in response.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes, response.status)
                file.write(chunk)
    if not _is_whole(part, sha256):
        part.unlink()
        reason = "another file than the one listed (SHA-256 differs)"
        raise (TransientError if begun else DeadLinkError)(reason, response.status)


def _continues_at(response: ClientResponse, begun: int) -> bool:
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {begun}-")


def _too_large(max_bytes: int, status: int) -> Exception:
    from ddm_core.data.polite_client import DeadLinkError

    return DeadLinkError(f"more than {max_bytes} bytes (--max-bytes)", status)


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256


@contextmanager
def _locked_parts(folder: Path) -> Iterator[Path]:
    """Yield the folder of unfinished files, ours alone; it goes when it is empty."""
    parts = folder / PARTS_NAME
    parts.mkdir(parents=True, exist_ok=True)
    handle = os.open(parts, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DdmError(f"{folder}: another download into it is running; wait for its end") from None
    try:
        yield parts
    finally:
        with suppress(OSError):  # unfinished files stay for the next run
            parts.rmdir()
        os.close(handle)
