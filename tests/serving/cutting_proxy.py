"""A proxy on loopback in front of an HTTP server, which cuts the line for good after so many requests."""

import contextlib
import re
import socket
import struct
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PER_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "server", "date")


class CuttingProxy(ThreadingHTTPServer):
    """Passes requests on until the line is cut; then every connection dies.

    The request at which it is cut is either `unheard` (never passed on) or `unanswered` (the server acts, the
    answer is lost).
    """

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.upstream = urlsplit(upstream).netloc
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.Lock()
        self.left, self.pattern, self.way, self.was_cut = None, None, "unheard", False
        self.methods = []

    def cut_after(self, requests, way):
        self.left, self.way = requests, way

    def cut_at(self, pattern, way):
        self.pattern, self.way = pattern, way

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()

    def fate(self, method, path):
        """`passed`, `unheard` or `unanswered`."""
        with self.lock:
            self.methods.append(method)
            if self.was_cut:
                return "unheard"
            if self.left is not None:
                self.left -= 1
            if self.left == -1 or (self.pattern and re.search(self.pattern, path)):
                self.was_cut = True
                return self.way
            return "passed"

    def handle_error(self, request, client_address):
        """Clients that give up are what this is about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fate = self.server.fate(self.command, self.path)
        if fate == "unheard":
            return self.die()
        status, headers, body = self.ask(sent)
        if fate == "unanswered":
            return self.die()
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in PER_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = pass_on  # noqa: N815 - names of http.server

    def ask(self, sent):
        connection = HTTPConnection(self.server.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, sent, headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), body

    def die(self):
        """Close with a reset, as a crashed machine or a firewall does."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_):
        """Say nothing."""
