"""A folder is published whole or not at all, and of two writers one wins and the other is told."""

import os
import re
import subprocess
import sys
import threading
import time

import pytest
from folders import tree

from ddm_core.errors import DdmError
from ddm_core.files import OUTPUT_MARK
from ddm_core.storage import exists, list_objects, publish_tree, upload

FILES = {
    "manifest.json": b'{"shards": 2}',
    "shards/0.tar": os.urandom(100_000),
    "shards/1.tar": os.urandom(6_000_000),
    "people 王芳.txt": b"",
}
ROOT = "s3://faces/sets/1/"


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "prepared", FILES)


def lay(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / OUTPUT_MARK).write_text("mark")
    return folder


def publish(folder, hasty, **options):
    return publish_tree(folder, ROOT, manifest="manifest.json", transfer=hasty, **options)


def published(s3):
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="faces").get("Contents", ())]
    return {key: s3.get_object(Bucket="faces", Key=key)["Body"].read() for key in keys}


def whole(files):
    return {f"sets/1/{name}": content for name, content in files.items()}


def keys(*names):
    return {f"sets/1/{name}" for name in names}


def refusal(work):
    with pytest.raises(DdmError) as caught:
        work()
    text = str(caught.value)
    assert text.isprintable()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in text
    return text


def sent_keys(proxy):
    return [path.partition("?")[0] for method, path in proxy.requests if method == "PUT"]


def test_every_file_is_published_and_the_manifest_last(proxy, s3, hasty, folder):
    result = publish(folder, hasty)
    assert published(s3) == whole(FILES)
    assert (result.sent, result.kept, result.bytes) == (4, 0, sum(map(len, FILES.values())))
    assert sent_keys(proxy)[-1] == "/faces/sets/1/manifest.json"


def test_publishing_again_sends_nothing_again(proxy, s3, hasty, folder):
    publish(folder, hasty)
    proxy.requests.clear()
    result = publish(folder, hasty)
    assert (result.sent, result.kept) == (0, 4)
    assert sent_keys(proxy) == ["/faces/sets/1/.publishing"]
    assert published(s3) == whole(FILES)


def test_a_run_that_broke_off_is_not_visible_and_goes_on_where_it_stopped(proxy, s3, hasty, folder):
    proxy.will("reset", method="PUT", path=r"1\.tar", times=1000)
    refusal(lambda: publish(folder, hasty))
    assert not exists(f"{ROOT}manifest.json")
    proxy.faults.clear()
    proxy.requests.clear()
    result = publish(folder, hasty)
    assert result.kept == 2
    assert "/faces/sets/1/shards/0.tar" not in sent_keys(proxy)
    assert published(s3) == whole(FILES)


def test_a_writer_that_was_killed_can_be_run_again(proxy, s3, hasty, folder):
    """It leaves its claim and some of its data."""
    fault = proxy.will("hang", method="PUT", path=r"1\.tar", seconds=60)
    program = (
        "import sys, pathlib; from ddm_core.storage import publish_tree;"
        "publish_tree(pathlib.Path(sys.argv[1]), sys.argv[2], manifest='manifest.json')"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(folder), ROOT])
    deadline = time.monotonic() + 60
    while len(published(s3)) < 3 or not fault.met:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    writer.kill()
    writer.wait()
    assert set(published(s3)) == {
        f"sets/1/{name}" for name in (".publishing", "shards/0.tar", "people 王芳.txt")
    }
    result = publish(folder, hasty)
    assert (result.sent, result.kept) == (2, 2)
    assert published(s3) == whole(FILES)


@pytest.mark.parametrize("kind", ["reset", "lost"])
def test_faults_on_every_step_lose_nothing(proxy, s3, hasty, folder, kind):
    """An answer that is lost after a conditional write looks like another writer; it is told apart."""
    steps = (r"\.publishing", r"0\.tar", r"partNumber=1", r"manifest\.json")
    faults = [proxy.will(kind, method="PUT", path=step) for step in steps]
    publish(folder, hasty)
    assert [fault.met for fault in faults] == [1, 1, 1, 1]
    assert published(s3) == whole(FILES)


@pytest.mark.parametrize("name", [r"0\.tar", r"manifest\.json"])
def test_bytes_damaged_on_their_way_up_are_never_published(proxy, s3, hasty, folder, name):
    proxy.will("flip_sent", method="PUT", path=name)
    assert "arrived damaged" in refusal(lambda: publish(folder, hasty))
    assert not exists(f"{ROOT}manifest.json")
    publish(folder, hasty)
    assert published(s3) == whole(FILES)


