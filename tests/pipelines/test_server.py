"""The connection: who asks and how, and one clear line, without secrets, for whatever goes wrong."""

import datetime
import ipaddress
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kfp_server import KfpServer

TOKEN = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl=="
COOKIE = "authservice_session=MTcwMDAwMDAwMHxzZWNyZXQ"


@pytest.fixture
def status(ddm, server):
    """Ask the server for a run that it does not have: the shortest way through the connection."""
    return lambda *arguments, host=None: ddm("status", "a-run", "--host", host or server.address, *arguments)


def assert_reached(said):
    assert "has no run a-run (404)" in said.err


def assert_one_line(said, *parts):
    assert said.status == 1
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    for part in parts:
        assert part in said.err
    for secret in (TOKEN, TOKEN.rstrip("="), COOKIE, COOKIE.partition("=")[2], "hidden-state"):
        assert secret not in said.err


def a_file(folder, content):
    path = folder / "credential"
    path.write_text(content)
    return path


def test_a_token_is_taken_from_a_file(status, server, tmp_path):
    server.token = TOKEN
    assert_reached(status("--token-file", a_file(tmp_path, TOKEN + "\n")))


def test_a_token_is_taken_from_the_environment(status, server, monkeypatch):
    server.token = TOKEN
    monkeypatch.setenv("KF_PIPELINES_TOKEN", TOKEN)
    assert_reached(status())


def test_a_pods_own_token_is_taken_when_nothing_else_is_given(status, server, monkeypatch, tmp_path):
    server.token = TOKEN
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(a_file(tmp_path, TOKEN)))
    assert_reached(status())
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "another")
    assert_one_line(status(), "refused the token of the variable KF_PIPELINES_TOKEN (401)")


def test_a_pods_own_token_is_looked_for_where_kubeflow_mounts_it(status, server, monkeypatch, tmp_path):
    import kfp.client

    from pipelines import credentials

    assert credentials.SERVICE_ACCOUNT_TOKEN == kfp.client.KF_PIPELINES_SA_TOKEN_PATH
    assert credentials.SERVICE_ACCOUNT_VARIABLE == kfp.client.KF_PIPELINES_SA_TOKEN_ENV
    server.token = TOKEN
    assert_one_line(status(), "wants to know who asks (401)")
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT_TOKEN", str(a_file(tmp_path, TOKEN)))
    assert_reached(status())


def test_a_token_that_rotates_while_a_run_is_watched_is_read_anew(submit, server, monkeypatch, tmp_path):
    path = a_file(tmp_path, TOKEN)
    server.token = TOKEN
    answer = server.answer

    def rotate(method, where, *rest):
        if "/runs/" in where and server.token == TOKEN:
            server.token = "the.next.token"
            path.write_text(server.token)
        return answer(method, where, *rest)

    monkeypatch.setattr(server, "answer", rotate)
    said = submit("--wait", "--token-file", path)
    assert said.status == 0, said.err
    assert server.token == "the.next.token"


@pytest.mark.parametrize("login", ["redirect", "page"])
def test_a_cookie_opens_what_a_login_page_guards(status, server, monkeypatch, tmp_path, login):
    server.login, server.cookie = login, COOKIE
    assert_reached(status("--cookie-file", a_file(tmp_path, COOKIE)))
    monkeypatch.setenv("KF_PIPELINES_COOKIE", COOKIE)
    assert_reached(status())


@pytest.mark.parametrize("login", ["redirect", "page"])
def test_a_login_page_is_told_as_such(status, server, tmp_path, login):
    server.login, server.cookie = login, COOKIE
    assert_one_line(status(), "answers with a login page", "--cookie-file", "authservice_session")
    stale = status("--cookie-file", a_file(tmp_path, "authservice_session=expired"))
    assert_one_line(stale, "login page", "the cookie of --cookie-file", "has expired")


@pytest.mark.parametrize("verb", ["submit", "logs", "terminate"])
def test_a_login_page_stops_every_verb(ddm, submit, server, verb):
    server.login, server.cookie = "page", COOKIE
    said = submit() if verb == "submit" else ddm(verb, "a-run", "--host", server.address)
    assert_one_line(said, "answers with a login page")


def test_a_server_that_moved_to_https_is_told(status, server):
    server.login = "https"
    assert_one_line(status(), f"moved to https; pass --host {server.address.replace('http:', 'https:')}")


def test_401_says_which_credential_was_refused_or_that_there_was_none(status, server, tmp_path):
    server.token = TOKEN
    assert_one_line(status(), "wants to know who asks (401)", "--token-file", "KF_PIPELINES_TOKEN")
    path = a_file(tmp_path, "an.old.token")
    assert_one_line(status("--token-file", path), f"refused the token of --token-file {path} (401)")


def test_a_long_answer_is_cut_after_its_secrets_are_hidden(status, server, tmp_path):
    server.token, server.hiccups = TOKEN, [f"{'x' * 280}{TOKEN}"]
    said = status("--token-file", a_file(tmp_path, TOKEN))
    assert_one_line(said, "xxx***")
    assert TOKEN[:10] not in said.err


def test_403_names_the_namespace_and_hides_the_token_that_the_server_quotes(submit, server, tmp_path):
    server.token, server.namespaces = TOKEN, {"team-a"}
    said = submit("--namespace", "team-b", "--token-file", a_file(tmp_path, TOKEN))
    assert_one_line(said, "in namespace 'team-b'", "(403)", "Bearer ***")


def test_no_secret_is_ever_printed(submit, server, tmp_path):
    server.token = TOKEN
    said = submit("--wait", "--token-file", a_file(tmp_path, TOKEN))
    assert said.status == 0
    assert TOKEN not in said.out + said.err


