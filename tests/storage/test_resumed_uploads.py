"""A large file whose upload broke off goes on after the parts that have arrived, if they are its own."""

import os
import re
import subprocess
import sys
import time

import pytest

from ddm_core.errors import DdmError
from ddm_core.storage import exists, publish_tree, upload

PART = 5 << 20
CONTENT = os.urandom(4 * PART + 1000)
URI = "s3://faces/large.tar"
UPLOAD = """
import sys
from pathlib import Path
from ddm_core.storage import Transfer, upload

upload(Path(sys.argv[1]), sys.argv[2], transfer=Transfer(part_bytes=5 << 20))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "large.tar"
    path.write_bytes(CONTENT)
    return path


def sent_parts(proxy):
    """The numbers of the parts that were sent, and forget all requests."""
    numbers = [re.search(r"partNumber=(\d+)", path) for method, path in proxy.requests if method == "PUT"]
    proxy.requests.clear()
    return sorted(int(number[1]) for number in numbers if number)


def parts_there(s3):
    uploads = s3.list_multipart_uploads(Bucket="faces").get("Uploads", ())
    listed = [
        s3.list_parts(Bucket="faces", Key=upload["Key"], UploadId=upload["UploadId"]) for upload in uploads
    ]
    return sorted(part["PartNumber"] for parts in listed for part in parts.get("Parts", ()))


def content_there(s3):
    return s3.get_object(Bucket="faces", Key="large.tar")["Body"].read()


def break_off(proxy, hasty, file, number):
    """Upload until the network fails for good at one of the parts."""
    fault = proxy.will("reset", method="PUT", path=rf"partNumber={number}\b", times=1000)
    with pytest.raises(DdmError, match="does not answer"):
        upload(file, URI, transfer=hasty)
    proxy.faults.remove(fault)
    return set(sent_parts(proxy)) - {number}


def test_after_a_network_failure_only_the_missing_parts_are_sent(proxy, s3, hasty, file):
    arrived = break_off(proxy, hasty, file, 3)
    assert set(parts_there(s3)) == arrived
    assert not exists(URI)
    upload(file, URI, transfer=hasty)
    assert set(sent_parts(proxy)) == {1, 2, 3, 4, 5} - arrived
    assert content_there(s3) == CONTENT
    assert parts_there(s3) == []


def test_after_a_kill_only_the_missing_parts_are_sent(proxy, s3, hasty, file):
    proxy.will("hang", method="PUT", path=r"partNumber=2\b", seconds=60)
    writer = subprocess.Popen([sys.executable, "-c", UPLOAD, str(file), URI])
    deadline = time.monotonic() + 60
    while len(arrived := parts_there(s3)) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    writer.kill()
    writer.wait()
    assert arrived == [1, 3, 4, 5]
    sent_parts(proxy)
    upload(file, URI, transfer=hasty)
    assert sent_parts(proxy) == [2]
    assert content_there(s3) == CONTENT


def test_a_published_folder_goes_on_within_its_large_file(proxy, s3, hasty, file):
    (file.parent / "manifest.json").write_text("{}")

    def publish():
        publish_tree(file.parent, "s3://faces/set", manifest="manifest.json", transfer=hasty)

    fault = proxy.will("reset", method="PUT", path=r"partNumber=5\b", times=1000)
    with pytest.raises(DdmError, match="does not answer"):
        publish()
    proxy.faults.remove(fault)
    arrived = set(sent_parts(proxy)) - {5}
    publish()
    assert arrived and set(sent_parts(proxy)) == {1, 2, 3, 4, 5} - arrived
    assert s3.get_object(Bucket="faces", Key="set/large.tar")["Body"].read() == CONTENT


@pytest.mark.parametrize("change", ["first", "last"])
def test_a_file_that_has_changed_meanwhile_is_sent_from_its_beginning(proxy, s3, hasty, file, change):
    break_off(proxy, hasty, file, 5)
    place = 0 if change == "first" else 4 * PART - 1
    changed = CONTENT[:place] + bytes([CONTENT[place] ^ 1]) + CONTENT[place + 1 :]
    file.write_bytes(changed)
    upload(file, URI, transfer=hasty)
    assert sent_parts(proxy) == [1, 2, 3, 4, 5]
    assert content_there(s3) == changed


def test_the_parts_of_another_object_are_not_taken(proxy, s3, hasty, file):
    break_off(proxy, hasty, file, 3)
    upload(file, "s3://faces/large", transfer=hasty)  # a beginning of the other's name
    assert sent_parts(proxy) == [1, 2, 3, 4, 5]


def test_a_part_that_was_damaged_on_its_way_is_not_gone_on_from(proxy, s3, hasty, file):
    proxy.will("flip_sent", method="PUT", path=r"partNumber=1\b")
    break_off(proxy, hasty, file, 4)
    upload(file, URI, transfer=hasty)
    assert sent_parts(proxy) == [1, 2, 3, 4, 5]
    assert content_there(s3) == CONTENT


def test_a_service_that_does_not_tell_of_unfinished_uploads_gets_all_parts(proxy, s3, hasty, file):
    break_off(proxy, hasty, file, 3)
    proxy.will("status", method="GET", path=r"\?.*uploads", status=403, code="AccessDenied", times=1000)
    upload(file, URI, transfer=hasty)
    assert sent_parts(proxy) == [1, 2, 3, 4, 5]
    assert content_there(s3) == CONTENT


def test_two_writers_of_the_same_file_end_it_together(proxy, s3, hasty, file):
    """The other one, which went on with the same parts, was a moment faster."""
    break_off(proxy, hasty, file, 5)
    overtaken = []

    def overtake():
        if not overtaken:
            overtaken.append(True)
            upload(file, URI, transfer=hasty)

    proxy.will("none", method="PUT", path=r"partNumber=5\b", then=overtake)
    upload(file, URI, transfer=hasty)
    assert overtaken
    assert content_there(s3) == CONTENT
    assert parts_there(s3) == []
