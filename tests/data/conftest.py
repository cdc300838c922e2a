"""A server on loopback that answers as a test wants it to."""

import pytest
from misbehaving_server import misbehaving_server


@pytest.fixture
def server():
    with misbehaving_server() as running:
        yield running
