"""A proxy on loopback that misbehaves on order, in front of a real S3 protocol server."""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

PER_HOP = ("connection", "keep-alive", "transfer-encoding", "expect", "server", "date")
CHUNK = 1 << 14
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} for hidden-key</Message></Error>"


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method whose path and query fit a pattern.

    reset: the connection dies before the server hears of it; hang: the same after `seconds`; lost: the
    server acts, its answer is lost; break: half of the answer's body, then the connection dies; short: half
    of it, then an orderly end; flip: one bit of the answer's body; flip_sent: one bit of what is sent; drip:
    the body comes in pieces, with pauses of `seconds`; stall: half of it, then silence of `seconds`; status:
    S3's error `code`; none: nothing, but `then` is called, as with every kind.
    """

    kind: str
    method: str = ""
    path: str = ""
    times: int = 1
    seconds: float = 0.0
    status: int = 0
    code: str = ""
    then: Callable[[], None] = lambda: None  # what happens meanwhile
    met: int = 0

    def fits(self, method, path):
        return self.times > self.met and self.method in ("", method) and re.search(self.path, unquote(path))


class Proxy(ThreadingHTTPServer):
    """Passes every request on to `upstream`, but for its faults, and remembers what it was asked."""

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.upstream = urlsplit(upstream).netloc
        self.faults, self.lock = [], threading.Lock()
        self.requests, self.ranges, self.signatures = [], [], []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def will(self, kind, **details):
        fault = Fault(kind, **details)
        self.faults.append(fault)
        return fault

    def fault_of(self, method, path, headers):
        with self.lock:
            self.requests.append((method, unquote(path)))
            self.ranges.append(headers.get("Range"))
            self.signatures.append(headers.get("Authorization"))
            for fault in self.faults:
                if fault.fits(method, path):
                    fault.met += 1
                    return fault
        return Fault("none")

    def handle_error(self, request, client_address):
        """Clients that give up are what this is about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault_of(self.command, self.path, self.headers)
        if fault.kind in ("reset", "hang"):
            time.sleep(fault.seconds)
            return self.die()
        if fault.kind == "status":
            body = ERROR.format(code=fault.code).encode()
            return self.answer(fault.status, {"Content-Type": "application/xml"}, body, len(body))
        if fault.kind == "flip_sent":
            sent = flipped(sent)
        status, headers, body = self.ask(sent)
        fault.then()
        if fault.kind == "lost":
            return self.die()
        if fault.kind == "flip":
            body = flipped(body)
        return self.answer(status, headers, body, self.said(headers, body), fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - names of http.server

    def ask(self, sent):
        connection = HTTPConnection(self.server.upstream, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in PER_HOP}
        connection.request(self.command, self.path, sent, headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def said(self, headers, body):
        length = {name.lower(): value for name, value in headers.items()}.get("content-length")
        return length if self.command == "HEAD" and length else len(body)

    def answer(self, status, headers, body, length, fault=Fault("none")):  # noqa: B008 - never changed
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in (*PER_HOP, "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = body[: len(body) // 2]
        if fault.kind == "drip":
            for start in range(0, len(body), CHUNK):
                self.write(body[start : start + CHUNK])
                time.sleep(fault.seconds)
        elif fault.kind in ("break", "short", "stall"):
            self.write(half)
            time.sleep(fault.seconds)
            if fault.kind == "short":
                self.close_connection = True
            else:
                self.die()
        else:
            self.write(body)

    def write(self, content):
        with contextlib.suppress(OSError):  # the client has gone
            self.wfile.write(content)
            self.wfile.flush()

    def die(self):
        """Close with a reset, as a crashed machine or a firewall does."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_):
        """Say nothing."""


def flipped(body):
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body
