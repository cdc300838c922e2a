"""The MLflow server as deploy/ starts it: from the image, on Postgres, with its artifacts on S3."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest
import yaml
from engine import CHECKOUT, call

pytestmark = pytest.mark.timeout(1800)  # a first build fetches every package
BASE = CHECKOUT / "deploy" / "base" / "mlflow"
SETTINGS = CHECKOUT / "deploy" / "example" / "mlflow" / "settings.env"
NAME = "ddm-mlflow-test"
BUCKET = "example-bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
PASSWORD = "for-this-test-only"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def postgres():
    """An empty database server on loopback; yields its port."""
    found = shutil.which("initdb") or max(
        map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=""
    )
    if not found:
        pytest.skip("Postgres is not installed")
    owner = {"user": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="ddm-postgres-"))
    binaries, data, port = Path(found).resolve().parent, folder / "data", free_port()
    if owner:
        shutil.chown(folder, owner["user"])
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    options = ("--username=mlflow", f"--pwfile={password}", "--auth=scram-sha-256")
    subprocess.run(
        [binaries / "initdb", *options, data], cwd=folder, check=True, capture_output=True, **owner
    )
    with (folder / "log").open("w") as log:
        arguments = ("-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1")
        server = subprocess.Popen([binaries / "postgres", *arguments], cwd=folder, stderr=log, **owner)
    try:
        connection = f"host=127.0.0.1 port={port} user=mlflow password={PASSWORD} dbname=postgres"
        create = [
            binaries / "psql",
            connection,
            "-c",
            "CREATE DATABASE mlflow",
            "-c",
            "CREATE DATABASE older",
        ]
        wait_until(lambda: call(*create).returncode == 0, server, folder / "log")
        yield port
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def storage():
    """An S3 server on loopback with the example's bucket; yields its address."""
    from moto.server import ThreadedMotoServer  # here, because it is slow to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client(f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
    yield f"http://{host}:{port}"
    server.stop()


def client(storage):
    credentials = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client("s3", endpoint_url=storage, region_name="us-east-1", **credentials)


@pytest.fixture(scope="module")
def environment(postgres, storage):
    """What the pod gets from its ConfigMap and its Secret, moved to this machine; and the server's port."""
    port = free_port()
    lines = [line for line in SETTINGS.read_text().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines)
    moved = {key: value.replace(":5000", f":{port}") for key, value in settings.items()}
    moved["MLFLOW_BACKEND_STORE_URI"] = settings["MLFLOW_BACKEND_STORE_URI"].replace(
        "postgres:5432", f"127.0.0.1:{postgres}"
    )
    secrets = {"PGPASSWORD": PASSWORD, **KEYS}
    return {**moved, **secrets, "MLFLOW_S3_ENDPOINT_URL": storage}, port


def container_of(file, kind):
    documents = yaml.safe_load_all((BASE / file).read_text())
    specification = next(document["spec"] for document in documents if document["kind"] == kind)
    specification = specification.get("jobTemplate", {}).get("spec", specification)
    return specification["template"]["spec"]["containers"][0]


def as_options(variables):
    return tuple(f"--env={key}={value}" for key, value in variables.items())


@pytest.fixture(scope="module")
def server(image, environment, tmp_path_factory):
    """The Deployment's container with its own command; yields its port."""
    variables, port = environment
    container = container_of("mlflow.yaml", "Deployment")
    fixed = {variable["name"]: variable["value"] for variable in container["env"]}
    entrypoint, *arguments = [*container["command"], *container["args"], "--port", str(port)]
    call(image.engine, "rm", "--force", NAME)
    command = image.command(
        *arguments,
        options=(f"--name={NAME}", *as_options(fixed | variables)),
        entrypoint=entrypoint,
        network="host",
    )
    log = tmp_path_factory.mktemp("mlflow") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: status(port, "/health", "10.0.0.1") == 200, process, log)
        yield port
    finally:
        call(image.engine, "rm", "--force", NAME)
        process.wait()


def wait_until(condition, process, log):
    deadline = time.monotonic() + 120
    while not condition():
        alive = process.poll() is None
        assert alive and time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.5)


def status(port, path, host):
    """Return the HTTP status of a request that names `host` as its aim, or 0 where nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_it_keeps_runs_in_postgres_and_artifacts_on_s3(server, storage):
    from mlflow import MlflowClient  # here, because it is slow to import

    tracking = MlflowClient(f"http://127.0.0.1:{server}")
    run = tracking.create_run(tracking.create_experiment("ddm"))
    tracking.log_metric(run.info.run_id, "psnr_db", 32.5)
    tracking.log_text(run.info.run_id, "hidden", "note.txt")
    assert tracking.get_run(run.info.run_id).data.metrics == {"psnr_db": 32.5}
    found = client(storage).list_objects_v2(Bucket=BUCKET, Prefix="mlflow/")["Contents"]
    assert [Path(entry["Key"]).name for entry in found] == ["note.txt"]


def test_it_answers_to_the_names_of_the_service_alone(server):
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    for name in ("mlflow.ddm", "mlflow.ddm.svc", "mlflow.ddm.svc.cluster.local", "localhost"):
        assert status(server, search, f"{name}:{server}") == 200
    assert status(server, search, f"elsewhere.example.com:{server}") == 403


@pytest.fixture
def older_tables(postgres):
    """A database as the version of MLflow before the last change of the tables left it; yields its engine."""
    import sqlalchemy
    from alembic.command import upgrade
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    address = f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{postgres}/older"
    engine = sqlalchemy.create_engine(address)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(address)
    revisions = ScriptDirectory.from_config(config)
    before = revisions.get_revision(revisions.get_current_head()).down_revision
    upgrade(config, before)
    yield engine
    engine.dispose()


def test_the_upgrade_job_brings_older_tables_up_to_date(image, environment, older_tables):
    from mlflow.store.db.utils import _verify_schema

    variables, _ = environment
    container = container_of("database-upgrade.yaml", "CronJob")
    address = variables["MLFLOW_BACKEND_STORE_URI"].removesuffix("mlflow") + "older"
    entrypoint, *arguments = [
        argument.replace("$(MLFLOW_BACKEND_STORE_URI)", address) for argument in container["command"]
    ]
    with pytest.raises(Exception, match="out-of-date"):
        _verify_schema(older_tables)
    done = image.run(*arguments, options=as_options(variables), entrypoint=entrypoint, network="host")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    _verify_schema(older_tables)
