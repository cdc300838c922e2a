"""Downloads from servers that misbehave, all on loopback: what is fetched, given up, and never done."""

import datetime
import errno
import fcntl
import hashlib
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from facescrub_files import ANNA, BEN, Listed, jpeg, write_list
from folders import tree
from misbehaving_server import (
    content,
    endless,
    misbehaving_server,
    ranged,
    redirect,
    slow,
    stalling,
    status,
    truncated,
)

from ddm_core import cli
from ddm_core.data.downloads import Download, DownloadSettings, download_all
from ddm_core.data.facescrub import read
from ddm_core.data.polite_client import USER_AGENT, is_public
from ddm_core.data.raw import RawPhoto
from ddm_core.errors import DdmError

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = {"timeout": 2.0, "first_pause": 0.01, "rate": 1000.0}


@pytest.fixture
def server():
    with misbehaving_server() as running:
        yield running


def wanted(server, *paths, body=BODY):
    digest = hashlib.sha256(body).hexdigest()
    urls = tuple(path if "://" in path else server.url(path) for path in paths)
    return Download(digest, urls, f"{digest[:2]}/{digest}.jpg")


def run(folder, *downloads, admits=lambda address: True, **settings):
    return download_all(downloads, folder, DownloadSettings(**{**QUICK, **settings}), admits=admits)


def assert_fetched(folder, result, body=BODY):
    """That one file came whole, and nothing else is left."""
    digest = hashlib.sha256(body).hexdigest()
    assert (result.fetched, result.dead_links) == (1, ())
    assert tree(folder) == {f"{digest[:2]}/{digest}.jpg": body}


def assert_dead(folder, result, reason, code=None):
    """That the file was given up for one reason, and nothing is left."""
    (link,) = result.dead_links
    assert (link.status, result.dead, result.fetched) == (code, 1, 0)
    assert reason in link.reason
    assert tree(folder) == {}


# What is fetched


def test_a_file_is_fetched_to_its_place_by_an_honest_agent(server, tmp_path):
    server.answers["/1.jpg"] = [content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))
    (headers,) = server.asked("/1.jpg")
    assert headers["User-Agent"] == USER_AGENT
    assert USER_AGENT.startswith("ddm-pipeline/")
    assert "Mozilla" not in USER_AGENT
    assert "Cookie" not in headers and "Referer" not in headers


