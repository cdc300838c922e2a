"""An HTTP client for many strangers' servers: bounded, patient, obedient to robots.txt, and never led inside.

Imported only where something is downloaded, for aiohttp is slow to import.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.robotparser import RobotFileParser

import aiohttp
from yarl import URL

from ddm_core import __version__
from ddm_core.data.downloads import DownloadSettings

PRODUCT = "ddm-pipeline"  # the name that robots.txt may address
USER_AGENT = f"{PRODUCT}/{__version__} (downloads the photos that a published face dataset lists)"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
RETRYABLE = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
MAX_WAIT = 600.0  # seconds; who asks for a longer pause is left alone for this run
TOTAL_TIMEOUTS = 15  # one transfer may take that many times the timeout, however steadily it drips
MAX_ROBOTS_BYTES = 500 * 1024  # RFC 9309: what a crawler must read at least
MAX_UNANSWERED = 4  # connections in a row


class DeadLinkError(Exception):
    """A file that its address does not give: why, in one line, and the HTTP status if there was an answer."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class TransientError(DeadLinkError):
    """A failure that may pass."""


class _PrivateAddressError(OSError):
    def __init__(self) -> None:
        super().__init__(errno.EACCES, "private address")


@dataclass
class _Host:
    """What is known of one host; `interval` and `next_request` are in seconds of the event loop's clock."""

    interval: float
    connections: asyncio.Semaphore
    robots: dict[URL, RobotFileParser] = field(default_factory=dict)
    robots_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_request: float = 0.0
    unanswered: int = 0

    def postpone(self, seconds: float) -> None:
        self.next_request = max(self.next_request, asyncio.get_running_loop().time() + seconds)

    async def wait(self) -> None:
        clock = asyncio.get_running_loop().time
        while (pause := self.next_request - clock()) > 0:
            await asyncio.sleep(pause)
        self.next_request = clock() + self.interval


