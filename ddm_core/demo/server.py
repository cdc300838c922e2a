"""The demo page's server: on this machine alone, nothing kept, nothing written, no photo in any log."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from ddm_core.data.imaging import MAX_BYTES
from ddm_core.demo.steps import Demonstration, decrypt_step, encrypt_step
from ddm_core.errors import DdmError

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}
Step = Callable[[Demonstration, dict[str, Any]], dict[str, Any]]
STEPS: dict[str, Step] = {
    "/encrypt": encrypt_step,
    "/decrypt": decrypt_step,
}
MOST_BYTES = 4 * MAX_BYTES  # a photo and its encryption, in base64
MOST_DIGITS = len(str(MOST_BYTES))
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def open_server(demonstration: Demonstration, port: int) -> ThreadingHTTPServer:
    """Return a server of the page that listens on HOST; `serve_forever` answers.

    Raises:
        DdmError: another program listens on the port.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, demonstration, threading.Lock()))
    except (OSError, OverflowError) as error:
        raise DdmError(f"port {port}: {error}; give another with --port, or 0 for any") from None


def address(server: ThreadingHTTPServer) -> str:
    """Return the page's address."""
    return f"http://{HOST}:{server.server_port}/"


def _parse(content: bytes) -> dict[str, Any]:
    try:
        request = json.loads(content)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise DdmError("the request is not one of the demo page's; reload the page")
    return request


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, demonstration: Demonstration, turn: threading.Lock, *rest: Any) -> None:  # noqa: ANN401
        self.demonstration, self.turn = demonstration, turn
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Send a file of the page."""
        if not self._from_here():
            return
        if self.path not in FILES:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        name, kind = FILES[self.path]
        self._send(HTTPStatus.OK, kind, (PAGE / name).read_bytes())

    def do_POST(self) -> None:
        """Take one step, one at a time."""
        if not self._from_here():
            return
        step = STEPS.get(self.path)
        length = self.headers.get("Content-Length", "")
        if step is None or self.headers.get("Content-Type") != "application/json":
            self._refuse(HTTPStatus.NOT_FOUND, "no such step")
        elif not length.isdecimal() or len(length) > MOST_DIGITS or int(length) > MOST_BYTES:
            most = f"{MAX_BYTES >> 20} MiB"
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a photo of more than {most}; take a smaller one"
            )
        else:
            self._take(step, int(length))

    def _take(self, step: Step, length: int) -> None:
        content = self.rfile.read(length)
        try:
            request = _parse(content)
            with self.turn:
                answer = step(self.demonstration, request)
        except DdmError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:  # whatever else: the page must hear of it
            # Not its words, which may quote the request.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            print(f"ddm: error: {self.path}: {type(error).__name__} in {where}", file=sys.stderr)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the demo failed at this photo; try another one")
        else:
            self._send(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def log_message(self, form: str, *values: object) -> None:
        """Say what was asked and how it ended, never what was in it."""
        print(form % values, file=sys.stderr)

    def _from_here(self) -> bool:
        # A page elsewhere must not use this server, not even by a name that leads here.
        port = cast(HTTPServer, self.server).server_port
        hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and (origin is None or origin.removeprefix("http://") in hosts):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "this page is for this machine alone")
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # a body may be left unread
        self._send(status, "application/json", json.dumps({"error": reason}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": kind, "Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
