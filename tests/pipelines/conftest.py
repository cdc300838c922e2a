"""A Kubeflow Pipelines server on loopback, and the command line that speaks to it."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from kfp_server import IMAGE, KfpServer

from ddm_core import cli

Said = namedtuple("Said", "status out err")


@pytest.fixture(autouse=True)
def no_kubeflow_around(monkeypatch):
    """No server, credential or cluster in the environment."""
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES", "KUBERNETES_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def server():
    """The server, for one user, without login; what it refuses as malformed fails the test."""
    with KfpServer() as server:
        yield server
    assert server.faults == []


@pytest.fixture(scope="session")
def params(tmp_path_factory):
    """The project's params.yaml with two obfuscators that need no training."""
    content = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    content["train"] = {"none": {"method": "none"}, "mosaic8": {"method": "mosaic", "block": 8}}
    content["report"] = {"headline": "mosaic8"}
    content["register"]["models"] = {}
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def ddm(capfdbinary):
    """Run `ddm pipeline …` in this process; return its exit status, stdout and stderr."""

    def run(*arguments):
        capfdbinary.readouterr()
        status = cli.main(["pipeline", *map(str, arguments)])
        out, err = capfdbinary.readouterr()
        return Said(status, out.decode(), err.decode())

    return run


@pytest.fixture
def submit(ddm, server, params):
    """Run `ddm pipeline submit` with an image against the server, looking at runs without a pause."""

    def run(*arguments, image=IMAGE, host=None):
        given = ["--params", params, "--host", host or server.address, "--interval", "0.01"]
        return ddm("submit", *given, *(["--image", image] if image else []), *arguments)

    return run
