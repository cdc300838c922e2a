"""S3 behind a proxy that misbehaves, and transfers that lose patience soon."""

import functools
import threading

import pytest
from botocore.loaders import JSONFileLoader
from proxy import Proxy

from ddm_core.storage import Transfer, reading

FIVE_MEBIBYTES = 5 << 20


def _once(load_file):
    load = functools.cache(lambda path: load_file(JSONFileLoader(), path))
    return lambda self, path: load(path)


@pytest.fixture(scope="session", autouse=True)
def read_descriptions_once():
    """boto3 reads its descriptions of S3 from disk for every client: half a second on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", _once(JSONFileLoader.load_file))
        yield


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