def test_of_several_writers_at_a_time_one_wins_and_the_others_are_told(s3, hasty, tmp_path):
    sets = [FILES | {"manifest.json": b"%d" % seed, "shards/0.tar": os.urandom(1000)} for seed in range(4)]
    folders = [lay(tmp_path / str(number), files) for number, files in enumerate(sets)]
    told, start = {}, threading.Barrier(len(sets))

    def write(number):
        start.wait()
        try:
            publish(folders[number], hasty)
        except DdmError as error:
            told[number] = str(error)

    threads = [threading.Thread(target=write, args=[number]) for number in range(len(sets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(range(len(sets))) - told.keys()
    assert published(s3) == whole(sets[winner])
    for text in told.values():
        assert re.search("another writer is publishing|another set is published", text)


def test_a_writer_that_finds_another_at_work_touches_nothing(s3, hasty, folder):
    s3.put_object(Bucket="faces", Key="sets/1/.publishing", Body=b"of other files")
    text = refusal(lambda: publish(folder, hasty))
    assert text == (
        f"{ROOT}: another writer is publishing other files there; wait for it,"
        f" or delete {ROOT}.publishing if that writer is dead"
    )
    assert set(published(s3)) == {"sets/1/.publishing"}


def test_a_writer_taken_for_dead_does_not_publish_over_its_successor(proxy, s3, hasty, folder):
    def take_over():
        s3.put_object(Bucket="faces", Key="sets/1/.publishing", Body=b"of other files")

    proxy.will("none", method="PUT", path=r"0\.tar", then=take_over)
    assert "another writer has taken over" in refusal(lambda: publish(folder, hasty))
    assert not exists(f"{ROOT}manifest.json")


def test_a_manifest_that_appears_at_the_last_moment_is_not_overwritten(proxy, s3, hasty, folder):
    """A writer that knows nothing of claims."""

    def publish_another():
        s3.put_object(Bucket="faces", Key="sets/1/manifest.json", Body=b"another")

    proxy.will("none", method="GET", path=r"\.publishing", then=publish_another)
    assert "another writer was first" in refusal(lambda: publish(folder, hasty))
    assert published(s3)["sets/1/manifest.json"] == b"another"
    assert "sets/1/.publishing" not in published(s3)


def test_another_set_is_not_published_over_one_that_stands(s3, hasty, folder, tmp_path):
    publish(folder, hasty)
    other = lay(tmp_path / "other", FILES | {"manifest.json": b"other"})
    text = refusal(lambda: publish(other, hasty))
    assert text == f"{ROOT}manifest.json: another set is published there; publish to another prefix"
    assert published(s3) == whole(FILES)


def test_a_set_grows_when_its_manifest_may_be_replaced(s3, hasty, folder, tmp_path):
    publish(folder, hasty)
    more = FILES | {"manifest.json": b'{"shards": 3}', "shards/2.tar": b"more"}
    result = publish(lay(tmp_path / "more", more), hasty, replace=True)
    assert (result.sent, result.kept) == (2, 3)
    assert published(s3) == whole(more)


def test_data_under_a_manifest_never_change(s3, hasty, folder, tmp_path):
    publish(folder, hasty)
    other = lay(tmp_path / "other", FILES | {"manifest.json": b"other", "shards/0.tar": b"other"})
    text = refusal(lambda: publish(other, hasty, replace=True))
    assert text == f"{ROOT}shards/0.tar: is part of a published set; give the new file another name"
    assert published(s3) == whole(FILES)


def test_remains_of_another_writer_without_a_manifest_are_replaced(s3, hasty, folder, tmp_path):
    (tmp_path / "remains").write_bytes(b"of a run that was given up")
    upload(tmp_path / "remains", f"{ROOT}shards/0.tar", transfer=hasty)
    publish(folder, hasty)
    assert published(s3) == whole(FILES)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"shards/0.tar": b"0"}, "manifest.json: not found; publish a folder that is finished"),
        ({"manifest.json": b"{}"}, "holds nothing but manifest.json"),
    ],
)
def test_an_unfinished_folder_is_refused(s3, hasty, tmp_path, files, reason):
    folder = lay(tmp_path / "unfinished", files)
    assert reason in refusal(lambda: publish(folder, hasty))
    assert list(list_objects("s3://faces")) == []


def test_a_service_without_access_is_named_and_nothing_stands(proxy, s3, hasty, folder):
    proxy.will("status", method="PUT", status=403, code="AccessDenied", times=1000)
    text = refusal(lambda: publish(folder, hasty))
    assert text.startswith(f"{ROOT}.publishing: S3 denies access (AccessDenied)")
    assert published(s3) == {}


def test_a_service_that_knows_no_conditional_writes_is_named(proxy, hasty, folder):
    proxy.will("status", method="PUT", status=501, code="NotImplemented", times=1000)
    assert "lacks what is needed here, such as conditional writes" in refusal(lambda: publish(folder, hasty))


def test_the_folder_itself_stays_as_it_is(s3, hasty, folder):
    publish(folder, hasty)
    assert tree(folder) == FILES
