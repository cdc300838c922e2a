"""What lies on S3 comes down once: whoever is cut short goes on, and what is here is not asked for again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from folders import names, tree

from ddm_core.errors import DdmError
from ddm_core.params import FetchParams
from ddm_core.stages import fetch
from ddm_core.storage import Selection, discard, mirrored, reading
from ddm_core.storage.trees import JOURNAL, PARTS

LARGE = os.urandom(2_000_000)
SMALL = {f"anna/{number}.png": os.urandom(1000) for number in range(20)}
PHOTOS = SMALL | {"ben/1.png": LARGE}


def lay(client, objects):
    for name, content in objects.items():
        client.put_object(Bucket="faces", Key=f"photos/{name}", Body=content)


def bring(place, hasty, uri="s3://faces/photos", **options):
    with mirrored(uri, place, transfer=hasty, **options) as content:
        return tree(content)


def gets(proxy):
    """What was asked for, and from which byte, since the last look."""
    asked = zip(proxy.requests, proxy.ranges, strict=True)
    found = [(path.removeprefix("/faces/photos/"), rest) for (method, path), rest in asked if method == "GET"]
    proxy.requests.clear()
    proxy.ranges.clear()
    return [(name, rest) for name, rest in found if "?" not in name]


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_fetch_that_was_killed_goes_on_where_it_was(proxy, s3, tmp_path):
    lay(s3, PHOTOS)
    proxy.will("stall", method="GET", path=r"ben/1\.png", seconds=600)
    program = (
        "import pathlib; from ddm_core.stages import fetch; from ddm_core.params import FetchParams;"
        "fetch.run(FetchParams('folder', 's3://faces/photos'), raw=pathlib.Path('raw'))"
    )
    fetching = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)

    def come():
        """Objects that are here, and bytes of the one that has begun."""
        journals = list(tmp_path.glob(f".raw.staging/*/{JOURNAL}"))
        parts = list(tmp_path.glob(f".raw.staging/*/{PARTS}/*"))
        noted = journals[0].read_text().count("\n") if journals else 0
        begun = 0
        for part in parts:
            with contextlib.suppress(FileNotFoundError):  # whole meanwhile
                begun += part.stat().st_size
        return noted, begun

    wait_for(lambda: come() >= (len(SMALL), len(LARGE) // 2 - reading.PIECE))
    fetching.send_signal(signal.SIGKILL)
    fetching.wait()
    assert not (tmp_path / "raw").exists()
    noted, begun = come()
    assert noted == len(SMALL)
    proxy.faults.clear()
    gets(proxy)
    result = fetch.run(FetchParams("folder", "s3://faces/photos"), raw=tmp_path / "raw")
    assert gets(proxy) == [("ben/1.png", f"bytes={begun}-")]
    laid = tree(tmp_path / "raw")
    del laid["source.json"]
    assert laid == PHOTOS
    assert result.photos == len(PHOTOS)
    assert names(tmp_path) == ["raw"]


@pytest.fixture
def broken_off(proxy, s3, hasty, tmp_path):
    """A mirror whose one large object broke off, with the file of its first half."""
    lay(s3, {"ben/1.png": LARGE})
    fault = proxy.will("stall", method="GET", path=r"ben/1\.png", seconds=1, times=1000)
    with pytest.raises(DdmError, match=r"ben/1\.png: breaks off at byte|does not answer"):
        bring(tmp_path / "place", hasty)
    fault.times = 0
    gets(proxy)
    (part,) = (tmp_path / "place" / PARTS).iterdir()
    return part


def test_what_had_come_before_the_network_went_away_is_kept(proxy, hasty, broken_off, tmp_path):
    begun = broken_off.stat().st_size
    assert 0 < begun < len(LARGE)
    assert bring(tmp_path / "place", hasty) == {"ben/1.png": LARGE}
    assert gets(proxy) == [("ben/1.png", f"bytes={begun}-")]
    assert not (tmp_path / "place" / PARTS).exists()


def test_a_part_that_was_damaged_on_the_disk_is_noticed_and_thrown_away(hasty, broken_off, tmp_path):
    content = bytearray(broken_off.read_bytes())
    content[1000] ^= 1
    broken_off.write_bytes(content)
    with pytest.raises(DdmError, match=r"arrived damaged \(wrong checksum\)"):
        bring(tmp_path / "place", hasty)
    assert not broken_off.exists()
    assert bring(tmp_path / "place", hasty) == {"ben/1.png": LARGE}


def test_the_parts_of_two_versions_of_an_object_are_never_mixed(proxy, s3, hasty, broken_off, tmp_path):
    lay(s3, {"ben/1.png": LARGE[::-1]})
    assert bring(tmp_path / "place", hasty) == {"ben/1.png": LARGE[::-1]}
    assert gets(proxy) == [("ben/1.png", None)]


def test_a_part_is_not_trusted_where_no_checksum_could_tell(proxy, s3, hasty, tmp_path):
    """An object of several parts by a writer who recorded none."""
    made = s3.create_multipart_upload(Bucket="faces", Key="photos/set.tar")["UploadId"]
    content = bytes(5 << 20) + LARGE
    tags = [
        s3.upload_part(Bucket="faces", Key="photos/set.tar", UploadId=made, PartNumber=number, Body=body)
        for number, body in ((1, content[: 5 << 20]), (2, content[5 << 20 :]))
    ]
    parts = [{"PartNumber": number, "ETag": part["ETag"]} for number, part in enumerate(tags, start=1)]
    s3.complete_multipart_upload(
        Bucket="faces", Key="photos/set.tar", UploadId=made, MultipartUpload={"Parts": parts}
    )
    fault = proxy.will("stall", method="GET", path=r"set\.tar", seconds=1, times=1000)
    with pytest.raises(DdmError):
        bring(tmp_path / "place", hasty)
    fault.times = 0
    gets(proxy)
    assert bring(tmp_path / "place", hasty) == {"set.tar": content}
    assert gets(proxy) == [("set.tar", None)]


def test_what_is_here_is_not_asked_for_again(proxy, s3, hasty, tmp_path):
    lay(s3, SMALL)
    assert bring(tmp_path / "place", hasty) == SMALL
    gets(proxy)
    assert bring(tmp_path / "place", hasty) == SMALL
    assert gets(proxy) == []


def test_only_what_changed_there_or_here_is_asked_for(proxy, s3, hasty, tmp_path):
    lay(s3, SMALL)
    bring(tmp_path / "place", hasty)
    lay(s3, {"anna/0.png": b"another", "anna/new.png": b"new"})
    s3.delete_object(Bucket="faces", Key="photos/anna/1.png")
    (tmp_path / "place/folder/photos/anna/2.png").write_bytes(b"spoilt here")
    gets(proxy)
    wanted = SMALL | {"anna/0.png": b"another", "anna/new.png": b"new"}
    del wanted["anna/1.png"]
    assert bring(tmp_path / "place", hasty) == wanted
    assert sorted(name for name, _ in gets(proxy)) == ["anna/0.png", "anna/2.png", "anna/new.png"]


def test_a_line_of_the_journal_that_was_cut_off_costs_its_object_alone(proxy, s3, hasty, tmp_path):
    lay(s3, SMALL)
    bring(tmp_path / "place", hasty)
    journal = tmp_path / "place" / JOURNAL
    last = json.loads(journal.read_text().splitlines()[-1])["name"]
    journal.write_bytes(journal.read_bytes()[:-20])
    gets(proxy)
    assert bring(tmp_path / "place", hasty) == SMALL
    assert gets(proxy) == [(last, None)]
    bring(tmp_path / "place", hasty)
    assert gets(proxy) == []


def test_an_address_of_an_object_brings_its_file(s3, hasty, tmp_path):
    lay(s3, {"people.txt": b"1", "people.txt.bak": b"2"})
    with mirrored("s3://faces/photos/people.txt", tmp_path, transfer=hasty) as path:
        assert (path.name, path.read_bytes()) == ("people.txt", b"1")


def test_a_selection_takes_a_part_and_says_what_it_misses(s3, hasty, tmp_path):
    lay(s3, {"a.txt": b"a", "b.bin": b"b"})
    texts = Selection(takes=lambda name: name.endswith(".txt"))
    assert bring(tmp_path / "place", hasty, selection=texts) == {"a.txt": b"a"}
    with pytest.raises(DdmError, match=r"^s3://faces/photos: no c below it$"):
        bring(tmp_path / "other", hasty, selection=Selection(needs=lambda _: False, missing="no c below it"))
    assert names(tmp_path) == ["place"]


def test_several_readers_at_a_time_ask_once_and_do_not_wait_for_each_others_end(proxy, s3, tmp_path):
    lay(s3, SMALL)
    inside, found = threading.Barrier(3, timeout=60), []

    def read():
        with mirrored("s3://faces/photos", tmp_path / "place") as content:
            inside.wait()
            found.append(tree(content))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SMALL] * 3
    assert sorted(name for name, _ in gets(proxy)) == sorted(SMALL)


def test_what_another_reader_uses_is_not_thrown_away(s3, hasty, tmp_path):
    lay(s3, SMALL)
    with mirrored("s3://faces/photos", tmp_path / "staging/place", transfer=hasty) as content:
        discard(tmp_path / "staging")
        assert tree(content) == SMALL
    discard(tmp_path / "staging")
    assert names(tmp_path) == []


def test_a_break_costs_no_more_than_a_piece(proxy, hasty, broken_off):
    assert broken_off.stat().st_size >= len(LARGE) // 2 - reading.PIECE
