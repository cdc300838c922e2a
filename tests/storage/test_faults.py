"""S3 fails in every way it can: nothing is lost or half-written, and one line without a secret says why."""

import os
import threading

import pytest
from folders import names, tree

from ddm_core.errors import DdmError
from ddm_core.storage import download, exists, mirrored, open_stream, reading, upload

CONTENT = os.urandom(300_000)
LARGE = os.urandom(11_000_000)


@pytest.fixture
def stored(s3):
    s3.put_object(Bucket="faces", Key="anna/1.png", Body=CONTENT)
    return "s3://faces/anna/1.png"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/large.tar").write_bytes(LARGE)
    return tmp_path / "here/large.tar"


def line(work, *secrets):
    """The one line that `work` fails with; no secret of the environment is in it."""
    with pytest.raises(DdmError) as caught:
        work()
    text = str(caught.value)
    assert text.isprintable()
    hidden = [os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], "hidden", *secrets]
    assert [secret for secret in hidden if secret in text] == []
    return text


# Reading


@pytest.mark.parametrize("kind", ["reset", "lost", "break", "short", "stall"])
def test_a_broken_connection_is_taken_up_again(proxy, stored, hasty, tmp_path, kind):
    fault = proxy.will(kind, method="GET", times=2, seconds=0.8 if kind == "stall" else 0)
    download(stored, tmp_path / "copy", transfer=hasty)
    assert fault.met == 2
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert names(tmp_path) == ["copy"]


def test_what_had_come_is_not_asked_for_again(proxy, stored, hasty):
    proxy.will("break", method="GET")
    with open_stream(stored, transfer=hasty) as stream:
        assert stream.read() == CONTENT
    first, second = proxy.ranges
    assert first is None
    start, half = int(second.removeprefix("bytes=").rstrip("-")), len(CONTENT) // 2
    assert half - reading.PIECE <= start <= half


def test_a_slow_connection_is_borne(proxy, stored, hasty, tmp_path):
    """Each piece comes in time, the whole takes longer than the patience for one piece."""
    proxy.will("drip", method="GET", seconds=0.05)
    download(stored, tmp_path / "copy", transfer=hasty)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("error", [(500, "InternalError"), (503, "SlowDown")])
def test_a_burst_of_errors_is_waited_out(proxy, stored, hasty, tmp_path, error):
    fault = proxy.will("status", status=error[0], code=error[1], times=2)
    download(stored, tmp_path / "copy", transfer=hasty)
    assert fault.met == 2
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_damaged_bytes_are_refused(proxy, stored, hasty, tmp_path):
    proxy.will("flip", method="GET")
    text = line(lambda: download(stored, tmp_path / "copy", transfer=hasty))
    assert text.startswith(f"{stored}: arrived damaged (wrong checksum); run again")
    assert names(tmp_path) == []


def test_damage_after_a_broken_connection_is_noticed(proxy, stored, hasty, tmp_path):
    """The service sends no checksum with a part of an object."""
    proxy.will("break", method="GET")
    proxy.will("flip", method="GET")
    assert "arrived damaged" in line(lambda: download(stored, tmp_path / "copy", transfer=hasty))
    assert names(tmp_path) == []


def test_an_object_that_changes_during_a_broken_download_is_never_mixed(proxy, s3, stored, hasty, tmp_path):
    def change():
        s3.put_object(Bucket="faces", Key="anna/1.png", Body=bytes(len(CONTENT)))

    proxy.will("break", method="GET", then=change)
    text = line(lambda: download(stored, tmp_path / "copy", transfer=hasty))
    assert text == f"{stored}: changed while it was read; run again (PreconditionFailed)"
    assert names(tmp_path) == []


ENDLESS = {
    "does not answer (ConnectionClosedError); check the network and AWS_ENDPOINT_URL": {"kind": "reset"},
    "breaks off at byte ": {"kind": "break"},
    "S3 answers SlowDown (HTTP 503); run again": {"kind": "status", "status": 503, "code": "SlowDown"},
    "S3 denies access (AccessDenied)": {"kind": "status", "status": 403, "code": "AccessDenied"},
    "this computer's clock and the service's differ too much; set the clock right": {
        "kind": "status",
        "status": 403,
        "code": "RequestTimeTooSkewed",
    },
}


