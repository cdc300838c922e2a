"""Downloads ask no more of a server than it bears: waits, rates, robots.txt, and hosts that do not answer."""

import datetime
import errno
import itertools
import socket
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from downloading import BODY, assert_dead, assert_fetched, run, wanted
from misbehaving_server import content, endless, misbehaving_server, redirect, slow, status


def test_retry_after_seconds_are_waited_for(server, tmp_path):
    server.answers["/1.jpg"] = [status(429, Retry_After="1"), content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))
    first, second = server.times("/1.jpg")
    assert second - first >= 1.0


def test_a_retry_after_date_is_waited_for_by_the_whole_host(server, tmp_path):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    server.answers["/1.jpg"] = [status(503, Retry_After=date), content(BODY)]
    server.answers["/2.jpg"] = [content(b"two")]
    second = wanted(server, "/2.jpg", body=b"two")
    run(tmp_path, wanted(server, "/1.jpg"), second, per_host=1, concurrency=1)
    begin, again = server.times("/1.jpg")
    assert again - begin >= 0.9  # the date has whole seconds
    assert server.times("/2.jpg")[0] - begin >= 0.9


def test_a_host_that_asks_for_hours_is_left_alone(server, tmp_path):
    server.answers["/1.jpg"] = [status(429, Retry_After="7200")]
    assert_dead(
        tmp_path, run(tmp_path, wanted(server, "/1.jpg")), "asks to wait 7200 s; run again later", 429
    )


def bodies(server, count, answer=content):
    """Downloads of different small files, all of which the server has."""
    for number in range(count):
        server.answers[f"/{number}.jpg"] = [answer(b"%d" % number)]
    return [wanted(server, f"/{number}.jpg", body=b"%d" % number) for number in range(count)]


@pytest.mark.parametrize(("concurrency", "per_host", "busiest"), [(8, 2, 2), (3, 8, 3)])
def test_requests_at_a_time_are_bounded_in_all_and_at_one_host(
    server, tmp_path, concurrency, per_host, busiest
):
    downloads = bodies(server, 8, lambda body: slow(0.1, content(body)))
    result = run(tmp_path, *downloads, concurrency=concurrency, per_host=per_host)
    assert (result.fetched, server.busiest) == (8, busiest)


def test_a_busy_host_keeps_nobody_from_another(server, tmp_path):
    with misbehaving_server("127.0.0.2") as other:
        busy = bodies(server, 4, lambda body: slow(0.2, content(body)))
        other.answers["/1.jpg"] = [content(BODY)]
        run(tmp_path, *busy, wanted(other, "/1.jpg"), concurrency=3, per_host=1)
        assert other.times("/1.jpg")[0] < server.times("/2.jpg")[0]


def test_requests_at_one_host_keep_the_rate(server, tmp_path):
    run(tmp_path, *bodies(server, 5), rate=10.0)
    moments = sorted(moment for _, _, moment in server.requests)
    assert len(moments) == 6  # robots.txt too
    assert moments[-1] - moments[0] >= 0.4  # of 0.5, for the server may see the first one late


def test_robots_txt_is_read_once_and_obeyed(server, tmp_path):
    rules = b"User-agent: ddm-pipeline\nDisallow: /private/\n\nUser-agent: *\nDisallow:\n"
    server.answers["/robots.txt"] = [content(rules)]
    server.answers["/private/1.jpg"] = server.answers["/2.jpg"] = [content(BODY)]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/private/1.jpg")), "robots.txt forbids it")
    server.requests.clear()
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/private/1.jpg", "/2.jpg")))
    assert [path for path, _, _ in server.requests] == ["/robots.txt", "/2.jpg"]


def test_a_redirect_does_not_lead_past_robots_txt(server, tmp_path):
    server.answers["/robots.txt"] = [content(b"User-agent: *\nDisallow: /private/\n")]
    server.answers["/1.jpg"] = [redirect("/private/1.jpg")]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg")), "robots.txt forbids it")
    assert server.asked("/private/1.jpg") == []


def test_a_crawl_delay_is_kept_and_one_of_hours_is_none_of_ours(server, tmp_path):
    server.answers["/robots.txt"] = [content(b"User-agent: *\nCrawl-delay: 1\n")]
    run(tmp_path, *bodies(server, 2))
    moments = sorted(moment for _, _, moment in server.requests)
    assert moments[-1] - moments[0] >= 1.8  # of 2, for the server may see the first one late
    server.answers["/robots.txt"] = [content(b"User-agent: *\nCrawl-delay: 3600\n")]
    result = run(tmp_path / "again", bodies(server, 1)[0])
    assert "robots.txt asks for 3600 s" in result.dead_links[0].reason


@pytest.mark.parametrize("code", [401, 404, 410])
def test_without_robots_txt_everything_may_be_fetched(server, tmp_path, code):
    server.answers["/robots.txt"] = [status(code)]
    server.answers["/1.jpg"] = [content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))


def test_while_robots_txt_fails_nothing_is_fetched(server, tmp_path):
    server.answers["/robots.txt"] = [status(503)]
    server.answers["/1.jpg"] = [content(BODY)]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg"), retries=1), "robots.txt: HTTP 503", 503)
    assert server.asked("/1.jpg") == []
    server.answers["/robots.txt"] = [status(503), content(b"")]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg"), retries=1))


def test_an_endless_robots_txt_is_read_to_half_a_megabyte(server, tmp_path):
    server.answers["/robots.txt"] = [endless(b"# nothing\n" * 1000)]
    server.answers["/1.jpg"] = [content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))


def test_a_host_that_does_not_answer_is_soon_let_alone(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    downloads = [
        wanted(None, f"http://127.0.0.1:{port}/{number}.jpg", body=b"%d" % number) for number in range(9)
    ]
    result = run(tmp_path, *downloads, retries=0, per_host=1, concurrency=1)
    reasons = [link.reason for link in result.dead_links]
    assert reasons == ["no connection (ConnectionRefusedError)"] * 4 + ["the host does not answer"] * 5


def test_a_server_without_a_valid_certificate_is_not_trusted(server, tmp_path):
    server.socket = tls_context(tmp_path).wrap_socket(server.socket, server_side=True)
    url = server.url("/1.jpg").replace("http://", "https://")
    assert_dead(
        tmp_path / "images", run(tmp_path / "images", wanted(server, url)), "no valid TLS certificate"
    )
    assert server.requests == []


def tls_context(folder):
    """A server's context with a certificate that nobody signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + certificate.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def test_a_host_that_refuses_now_and_then_is_not_given_up(server, tmp_path):
    downloads = bodies(server, 6, lambda body: content(body, Connection="close"))
    server.answers["/robots.txt"] = [content(b"", Connection="close")]
    refused = itertools.cycle([False, True])

    def admits(address):
        if next(refused):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return True

    result = run(tmp_path, *downloads, admits=admits, retries=9, first_pause=0.001)
    assert result.fetched == 6


def test_a_host_that_does_not_exist_is_given_up_at_once(tmp_path):
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("no-such-host.invalid", 80)
    if caught.value.errno != socket.EAI_NONAME:
        pytest.skip("no name server answers here")
    result = run(tmp_path, wanted(None, "http://no-such-host.invalid/1.jpg"), first_pause=20.0)
    assert_dead(tmp_path, result, "no such host")
