"""Files go up to S3 and come down again unchanged, in one piece or in parts, with or without credentials."""

import hashlib
import io
import os
import tarfile

import pytest
from folders import names, tree

from ddm_core.errors import DdmError
from ddm_core.storage import Transfer, delete, download, exists, list_objects, open_stream, size, upload

CONTENT = os.urandom(12_000_000)  # three parts of 5 MiB, the last one shorter


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("length", [0, 1, 5 << 20, (5 << 20) + 1, len(CONTENT)])
def test_what_went_up_comes_down_unchanged(s3, hasty, file, tmp_path, length):
    file.write_bytes(CONTENT[:length])
    upload(file, "s3://faces/a b/王芳.tar", transfer=hasty)
    download("s3://faces/a b/王芳.tar", tmp_path / "new/copy.tar", transfer=hasty)
    assert (tmp_path / "new/copy.tar").read_bytes() == CONTENT[:length]
    assert names(tmp_path / "new") == ["copy.tar"]


def test_a_large_file_goes_up_in_parts_and_a_small_one_in_one_piece(s3, hasty, file, tmp_path):
    upload(file, "s3://faces/large", transfer=hasty)
    (tmp_path / "small").write_bytes(b"small")
    upload(tmp_path / "small", "s3://faces/small", transfer=hasty)
    tags = {name: s3.head_object(Bucket="faces", Key=name)["ETag"] for name in ("large", "small")}
    assert tags["large"].endswith('-3"')
    assert tags["small"] == f'"{hashlib.md5(b"small").hexdigest()}"'


def test_an_object_carries_its_sha256_for_readers_of_every_kind(s3, hasty, file):
    upload(file, "s3://faces/shard", transfer=hasty)
    head = s3.head_object(Bucket="faces", Key="shard", ChecksumMode="ENABLED")
    assert head["Metadata"] == {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert "ChecksumSHA256" in head


def test_a_service_that_knows_no_such_checksums_is_spared_them(s3, hasty, file, monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    upload(file, "s3://faces/shard", transfer=hasty)
    head = s3.head_object(Bucket="faces", Key="shard", ChecksumMode="ENABLED")
    assert head["Metadata"] == {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert "ChecksumSHA256" not in head


def test_a_tar_is_read_from_a_stream_as_it_comes(s3, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for number in range(100):
            member = tarfile.TarInfo(f"{number:03}.png")
            member.size = 1000
            archive.addfile(member, io.BytesIO(bytes([number]) * 1000))
    upload(tmp_path / "photos.tar", "s3://faces/photos.tar")
    with open_stream("s3://faces/photos.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive}
    assert contents == {f"{number:03}.png": bytes([number]) * 1000 for number in range(100)}


def test_objects_are_found_measured_listed_and_deleted(s3):
    for key in ("set/b.tar", "set/a/1.tar", "other"):
        s3.put_object(Bucket="faces", Key=key, Body=key.encode())
    s3.put_object(Bucket="faces", Key="set/a/", Body=b"")
    assert list(list_objects("s3://faces/set")) == [("a/1.tar", 11), ("b.tar", 9)]
    assert size("s3://faces/set/b.tar") == 9
    assert exists("s3://faces/set/b.tar")
    delete("s3://faces/set/b.tar")
    assert not exists("s3://faces/set/b.tar")
    delete("s3://faces/set/b.tar")


@pytest.mark.parametrize("read", [size, lambda uri: open_stream(uri).read()])
def test_an_object_that_is_not_there_is_named(s3, read):
    with pytest.raises(DdmError, match=r"^s3://faces/nothing: no such object; check the address"):
        read("s3://faces/nothing")


@pytest.mark.parametrize("uri", ["s3://faces", "s3://faces/", "s3://faces/folder/"])
def test_an_address_without_an_object_is_refused(uri):
    with pytest.raises(DdmError, match="names no object; write s3://bucket/key"):
        size(uri)


@pytest.mark.parametrize("asked_by", ["parameter", "environment"])
def test_a_public_bucket_is_read_without_credentials_when_asked(s3, proxy, monkeypatch, asked_by):
    s3.put_object(Bucket="faces", Key="public", Body=b"all may read", ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(DdmError, match="no S3 credentials"):
        size("s3://faces/public")
    if asked_by == "environment":
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "1")
    with open_stream("s3://faces/public", transfer=Transfer(anonymous=asked_by == "parameter")) as stream:
        assert stream.read() == b"all may read"
    assert proxy.signatures == [None]


def test_credentials_of_a_profile_sign_requests(s3, aws, proxy, tmp_path, monkeypatch):
    s3.put_object(Bucket="faces", Key="private", Body=b"for some")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        "[reader]\naws_access_key_id = PROFILEKEY\naws_secret_access_key = hidden\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "reader")
    assert size("s3://faces/private") == 8
    assert "Credential=PROFILEKEY/" in proxy.signatures[0]


@pytest.fixture
def role(aws, tmp_path, monkeypatch):
    """A pod's role: a token that its cluster signed, and no key."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("a token of the cluster")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "pod")


def test_a_role_with_a_web_identity_signs_requests(s3, proxy, role, tmp_path):
    """As on a cluster: the token buys a key for a while, which the requests are signed with."""
    s3.put_object(Bucket="faces", Key="private", Body=b"for some")
    download("s3://faces/private", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"for some"
    bought, read = proxy.signatures
    assert bought is None
    assert "Credential=ASIA" in read  # so begin keys that end after a while
    assert [method for method, _ in proxy.requests] == ["POST", "GET"]


def test_a_web_identity_that_is_refused_is_one_line(s3, proxy, role):
    proxy.will("status", method="POST", status=400, code="InvalidIdentityToken", times=1000)
    with pytest.raises(DdmError, match=r"^s3://faces/private: the role is not granted \("):
        size("s3://faces/private")


def test_the_checksum_of_another_writer_is_used(s3, proxy, tmp_path):
    for name, options in {
        "sha256": {"ChecksumAlgorithm": "SHA256"},
        "crc32": {"ChecksumAlgorithm": "CRC32"},
        "own word": {"Metadata": {"sha256": "of something else"}},
    }.items():
        s3.put_object(Bucket="faces", Key=name, Body=b"content", **options)
        download(f"s3://faces/{name}", tmp_path / name)
        proxy.will("flip", method="GET", path=name)
        with pytest.raises(DdmError, match=r"arrived damaged \(wrong checksum\)"):
            download(f"s3://faces/{name}", tmp_path / "damaged")
    assert set(tree(tmp_path)) == {"sha256", "crc32", "own word"}
