"""Where downloads lead and where they never go: redirects, other schemes, private addresses."""

import pytest
from downloading import BODY, SHA256, assert_dead, assert_fetched, run, wanted
from misbehaving_server import content, misbehaving_server, redirect

from ddm_core.data.downloads import Download
from ddm_core.data.polite_client import is_public


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
