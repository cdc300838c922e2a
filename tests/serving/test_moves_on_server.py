"""Moves on a real MLflow server, on sqlite and Postgres: several processes at once, and cut lines."""

import os
import subprocess
import sys

import pytest
import yaml
from cutting_proxy import CuttingProxy
from databases import postgres, sqlite
from mlflow.exceptions import MlflowException
from mlflow_server import running_server
from registered_versions import CHECKOUT, GATE, MODEL, add_version

from ddm_core.serving import moves_log
from ddm_core.serving.moves import archive, promote, rollback
from ddm_core.serving.versions import aliases, versions
from ddm_core.tracking import connect

RIVALS = 4


@pytest.fixture(scope="module", params=[sqlite, postgres], ids=["sqlite", "postgres"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with request.param(folder) as store, running_server(folder, store) as address:
        yield address


@pytest.fixture
def project(server, tmp_path, monkeypatch):
    """The current folder, and the server as its registry."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(request):
    """A model of one's own for each test: the server is shared."""
    return f"{MODEL}-{abs(hash(request.node.name)) % 10**9}"


RIVAL = """
import sys, time
from ddm_core.cli import main
import ddm_core.serving.moves, mlflow
from ddm_core.tracking import connect
connect()
print("ready", flush=True)
sys.stdin.readline()
sys.exit(main(["registry", "promote", sys.argv[2], "--model", sys.argv[1], "--reason", "race"]))
"""


def race(name, numbers, folder):
    """Promote every version of `numbers` at once, a process each; their exit statuses and words."""
    settings = {"MLFLOW_TRACKING_USERNAME": "rival"}
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    params["register"]["models"] = {MODEL: name}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, name, str(number)],
            cwd=folder,
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        rival.stdin.write("\n")
        rival.stdin.flush()
    said = [rival.communicate(timeout=200) for rival in rivals]
    return [(rival.returncode, error) for rival, (_, error) in zip(rivals, said, strict=True)]


def assert_one_won_and_the_others_know(name, numbers, results):
    client = connect()
    entries = moves_log.read(client, name)
    effective = [entry for entry in entries if entry.counts]
    assert aliases(client, name)["champion"] == effective[-1].move.version
    assert all(entry.state == "done" for entry in effective)
    before = [None, *(entry.move.version for entry in effective)]
    assert [entry.move.before for entry in effective] == before[:-1]  # nobody overwrote what he had not seen
    won = {entry.move.version for entry in effective}
    for number, (status, error) in zip(numbers, results, strict=True):
        assert status == (0 if number in won else 1), error
        if status:
            assert "nothing was moved, for rival was first" in error
    assert len(entries) == len(numbers)


def test_of_processes_that_promote_at_once_each_wins_or_is_told(project, request):
    name = named(request)
    numbers = [add_version(project, name, psnr=33.0 + n) for n in range(RIVALS)]
    results = race(name, numbers, project)
    assert_one_won_and_the_others_know(name, numbers, results)
    assert 0 in [status for status, _ in results]


# What is tried, which move it is, and what brings back champion 2 of versions 1, 2 and 3.
COMMANDS = {
    "promote": (
        lambda client, name: promote(client, name, "3", GATE),
        ("promote", 3),
        lambda client, name: rollback(client, name, GATE, to="2"),
    ),
    "rollback": (
        lambda client, name: rollback(client, name, GATE),
        ("rollback", 1),
        lambda client, name: promote(client, name, "2", GATE, reason="again"),
    ),
    "archive": (
        lambda client, name: archive(client, name, "3", GATE),
        ("archive", 3),
        lambda client, name: archive(client, name, "3", GATE, undo=True),
    ),
}


def state(client, name):
    """The champion, and which versions are archived."""
    tagged = [found for found in versions(client, name) if found.tags.get("ddm.archived") == "true"]
    return aliases(client, name)["champion"], [int(found.version) for found in tagged]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_cut_at_any_request_nothing_is_half_moved_and_running_again_completes_it(
    project, server, request, monkeypatch, command
):
    if (request.node.callspec.params["server"], command) == (postgres, "rollback"):
        pytest.skip("a rollback asks of the store what a promotion does, and takes as long again")
    name = f"{MODEL}-{command}"
    attempt, wanted, bring_back = COMMANDS[command]
    direct = prepare_champion(name, project)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    start = state(direct, name)
    methods = through_proxy(server, name, attempt).methods
    end = state(direct, name)
    assert len(methods) > 8
    cuts = [(number, "unheard") for number in range(len(methods))]
    cuts += [(number, "unanswered") for number, method in enumerate(methods) if method != "GET"]
    assert len(cuts) > len(methods) + 2
    unnoticed = []
    for cut in cuts:
        bring_back(connect_to(server), name)
        known = len(moves_log.read(direct, name))
        proxy = through_proxy(server, name, attempt, cut)
        assert proxy.was_cut, cut
        direct = connect_to(server)
        assert state(direct, name) in (start, end), cut
        if proxy.failed:
            attempt(direct, name)
        else:
            unnoticed.append(cut)
        assert state(direct, name) == end, cut
        made = [entry.move for entry in moves_log.read(direct, name)[known:] if entry.counts]
        assert [(move.action, move.version) for move in made] == [wanted], cut
    # The mark that it was done may get lost (MLflow's client looks, then sets it): all else was done by then,
    # and the next move sets the mark.
    assert {number for number, _ in unnoticed} == {len(methods) - 2, len(methods) - 1}


def prepare_champion(name, project):
    for psnr in (33.0, 34.0, 35.0):
        add_version(project, name, psnr=psnr)
    client = connect()
    for number in ("1", "2"):
        promote(client, name, number, GATE)
    return client


def connect_to(address):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        return connect()


def through_proxy(server, name, attempt, cut=None):
    """Try once through a proxy that cuts the line at a request; returns it, with whether the try `failed`."""
    with CuttingProxy(server) as proxy:
        client = connect_to(proxy.address)
        proxy.methods.clear()
        if cut:
            proxy.cut_after(*cut)
        try:
            attempt(client, name)
            proxy.failed = False
        except MlflowException:
            proxy.failed = True
    return proxy


def test_a_move_that_was_broken_off_is_finished_by_whoever_comes_next(project, server, request, monkeypatch):
    name = named(request)
    for psnr in (33.0, 34.0):
        add_version(project, name, psnr=psnr)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with CuttingProxy(server) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
        client = connect()
        proxy.cut_at(r"registered-models/alias", "unheard")
        with pytest.raises(MlflowException):
            promote(client, name, "1", GATE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    client = connect()
    assert aliases(client, name) == {}
    assert [entry.state for entry in moves_log.read(client, name)] == ["pending"]
    promote(client, name, "2", GATE, alias="challenger")
    assert aliases(client, name) == {"champion": 1, "challenger": 2}
