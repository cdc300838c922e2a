"""A model goes through a real MLflow server, its files in S3, and works wherever the address is known."""

import json

import pytest
from databases import postgres, sqlite
from mlflow_server import running_server
from packaged_models import (
    PARAMS,
    candidate,
    encoded,
    forms,
    likeness,
    picture,
    use_champion_in_a_fresh_process,
)

from ddm_core.key_files import write_key_file
from ddm_core.keys import generate_key
from ddm_core.serving.registry import place

pytestmark = pytest.mark.timeout(900)  # a server, and a process that loads torch and mlflow


@pytest.mark.parametrize("database", [sqlite, postgres], ids=["sqlite", "postgres"])
def test_the_champion_encrypts_and_decrypts_wherever_the_server_is_known(database, s3, tmp_path, monkeypatch):
    keys = {"right.key": generate_key(), "wrong.key": generate_key()}
    elsewhere, server = tmp_path / "elsewhere", tmp_path / "server"
    for folder in (elsewhere, server):
        folder.mkdir()
    for name, key in keys.items():
        write_key_file(elsewhere / name, key)
    (elsewhere / "face.png").write_bytes(encoded(picture()))

    with database(server) as store, running_server(server, store, "s3://faces/models") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.chdir(tmp_path)
        standing = place(candidate(tmp_path / "models/keyed_ddm", "keyed_ddm"), PARAMS.register.gate)
        assert standing.champion == standing.version == 1
        finished = use_champion_in_a_fresh_process(elsewhere, address, keys)
    assert finished.returncode == 0, finished.stderr
    assert "row 0: wrong key" in json.loads(finished.stdout)["error"]
    assert likeness((elsewhere / "restored.png").read_bytes(), picture()) > 0.9

    names = [entry["Key"] for entry in s3.list_objects_v2(Bucket="faces")["Contents"]]
    kept = {name.rpartition("/artifacts/")[2]: name for name in names}
    variants = {f"variants/{name}.{kind}" for name in ("hide", "restore") for kind in ("onnx", "pt2")}
    assert variants | {"MLmodel", "model_card.md", "model_card.html"} <= set(kept)
    places = [s3.get_object(Bucket="faces", Key=name)["Body"].read() for name in names]
    places += [path.read_bytes() for path in server.rglob("*") if path.is_file()]
    places += [finished.stdout.encode(), finished.stderr.encode()]
    for form in (form for key in keys.values() for form in forms(key)):
        assert not any(form in content for content in places)
