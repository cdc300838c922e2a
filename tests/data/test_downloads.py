"""Downloads from servers that misbehave, all on loopback: what is fetched, given up and gone on with."""

import fcntl
import itertools
import os

import pytest
from downloading import BODY, SHA256, assert_dead, assert_fetched, run, wanted
from folders import tree
from misbehaving_server import content, endless, ranged, slow, status, truncated

from ddm_core.data.polite_client import USER_AGENT
from ddm_core.errors import DdmError

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