def test_a_finished_file_is_not_asked_for_again_and_a_damaged_one_is(server, tmp_path):
    server.answers["/1.jpg"] = [content(BODY)]
    run(tmp_path, wanted(server, "/1.jpg"))
    result = run(tmp_path, wanted(server, "/1.jpg"))
    assert (result.fetched, result.present, len(server.asked("/1.jpg"))) == (0, 1, 1)
    (tmp_path / wanted(server).relative).write_bytes(b"damaged")
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_failures_that_may_pass_are_tried_again(server, tmp_path, code):
    server.answers["/1.jpg"] = [status(code), status(code), content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg"), retries=2))


def test_each_retry_waits_twice_as_long_as_the_one_before(server, tmp_path):
    server.answers["/1.jpg"] = [status(500), status(500), status(500), content(BODY)]
    run(tmp_path, wanted(server, "/1.jpg"), first_pause=0.1)
    waits = [later - earlier for earlier, later in itertools.pairwise(server.times("/1.jpg"))]
    assert [wait >= pause for wait, pause in zip(waits, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451, 204, 304])
def test_failures_that_stay_are_not_tried_again(server, tmp_path, code):
    server.answers["/1.jpg"] = [status(code) if code not in (204, 304) else bodiless(code)]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg")), f"HTTP {code}", code)
    assert len(server.asked("/1.jpg")) == 1


def bodiless(code):
    def answer(handler):
        handler.send_response(code)
        handler.end_headers()

    return answer


def test_what_never_passes_is_given_up_after_the_retries(server, tmp_path):
    server.answers["/1.jpg"] = [status(503)]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg"), retries=2), "HTTP 503", 503)
    assert len(server.asked("/1.jpg")) == 3


def test_an_answer_that_does_not_come_is_given_up_after_the_timeout(server, tmp_path):
    server.answers["/1.jpg"] = [slow(1.0, content(BODY)), content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg"), timeout=0.2))
    assert len(server.asked("/1.jpg")) == 2


def test_the_next_address_is_tried_where_one_is_dead(server, tmp_path):
    server.answers["/2.jpg"] = [content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg", "/2.jpg")))


def test_where_every_address_is_dead_each_is_reported(server, tmp_path):
    server.answers["/2.jpg"] = [status(410)]
    result = run(tmp_path, wanted(server, "/1.jpg", "/2.jpg"))
    assert (result.dead, [link.status for link in result.dead_links]) == (1, [404, 410])


# What is not the file


def test_another_file_is_given_up_at_once_and_does_not_stay(server, tmp_path):
    server.answers["/1.jpg"] = [content(b"<html>gone</html>")]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg")), "SHA-256 differs", 200)
    assert len(server.asked("/1.jpg")) == 1


def test_a_file_that_announces_too_many_bytes_is_not_read(server, tmp_path):
    server.answers["/1.jpg"] = [truncated(BODY, 10)]
    result = run(tmp_path, wanted(server, "/1.jpg"), max_bytes=len(BODY) - 1)
    assert_dead(tmp_path, result, "more than 10239 bytes", 200)
    server.answers["/1.jpg"] = [content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg"), max_bytes=len(BODY)))


def test_a_file_without_an_end_is_cut_off_at_the_limit(server, tmp_path):
    server.answers["/1.jpg"] = [endless(BODY)]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg"), max_bytes=100_000), "more than 100000", 200)


# Going on


def test_a_truncated_file_is_continued_where_it_broke_off(server, tmp_path):
    server.answers["/1.jpg"] = [truncated(BODY, 5000), ranged(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))
    assert server.asked("/1.jpg")[1]["Range"] == "bytes=5000-"


def test_a_server_that_knows_no_ranges_sends_the_file_again(server, tmp_path):
    server.answers["/1.jpg"] = [truncated(BODY, 5000), content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))


def test_the_next_run_continues_what_an_earlier_one_could_not_finish(server, tmp_path):
    server.answers["/1.jpg"] = [truncated(BODY, 5000)]
    result = run(tmp_path, wanted(server, "/1.jpg"), retries=0)
    assert "broken answer" in result.dead_links[0].reason
    assert tree(tmp_path) == {f".parts/{SHA256}": BODY[:5000]}
    server.answers["/1.jpg"] = [ranged(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))
    assert server.asked("/1.jpg")[1]["Range"] == "bytes=5000-"


@pytest.mark.parametrize("begun", [b"another beginning", BODY + b"more", BODY[:-1] + b"x"])
def test_an_unfinished_file_that_is_no_beginning_of_this_one_is_thrown_away(server, tmp_path, begun):
    server.answers["/1.jpg"] = [ranged(BODY)]
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / SHA256).write_bytes(begun)
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))


def test_a_whole_file_that_a_killed_run_had_not_moved_yet_is_moved_without_a_request(server, tmp_path):
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / SHA256).write_bytes(BODY)
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))
    assert server.requests == []


def test_two_downloads_into_one_folder_do_not_meet(server, tmp_path):
    (tmp_path / ".parts").mkdir()
    handle = os.open(tmp_path / ".parts", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        with pytest.raises(DdmError, match="another download into it is running"):
            run(tmp_path, wanted(server, "/1.jpg"))
    finally:
        os.close(handle)


def test_a_folder_that_cannot_be_written_stops_the_run_with_its_reason(server, tmp_path):
    server.answers["/1.jpg"] = [content(BODY)]
    download = wanted(server, "/1.jpg")
    (tmp_path / download.sha256[:2]).write_bytes(b"in the way")
    with pytest.raises(FileExistsError):
        run(tmp_path, download)


# Politeness


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


# Where it never goes


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, tmp_path, code):
    server.answers["/1.jpg"] = [redirect("moved/2.jpg", code)]
    server.answers["/moved/2.jpg"] = [content(BODY)]
    assert_fetched(tmp_path, run(tmp_path, wanted(server, "/1.jpg")))


