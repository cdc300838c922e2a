"""Downloads into a folder from servers on loopback, and what is to be there afterwards."""

import hashlib

from folders import tree

from ddm_core.data.downloads import Download, DownloadSettings, download_all

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = {"timeout": 2.0, "first_pause": 0.01, "rate": 1000.0}


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
