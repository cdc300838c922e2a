"""A demo page of a small real model on loopback."""

import json
import threading
from http.client import HTTPConnection

import pytest
from started_networks import started_networks

from ddm_core.demo.server import open_server
from ddm_core.demo.steps import Demonstration
from ddm_core.key_ring import KeyRing, MasterKey
from ddm_core.obfuscators.store import Description, save_obfuscator
from ddm_core.photos.api import Vault
from ddm_core.photos.model import load_model


@pytest.fixture(scope="package")
def model_folder(tmp_path_factory, keyed_ddm_params):
    """Keyed DDM in colour as it starts: it already encrypts and decrypts."""
    folder = tmp_path_factory.mktemp("model")
    description = Description(keyed_ddm_params, 3, 32)
    save_obfuscator(folder, description, started_networks(description))
    return folder


@pytest.fixture(scope="package")
def demonstration(model_folder):
    vault = Vault(load_model(model_folder), KeyRing((MasterKey(bytes(range(32))),)))
    return Demonstration(vault, bytes(range(32, 64)))


@pytest.fixture(scope="package")
def port(demonstration):
    with open_server(demonstration, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(port):
    """Send a request as the page does, or with other headers; returns status, headers and content."""

    def send(method, path, body=None, **headers):
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request(method, path, content, sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    return send