def test_redirects_in_a_circle_end(server, tmp_path):
    server.answers["/1.jpg"] = [redirect("/1.jpg")]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg")), "more than 5 redirects")
    assert len(server.asked("/1.jpg")) == 6


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://example.org/1.jpg", "data:,x", "gopher://x/"])
def test_neither_a_list_nor_a_redirect_leads_to_another_scheme(server, tmp_path, place):
    server.answers["/1.jpg"] = [redirect(place)]
    assert_dead(tmp_path, run(tmp_path, wanted(server, "/1.jpg")), "leads to no http or https address")
    listed = Download(SHA256, (place,), "1.jpg")
    assert_dead(tmp_path, run(tmp_path, listed), "leads to no http or https address")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no address",
        "http://",
        "http://[::1",
        "//x/1.jpg",
        "http://x:99999/",
        "http://a..b/",
        f"http://{'x' * 64}/",
        "\udcff",
    ],
)
def test_what_is_no_address_is_a_dead_link(tmp_path, url):
    assert run(tmp_path, Download(SHA256, (url,), "1.jpg"), retries=0).dead == 1


def test_credentials_in_an_address_are_not_sent(server, tmp_path):
    server.answers["/1.jpg"] = [content(BODY)]
    url = server.url("/1.jpg").replace("http://", "http://user:word@")
    assert_dead(tmp_path, run(tmp_path, wanted(server, url)), "the address holds credentials")
    assert server.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused_before_a_connection_is_made(server, tmp_path, host):
    server.answers["/1.jpg"] = [content(BODY)]
    url = f"http://{host}:{server.server_port}/1.jpg"
    result = run(tmp_path, wanted(server, url), admits=None)
    assert_dead(tmp_path, result, "leads to a private address")
    assert server.requests == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
def test_no_other_spelling_of_a_private_address_helps(server, tmp_path, host):
    server.answers["/1.jpg"] = [content(BODY)]
    result = run(
        tmp_path, wanted(server, f"http://{host}:{server.server_port}/1.jpg"), admits=None, retries=0
    )
    assert (result.dead, server.requests) == (1, [])


def test_a_redirect_does_not_lead_to_a_private_address(server, tmp_path):
    with misbehaving_server("127.0.0.2") as inner:
        inner.answers["/1.jpg"] = [content(BODY)]
        server.answers["/1.jpg"] = [redirect(inner.url("/1.jpg"))]
        download = wanted(server, "/1.jpg")
        result = run(tmp_path, download, admits=lambda address: address == "127.0.0.1")
        assert_dead(tmp_path, result, "leads to a private address")
        assert inner.requests == []
        assert_fetched(tmp_path, run(tmp_path, download))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:100.64.0.1", False),
        ("fe80::1%lo", False),
        ("fd00::1", False),
        ("ff02::1", False),
    ],
)
def test_public_addresses_are_those_that_everybody_reaches(address, public):
    assert is_public(address) == public


# The command


def command(server_lists, out, *more):
    return ["data", "fetch", "facescrub", "--list", *map(str, server_lists), "--out", str(out), *more]


LOOPBACK = ("--allow-private-hosts", "--rate", "1000")


def listed(server, count):
    """A list of images that the server has, and the images."""
    rows = [Listed(ANNA, n, n, jpeg(n), url=server.url(f"/{n}.jpg")) for n in range(count)]
    for row in rows:
        server.answers[f"/{row.image_id}.jpg"] = [content(row.content)]
    return rows


def test_ddm_data_fetch_facescrub_fetches_what_the_reader_reads(server, tmp_path, capsys):
    rows = listed(server, 3)
    lists = [write_list(tmp_path / "a.txt", rows[:2]), write_list(tmp_path / "b.txt", [rows[2], "bad line"])]
    assert cli.main(command(lists, tmp_path / "images", *LOOPBACK)) == 0
    out = capsys.readouterr().out
    assert "3 images fetched, 0 were there, 0 cannot be had" in out
    assert "1 bad lines in the lists" in out
    read_back = read(tmp_path / "images", lists=lists[:1])
    photos = [photo.content for photo in read_back if isinstance(photo, RawPhoto)]
    assert photos == [row.content for row in rows[:2]]