@pytest.mark.parametrize("option", ["--token-file", "--cookie-file"])
@pytest.mark.parametrize("content", ["", "two words", f"{TOKEN}\nmore", "schlüssel"])
def test_a_file_without_a_credential_is_refused_before_anything_is_asked(
    status, server, tmp_path, option, content
):
    assert_one_line(status(option, a_file(tmp_path, content)), option, "holds no")
    assert server.requests == []


def test_a_credential_file_that_cannot_be_read_is_refused(status, server, tmp_path):
    assert_one_line(status("--token-file", tmp_path / "none"), "cannot be read (No such file or directory)")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert_one_line(status("--token-file", binary), "is not text")
    assert server.requests == []


def test_one_credential_at_a_time(status, tmp_path):
    with pytest.raises(SystemExit):
        status("--token-file", "a", "--cookie-file", "b")


def test_the_host_comes_from_the_environment(ddm, server, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"{server.address}/")
    assert_reached(ddm("status", "a-run"))


def test_without_a_host_and_outside_a_cluster_the_option_is_named(ddm):
    assert_one_line(ddm("status", "a-run"), "pass --host URL or set KF_PIPELINES_ENDPOINT")


def test_inside_a_cluster_the_service_of_kubeflow_is_asked(monkeypatch):
    from pipelines.server import connect

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert connect().address == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("localhost:8080", "begins with neither http:// nor https://"),
        ("http://user:hunter2@localhost", "holds a user name or a password"),
        ("user:hunter2@localhost", "holds a user name or a password"),
        ("http://localhost:port", "no URL"),
        ("http://", "names no host"),
    ],
)
def test_a_malformed_host_is_refused(status, host, line):
    said = status(host=host)
    assert_one_line(said, line)
    assert "hunter2" not in said.err


def test_the_address_of_the_ui_serves_as_host(status, server):
    assert_reached(status(host=f"{server.address}/#/runs"))


def test_links_lead_to_the_ui_host(submit, server):
    assert (
        "https://kubeflow.example.org/pipeline/#/runs/details/"
        in submit("--ui-host", "https://kubeflow.example.org/pipeline/").out
    )


def test_a_host_that_refuses_the_connection_is_told_within_seconds(status):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    begin = time.monotonic()
    assert_one_line(status(host=f"http://127.0.0.1:{port}"), "cannot be reached (connection refused)")
    assert time.monotonic() - begin < 3


def test_a_host_name_that_does_not_exist_is_told(status):
    assert_one_line(status(host="http://kubeflow.invalid"), "there is no host of that name")


def test_a_host_that_takes_no_connection_is_told_after_the_connect_timeout(status, monkeypatch):
    monkeypatch.setattr("pipelines.server.TIMEOUTS", (0.2, 60))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the queue is full now
            assert_one_line(status(host=f"http://127.0.0.1:{port}"), "does not answer within")


def test_a_server_that_hangs_up_is_told(status, server):
    server.hiccups = ["drop"]
    assert_one_line(status(), "the connection broke off")


def test_a_failing_servers_own_words_are_told(status, server):
    server.hiccups = [500]
    assert_one_line(status(), "failed on run a-run (500): upstream connect error")


def test_a_proxys_error_page_is_told_without_its_tags(status, server):
    server.hiccups = ["<html><title>502 Bad Gateway</title></html>"]
    assert_one_line(status(), "failed on run a-run (502): 502 Bad Gateway")


@pytest.mark.parametrize("answer", [b"ok", b"[]", b'{"created_at": "long ago", "multi_user": null}', b"\xff"])
@pytest.mark.parametrize("verb", ["status", "submit"])
def test_a_server_of_another_kind_is_told_as_such(status, submit, answer, verb):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        said = (status if verb == "status" else submit)(host=f"http://127.0.0.1:{other.server_port}")
    assert_one_line(said, "is not that of Kubeflow Pipelines 2")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1: (certificate with key, certificate alone)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubeflow.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "both.pem").write_bytes(public + private)
    (folder / "ca.pem").write_bytes(public)
    return folder / "both.pem", folder / "ca.pem"


def test_a_self_signed_certificate_is_trusted_by_its_ca_file_only(submit, certificate):
    both, ca = certificate
    with KfpServer(both) as server:
        assert_one_line(submit(host=server.address), "its TLS certificate is not trusted; pass --ca-file")
        assert server.requests == []
        said = submit("--wait", "--ca-file", ca, host=server.address)
        assert said.status == 0, said.err
        assert server.faults == []
        elsewhere = server.address.replace("127.0.0.1", "localhost")
        assert_one_line(submit("--ca-file", ca, host=elsewhere), "certificate is for another host name")


def test_https_to_a_server_without_tls_is_told(status, server):
    assert_one_line(
        status(host=server.address.replace("http:", "https:")), "does not speak TLS; write http://"
    )


def test_a_ca_file_that_is_none_is_refused(status, tmp_path):
    assert_one_line(status("--ca-file", tmp_path / "none.pem"), "cannot be read (No such file or directory)")
    assert_one_line(status("--ca-file", a_file(tmp_path, "no PEM")), "holds no certificate")


def test_help_of_every_verb_is_there(capsys):
    from ddm_core.cli import main

    for verb in ("submit", "status", "logs", "terminate"):
        with pytest.raises(SystemExit) as left:
            main(["pipeline", verb, "--help"])
        assert left.value.code == 0
        assert "--cookie-file" in capsys.readouterr().out
