"""Photos come down from S3 whole and under safe names, or one line says why not, without a secret in it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml
from folders import names, tree
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.errors import DdmError
from ddm_core.storage import RAW, is_remote, mirrored, parallel, split_uri

CHECKOUT = Path(__file__).parents[1]


def lay(client, *keys, content=b"any"):
    for key in keys:
        client.put_object(Bucket="faces", Key=key, Body=content)


def download_tree(uri, folder):
    """Bring the raw photos at `uri` into `folder`."""
    with tempfile.TemporaryDirectory() as place, mirrored(uri, Path(place), selection=RAW) as content:
        shutil.copytree(content, folder, dirs_exist_ok=True)


def message(uri, folder):
    """What download_tree says in one line; nothing may be left in the folder."""
    with pytest.raises(DdmError) as caught:
        download_tree(uri, folder)
    assert tree(folder) == {}
    text = str(caught.value)
    assert "\n" not in text
    for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert os.environ.get(secret, "nothing") not in text
    return text


# Addresses


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://faces", "faces", ""),
        ("s3://faces/", "faces", ""),
        ("s3://faces/photos", "faces", "photos/"),
        ("s3://faces/photos/", "faces", "photos/"),
        ("s3://my.faces-2/a b/王芳@home", "my.faces-2", "a b/王芳@home/"),
    ],
)
def test_an_address_names_a_bucket_and_a_folder_in_it(uri, bucket, prefix):
    assert is_remote(uri)
    assert split_uri(uri) == (bucket, prefix)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3:///photos",
        "s3://ab/photos",
        "S3://faces/photos",
        "s3:/faces/photos",
        "s3://faces/new\nline",
        "https://faces.s3.amazonaws.com/photos?X-Amz-Signature=hidden",
        "s3://name:hidden@faces/photos",
        "s3://name:hid/den@faces/photos",
    ],
)
def test_another_address_is_refused_and_not_repeated(uri):
    assert is_remote(uri)
    with pytest.raises(DdmError, match="neither a local path nor s3://bucket/prefix") as caught:
        split_uri(uri)
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("path", ["photos", "/data/photos", "../s3/photos", "~/photos", "./s3://faces"])
def test_a_path_is_no_address(path):
    assert not is_remote(path)


@given(st.text())
def test_whatever_follows_the_scheme_is_split_without_loss_or_refused(text):
    try:
        bucket, prefix = split_uri(f"s3://{text}")
    except DdmError:
        return
    assert prefix == "" or prefix.endswith("/")
    assert f"{bucket}/{prefix}".rstrip("/") == text.rstrip("/")


# What comes down


def test_photos_below_the_prefix_come_down_by_their_relative_names(s3, tmp_path):
    wanted = {
        "anna/1.png": b"one",
        "anna/2024/party photo.JPG": b"two",
        "José/1 + 2 %41.png": b"",
        "王芳/1.webp": bytes(9_000_000),  # more than boto3 usually takes in one piece
    }
    for name, content in wanted.items():
        lay(s3, f"photos/{name}", content=content)
    lay(s3, "photos2/ben/1.png", "ben/1.png", "photos")
    download_tree("s3://faces/photos", tmp_path)
    assert tree(tmp_path) == wanted


def test_a_bucket_without_a_prefix_comes_down_whole(s3, tmp_path):
    lay(s3, "anna/1.png", "ben/1.png")
    download_tree("s3://faces", tmp_path)
    assert set(tree(tmp_path)) == {"anna/1.png", "ben/1.png"}


def test_folder_marks_and_hidden_objects_stay_where_they_are(s3, tmp_path):
    lay(s3, "p/", "p/anna/", "p/anna/1.png", "p/anna/.2.png", "p/.trash/3.png", "p/notes.txt")
    s3.put_object(Bucket="faces", Key="p/anna", Body=b"")
    download_tree("s3://faces/p", tmp_path)
    assert set(tree(tmp_path)) == {"anna/1.png", "notes.txt"}


def test_a_listing_of_several_pages_is_read_to_its_end(s3, tmp_path):
    from moto.s3.models import s3_backends

    backend = s3_backends["123456789012"]["aws"]  # the server's own store: a thousand uploads take seconds
    for number in range(1000):
        backend.put_object("faces", f"anna/.{number:04}.png", b"")
    lay(s3, "anna/last.png", "zoe/1.png")
    download_tree("s3://faces", tmp_path)
    assert set(tree(tmp_path)) == {"anna/last.png", "zoe/1.png"}


def test_every_batch_of_downloads_is_made(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "BATCH", 2)
    keys = [f"anna/{number}.png" for number in range(5)]
    lay(s3, *keys)
    download_tree("s3://faces", tmp_path)
    assert sorted(tree(tmp_path)) == keys


def test_the_endpoint_of_s3_alone_goes_before_the_general_one(s3, s3_server, tmp_path, monkeypatch):
    lay(s3, "anna/1.png")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    download_tree("s3://faces", tmp_path)
    assert set(tree(tmp_path)) == {"anna/1.png"}


def test_an_endpoint_of_your_own_is_addressed_by_path(s3, s3_server, tmp_path, monkeypatch):
    """The other style asks for the host `faces.localhost`: Amazon has such names, MinIO and Ceph need not."""
    lay(s3, "anna/1.png")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.replace("127.0.0.1", "localhost"))
    download_tree("s3://faces", tmp_path)
    assert set(tree(tmp_path)) == {"anna/1.png"}


# What is refused


@pytest.mark.parametrize(
    "name", ["../evil.png", "anna/../../evil.png", "/etc/evil.png", "anna//1.png", "./1.png", "../notes.txt"]
)
def test_an_object_name_that_leads_elsewhere_is_refused_before_anything_is_written(s3, tmp_path, name):
    lay(s3, "photos/anna/1.png", f"photos/{name}")
    (tmp_path / "folder").mkdir()
    assert "is no plain relative path; rename it" in message("s3://faces/photos", tmp_path / "folder")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("anna", "has the name of a folder"),
        ("anna/" + "1" * 252 + ".png", "has too long a name"),
        ("anna/\x1b[2J.png", "holds unprintable characters"),
    ],
    ids=["folder", "long", "control"],
)
def test_an_object_that_can_be_no_file_is_refused_before_anything_is_written(s3, tmp_path, name, reason):
    lay(s3, "anna/1.png", name)
    text = message("s3://faces/", tmp_path)
    assert reason in text
    assert text.isprintable()
    assert names(tmp_path) == []


@pytest.mark.parametrize("keys", [[], ["photos/notes.txt"], ["photos2/anna/1.png"]])
def test_a_prefix_without_a_photo_is_named(s3, tmp_path, keys):
    lay(s3, *keys)
    assert message("s3://faces/photos", tmp_path).startswith("s3://faces/photos: no photo below it; expected")


def test_a_missing_bucket_is_named(s3, tmp_path):
    assert message("s3://fases/photos", tmp_path).startswith(
        "s3://fases/photos: no such bucket; check its name"
    )


def test_missing_credentials_are_asked_for(s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no S3 credentials; set AWS_ACCESS_KEY_ID" in message("s3://faces", tmp_path)


def test_half_of_the_credentials_is_not_enough(s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no S3 credentials; set AWS_ACCESS_KEY_ID" in message("s3://faces", tmp_path)


def test_credentials_that_the_service_does_not_know_are_denied(s3, s3_server, tmp_path):
    def demand_credentials(after_calls):
        text = {"Content-Type": "text/plain"}
        urlopen(Request(f"{s3_server}/moto-api/reset-auth", data=after_calls, headers=text)).close()

    lay(s3, "anna/1.png")
    demand_credentials(b"0")
    try:
        text = message("s3://faces", tmp_path)
    finally:
        demand_credentials(b"inf")
    assert text.startswith("s3://faces: S3 denies access (InvalidAccessKeyId); check the credentials")


def test_an_endpoint_that_does_not_answer_is_named_without_its_password(aws, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@127.0.0.1:1")
    text = message("s3://faces", tmp_path)
    assert "127.0.0.1 does not answer (EndpointConnectionError); check the network" in text
    assert "hidden" not in text


def test_an_endpoint_that_is_no_address_is_named_without_its_text(aws, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "user:hidden@minio")
    text = message("s3://faces", tmp_path)
    assert "AWS_ENDPOINT_URL is no address" in text
    assert "hidden" not in text


def test_an_unknown_profile_is_one_line(aws, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "S3 failed (ProfileNotFound)" in message("s3://faces", tmp_path)


# What goes wrong on the way


class FlawedS3(ThreadingHTTPServer):
    """An S3 service with one flaw: what it lists and sends of each photo differ, or it is slow or busy."""

    def __init__(self, *, photos, listed=4, sent=4, seconds=0.0, busy=0):
        super().__init__(("127.0.0.1", 0), FlawedAnswers)
        self.listing = "".join(
            f"<Contents><Key>anna/{number}.png</Key><Size>{listed}</Size></Contents>"
            for number in range(photos)
        )
        self.sent, self.seconds, self.busy = sent, seconds, busy
        self.begun = 0
        self.daemon_threads = True


class FlawedAnswers(BaseHTTPRequestHandler):
    def do_GET(self):
        if "list-type=2" in self.path:
            content = f"<ListBucketResult>{self.server.listing}</ListBucketResult>".encode()
            self.answer(200, content)
            return
        self.server.begun += 1
        if self.server.begun <= self.server.busy:
            self.answer(503, b"")
            return
        time.sleep(self.server.seconds)
        self.answer(200, bytes(self.server.sent))

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def flawed_s3(aws, monkeypatch):
    """Start a FlawedS3 and name it in the environment."""
    servers = []

    def start(**flaw):
        server = FlawedS3(**flaw)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_busy_service_is_asked_again(flawed_s3, tmp_path):
    server = flawed_s3(photos=1, busy=1)
    download_tree("s3://faces", tmp_path)
    assert tree(tmp_path) == {"anna/0.png": bytes(4)}
    assert server.begun == 2


def test_an_object_that_changed_since_it_was_listed_is_named(flawed_s3, tmp_path):
    flawed_s3(photos=1, listed=9, sent=4)
    with pytest.raises(DdmError, match=r"^s3://faces/anna/0\.png: is another one than when it was listed"):
        download_tree("s3://faces", tmp_path)


def test_ctrl_c_ends_a_download_soon_and_leaves_no_raw_folder(flawed_s3, tmp_path):
    server = flawed_s3(photos=200, seconds=0.2)
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8"))
    params["fetch"] = {"source": "folder", "uri": "s3://faces"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    # Tests run in the background may have Ctrl-C switched off, and a new process inherits that.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from ddm_core.cli import main; raise SystemExit(main(['fetch']))"
    )
    fetching = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while server.begun == 0 and fetching.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    fetching.send_signal(signal.SIGINT)
    _, errors = fetching.communicate(timeout=60)
    assert fetching.returncode == 130
    assert errors.splitlines()[-1] == "ddm: interrupted; nothing half-written was left"
    assert 0 < server.begun < 100
    assert names(tmp_path / "data") == [".raw.staging"]  # what the next run goes on from
