"""S3 behind a proxy that misbehaves, and transfers that lose patience soon."""

import threading

import pytest
from proxy import Proxy

from ddm_core.storage import Transfer, reading

FIVE_MEBIBYTES = 5 << 20


@pytest.fixture
def hasty(monkeypatch):
    """Three tries, half a second of patience, the smallest parts that S3 allows."""
    monkeypatch.setattr(reading, "FIRST_PAUSE", 0.01)
    return Transfer(connect_seconds=0.5, read_seconds=0.5, attempts=3, part_bytes=FIVE_MEBIBYTES)


@pytest.fixture
def proxy(s3, s3_server, monkeypatch):
    """The way to the bucket `faces` that the environment names. `s3` itself goes straight to the server."""
    with Proxy(s3_server) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        yield server
        server.shutdown()