def is_public(address: str) -> bool:
    """Tell whether an IP address is reachable by everybody: no loopback, private, link-local or multicast."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    return ip.is_global and not ip.is_multicast


class PoliteClient:
    """GET requests under `settings`; only IP addresses that `admits` accepts are connected to."""

    def __init__(self, settings: DownloadSettings, admits: Callable[[str], bool]) -> None:
        self._settings = settings
        self._admits = admits
        self._connections = asyncio.Semaphore(settings.concurrency)
        self._hosts: dict[str, _Host] = {}

    async def __aenter__(self) -> Self:
        timeout = self._settings.timeout
        self._session = aiohttp.ClientSession(
            # The factory sees the address itself, so no name and no redirect leads past it.
            connector=aiohttp.TCPConnector(limit=0, socket_factory=self._socket),
            timeout=aiohttp.ClientTimeout(
                total=TOTAL_TIMEOUTS * timeout, sock_connect=timeout, sock_read=timeout
            ),
            headers={"User-Agent": USER_AGENT, "Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def get(
        self, address: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer, 200 or 206, after redirects; reading its body raises the same errors.

        Raises:
            DeadLinkError: no HTTP address, a private one, forbidden by robots.txt, a final HTTP status.
            TransientError: no connection, a broken or late answer, an HTTP status that may pass.
        """
        async with self._follow(_parse(address), headers, obey_robots=True) as (host, response):
            if response.status not in (200, 206):
                raise _bad_status(host, response)
            yield response

    @asynccontextmanager
    async def _follow(
        self, url: URL, headers: Mapping[str, str] | None, *, obey_robots: bool
    ) -> AsyncIterator[tuple[_Host, aiohttp.ClientResponse]]:
        for _ in range(MAX_REDIRECTS + 1):
            host = self._host(url)
            if obey_robots:
                await self._ask_robots(host, url)
            with _explained(host):
                async with (
                    self._turn(host),
                    self._session.get(url, headers=headers, allow_redirects=False) as response,
                ):
                    host.unanswered = 0
                    if response.status not in REDIRECTS or "Location" not in response.headers:
                        yield host, response
                        return
                    url = _parse(response.headers["Location"], url)
        raise DeadLinkError(f"more than {MAX_REDIRECTS} redirects")

    def _host(self, url: URL) -> _Host:
        name = url.host or ""
        if name not in self._hosts:
            places = asyncio.Semaphore(self._settings.per_host)
            self._hosts[name] = _Host(1 / self._settings.rate, places)
        host = self._hosts[name]
        if host.unanswered >= MAX_UNANSWERED:
            raise DeadLinkError("the host does not answer")
        return host

    @asynccontextmanager
    async def _turn(self, host: _Host) -> AsyncIterator[None]:
        """Wait for the host first: whoever waits for a busy host keeps nobody from another one."""
        async with host.connections:
            await host.wait()
            async with self._connections:
                yield

    async def _ask_robots(self, host: _Host, url: URL) -> None:
        async with host.robots_lock:
            rules = host.robots.get(url.origin()) or await self._read_robots(host, url.origin())
        if not rules.can_fetch(PRODUCT, str(url)):
            raise DeadLinkError("robots.txt forbids it")

    async def _read_robots(self, host: _Host, origin: URL) -> RobotFileParser:
        """Return the rules of an origin; RFC 9309: none if there is no such file, no access if it fails."""
        rules = RobotFileParser()
        async with self._follow(origin / "robots.txt", None, obey_robots=False) as (answering, response):
            if response.status == 429 or response.status >= 500:
                error = _bad_status(answering, response)
                raise type(error)(f"robots.txt: {error.reason}", error.status)
            text = await _read_text(response) if response.status == 200 else ""
        rules.parse(text.splitlines())
        delay = float(rules.crawl_delay(PRODUCT) or 0)
        if delay > MAX_WAIT:
            raise DeadLinkError(f"robots.txt asks for {delay:g} s between requests")
        host.interval = max(host.interval, delay)
        host.postpone(delay)
        host.robots[origin] = rules
        return rules

    def _socket(self, address_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if not self._admits(str(address[0])):
            raise _PrivateAddressError
        return socket.socket(family, kind, protocol)


def _parse(address: str, base: URL | None = None) -> URL:
    try:
        url = base.join(URL(address)) if base else URL(address)
    except ValueError:
        raise DeadLinkError("no valid address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise DeadLinkError("leads to no http or https address")
    if url.user is not None or url.password is not None:
        raise DeadLinkError("the address holds credentials")
    return url


def _bad_status(host: _Host, response: aiohttp.ClientResponse) -> DeadLinkError:
    """Return what a status means; a pause that the server asks for holds for all requests to the host."""
    reason = f"HTTP {response.status}"
    if response.status not in RETRYABLE:
        return DeadLinkError(reason, response.status)
    wait = _seconds(response.headers.get("Retry-After", ""))
    if wait > MAX_WAIT:
        return DeadLinkError(f"{reason}, asks to wait {wait:.0f} s; run again later", response.status)
    host.postpone(wait)
    return TransientError(reason, response.status)


def _seconds(retry_after: str) -> float:
    """Return the seconds that a Retry-After header asks for, a number or a date; 0 if it is neither."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


async def _read_text(response: aiohttp.ClientResponse) -> str:
    content = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        content += chunk
        if len(content) >= MAX_ROBOTS_BYTES:
            break
    return content[:MAX_ROBOTS_BYTES].decode(errors="replace")


@contextmanager
def _explained(host: _Host) -> Iterator[None]:
    """Turn what aiohttp raises into the two errors above."""
    try:
        yield
    except aiohttp.ClientSSLError:
        raise DeadLinkError("no valid TLS certificate") from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _PrivateAddressError):
            raise DeadLinkError("leads to a private address (--allow-private-hosts admits them)") from None
        if isinstance(error, aiohttp.ClientConnectorDNSError) and error.errno == socket.EAI_NONAME:
            raise DeadLinkError("no such host") from None
        host.unanswered += 1
        raise TransientError(f"no connection ({type(error.os_error).__name__})") from None
    except TimeoutError as error:
        host.unanswered += isinstance(error, aiohttp.ConnectionTimeoutError)
        raise TransientError("timed out") from None
    except ValueError:  # aiohttp.InvalidURL, or a host name that IDNA cannot encode
        raise DeadLinkError("no valid address") from None
    except aiohttp.ClientError as error:
        raise TransientError(f"broken answer ({type(error).__name__})") from None
