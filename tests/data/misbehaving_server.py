"""An HTTP server on loopback that answers as a test tells it to."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class MisbehavingServer(ThreadingHTTPServer):
    """Answers a path with the next of its `answers`, the last one for ever; `requests` is what was asked.

    An answer is a function of the request handler. `busiest` is the most slow answers at a time.
    """

    daemon_threads = True

    def __init__(self, host):
        super().__init__((host, 0), _Handler)
        self.answers = {}
        self.requests = []
        self.busiest = self.busy = 0
        self.lock = threading.Lock()

    def url(self, path):
        return f"http://{self.server_address[0]}:{self.server_port}{path}"

    def asked(self, path):
        """The headers of every request for a path, in order."""
        return [headers for asked, headers, _ in self.requests if asked == path]

    def times(self, path):
        return [moment for asked, _, moment in self.requests if asked == path]

    def handle_error(self, request, client_address):
        pass  # a client that goes away is no fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        with server.lock:
            server.requests.append((self.path, dict(self.headers), time.monotonic()))
            answers = server.answers.get(self.path, [status(404)])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    def log_message(self, *_):
        pass


@contextmanager
def misbehaving_server(host="127.0.0.1"):
    server = MisbehavingServer(host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(handler, code, content=b"", length=None, **headers):
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def content(body, **headers):
    return lambda handler: reply(handler, 200, body, **headers)


def status(code, **headers):
    return lambda handler: reply(handler, code, b"sorry", **headers)


def redirect(place, code=302):
    return status(code, Location=place)


def truncated(body, sent):
    """Promise the whole body, send its beginning, hang up."""

    def answer(handler):
        reply(handler, 200, body[:sent], length=len(body))
        handler.close_connection = True

    return answer


def ranged(body):
    """A server that honours Range."""

    def answer(handler):
        begin = int(handler.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        if begin >= len(body):
            reply(handler, 416, Content_Range=f"bytes */{len(body)}")
        elif begin:
            place = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            reply(handler, 206, body[begin:], Content_Range=place)
        else:
            reply(handler, 200, body)

    return answer


def endless(block):
    """A body without an announced end."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(block)

    return answer


def slow(seconds, then):
    def answer(handler):
        server = handler.server
        with server.lock:
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        time.sleep(seconds)
        with server.lock:  # before the answer, for the client's next request may follow at once
            server.busy -= 1
        then(handler)

    return answer


def stalling(body, sent, seconds):
    """Send the beginning of the body, then nothing for a while."""

    def answer(handler):
        reply(handler, 200, body[:sent], length=len(body))
        time.sleep(seconds)
        handler.close_connection = True

    return answer