@pytest.mark.parametrize("reason", ENDLESS)
def test_what_does_not_end_is_named_and_leaves_no_file(proxy, stored, hasty, tmp_path, reason):
    proxy.will(**ENDLESS[reason], method="GET", times=1000)
    text = line(lambda: download(stored, tmp_path / "copy", transfer=hasty))
    assert text.startswith("s3://faces/anna/1.png: ")
    assert reason in text
    assert names(tmp_path) == []


def test_a_set_of_photos_comes_through_every_fault_at_once(proxy, s3, hasty, tmp_path):
    photos = {f"{name}/{number}.png": os.urandom(5000) for name in ("anna", "ben") for number in range(10)}
    for key, content in photos.items():
        s3.put_object(Bucket="faces", Key=f"photos/{key}", Body=content)
    faults = [proxy.will(kind, path=r"\.png") for kind in ("reset", "break", "short", "lost")]
    faults.append(proxy.will("status", status=500, code="InternalError", times=2))
    with mirrored("s3://faces/photos", tmp_path, transfer=hasty) as content:
        assert tree(content) == photos
    assert all(fault.met for fault in faults)


# Writing


@pytest.mark.parametrize("kind", ["reset", "lost"])
def test_an_upload_goes_on_after_broken_connections(proxy, s3, hasty, file, kind):
    queries = [
        ("GET", r"\?uploads"),
        ("POST", r"\?uploads"),
        ("PUT", "partNumber=2"),
        ("POST", r"\?uploadId=[^&]*$"),
    ]
    faults = [proxy.will(kind, method=method, path=query) for method, query in queries]
    upload(file, "s3://faces/large.tar", transfer=hasty)
    assert [fault.met for fault in faults] == [1, 1, 1, 1]
    assert s3.get_object(Bucket="faces", Key="large.tar")["Body"].read() == LARGE


def test_an_upload_waits_out_a_burst_of_errors(proxy, s3, hasty, file):
    faults = [
        proxy.will("status", method="PUT", status=503, code="SlowDown"),
        proxy.will("status", method="PUT", status=500, code="InternalError"),
    ]
    upload(file, "s3://faces/large.tar", transfer=hasty)
    assert [fault.met for fault in faults] == [1, 1]
    assert s3.get_object(Bucket="faces", Key="large.tar")["Body"].read() == LARGE


@pytest.mark.parametrize("length", [1000, len(LARGE)])
def test_bytes_damaged_on_their_way_up_are_noticed(proxy, hasty, file, length):
    """The server here does not look at checksums; the tag it makes of the bytes tells the truth."""
    file.write_bytes(LARGE[:length])
    proxy.will("flip_sent", method="PUT")
    text = line(lambda: upload(file, "s3://faces/large.tar", transfer=hasty))
    assert text == "s3://faces/large.tar: arrived damaged, or another writer changed it; run again"
    upload(file, "s3://faces/large.tar", transfer=hasty)


def test_a_service_that_refuses_damaged_bytes_is_quoted(proxy, hasty, file):
    proxy.will("status", method="PUT", status=400, code="BadDigest", times=1000)
    text = line(lambda: upload(file, "s3://faces/large.tar", transfer=hasty))
    assert "was damaged on its way to S3, and nothing was written; run again (BadDigest)" in text


def test_an_upload_that_fails_leaves_neither_object_nor_parts(proxy, s3, hasty, file):
    proxy.will("status", path="partNumber=3", status=403, code="AccessDenied", times=1000)
    text = line(lambda: upload(file, "s3://faces/large.tar", transfer=hasty))
    assert "S3 denies access (AccessDenied); check the credentials and the bucket's policy" in text
    assert not exists("s3://faces/large.tar")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="faces")


def test_an_object_is_replaced_whole_or_not_at_all(proxy, s3, hasty, file):
    s3.put_object(Bucket="faces", Key="large.tar", Body=b"the older one")
    proxy.will("reset", method="PUT", path="partNumber=2", times=1000)
    line(lambda: upload(file, "s3://faces/large.tar", transfer=hasty))
    assert s3.get_object(Bucket="faces", Key="large.tar")["Body"].read() == b"the older one"


def test_readers_in_threads_share_a_failing_service(proxy, stored, hasty):
    proxy.will("break", method="GET", times=3)
    found = []

    def read():
        with open_stream(stored, transfer=hasty) as stream:
            found.append(stream.read())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
