"""`ddm data fetch facescrub`: a list in, images and a table of dead links out."""

import signal
import subprocess
import sys
import time

import pytest
from facescrub_files import ANNA, BEN, Listed, jpeg, write_list
from misbehaving_server import content, ranged, stalling

from ddm_core import cli
from ddm_core.data.facescrub import read
from ddm_core.data.raw import RawPhoto


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