def test_dead_links_are_reported_in_a_table_and_are_no_failure(server, tmp_path, capsys):
    rows = listed(server, 1)
    gone = Listed(BEN, 8, 8, b"gone", url=server.url("/gone é.jpg"))
    changed = Listed(BEN, 9, 9, b"before", url=server.url("/changed.jpg"))
    server.answers["/changed.jpg"] = [content(b"after")]
    path = write_list(tmp_path / "list.txt", [*rows, gone, changed])
    assert cli.main(command([path], tmp_path / "images", *LOOPBACK)) == 0
    report = (tmp_path / "images/dead_links.tsv").read_text(encoding="utf-8")
    assert report.splitlines() == [
        "sha256\turl\tstatus\treason",
        f"{gone.sha256}\t{gone.url}\t404\tHTTP 404",
        f"{changed.sha256}\t{changed.url}\t200\tanother file than the one listed (SHA-256 differs)",
    ]
    assert "1 images fetched, 0 were there, 2 cannot be had" in capsys.readouterr().out
    assert (
        cli.main(command([path], tmp_path / "images", *LOOPBACK, "--report", str(tmp_path / "why.tsv"))) == 0
    )
    assert "0 images fetched, 1 were there, 2 cannot be had" in capsys.readouterr().out
    assert (tmp_path / "why.tsv").read_text(encoding="utf-8") == report


def test_without_the_flag_no_private_host_is_asked(server, tmp_path):
    path = write_list(tmp_path / "list.txt", listed(server, 1))
    assert cli.main(command([path], tmp_path / "images", "--rate", "1000")) == 0
    assert "leads to a private address" in (tmp_path / "images/dead_links.tsv").read_text()
    assert server.requests == []


def test_the_size_limit_is_written_with_a_unit(server, tmp_path, capsys):
    path = write_list(tmp_path / "list.txt", listed(server, 1))
    assert cli.main(command([path], tmp_path / "images", *LOOPBACK, "--max-bytes", "1MB")) == 0
    assert cli.main(command([path], tmp_path / "small", *LOOPBACK, "--max-bytes", "100")) == 0
    assert "more than 100 bytes" in (tmp_path / "small/dead_links.tsv").read_text()
    assert not (tmp_path / "images/dead_links.tsv").read_text().splitlines()[1:]


@pytest.mark.parametrize(
    "options",
    [
        ("--concurrency", "0"),
        ("--timeout", "-1"),
        ("--timeout", "nan"),
        ("--retries", "-1"),
        ("--max-bytes", "20 apples"),
        ("--rate", "0"),
    ],
)
def test_settings_out_of_range_are_a_usage_error_that_names_them(tmp_path, capsys, options):
    with pytest.raises(SystemExit) as caught:
        cli.main(command([tmp_path / "list.txt"], tmp_path, *options))
    assert caught.value.code == 2
    assert f"argument {options[0]}: '{options[1]}' is not a" in capsys.readouterr().err


def test_a_list_that_is_none_is_one_line(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("nothing\n")
    assert cli.main(command([tmp_path / "list.txt"], tmp_path / "images")) == 1
    assert capsys.readouterr().err.startswith(f"ddm: error: {tmp_path}/list.txt:1: the header is not name")
    assert not (tmp_path / "images").exists()


def test_an_interrupted_run_stops_at_once_and_the_next_one_goes_on(server, tmp_path):
    whole = jpeg(1) * 200
    row = Listed(ANNA, 1, 1, whole, url=server.url("/1.jpg"))
    server.answers["/1.jpg"] = [stalling(whole, 50_000, 10.0)]
    path = write_list(tmp_path / "list.txt", [row])
    arguments = command([path], tmp_path / "images", *LOOPBACK)
    process = subprocess.Popen(
        [sys.executable, "-m", "ddm_core.cli", *arguments], stderr=subprocess.PIPE, text=True
    )
    part = tmp_path / "images/.parts" / row.sha256
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 130
    assert errors.endswith("ddm: interrupted; nothing half-written was left\n")
    assert "Traceback" not in errors
    assert [path.name for path in (tmp_path / "images").iterdir()] == [".parts"]
    server.answers["/1.jpg"] = [ranged(whole)]
    assert cli.main(arguments) == 0
    assert server.asked("/1.jpg")[-1]["Range"] == "bytes=50000-"
    assert [photo.content for photo in read(tmp_path / "images", lists=[path])] == [whole]
