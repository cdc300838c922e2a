"""Empty databases for an MLflow server to keep its tables in."""

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow_server import free_port

PASSWORD = "for-this-test-only"


@contextmanager
def sqlite(folder):
    yield f"sqlite:///{folder}/server.db"


@contextmanager
def postgres(_folder):
    """An empty database on loopback; yields its address."""
    found = shutil.which("initdb") or max(
        map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=""
    )
    if not found:
        pytest.skip("Postgres is not installed")
    owner = {"user": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="ddm-postgres-"))  # its socket's path must be short
    binaries, port = Path(found).resolve().parent, free_port()
    if owner:
        shutil.chown(folder, owner["user"])
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    options = ("--username=mlflow", f"--pwfile={password}", "--auth=scram-sha-256")
    subprocess.run([binaries / "initdb", *options, folder / "data"], cwd=folder, check=True, **quiet(owner))
    arguments = ("-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1")
    server = subprocess.Popen([binaries / "postgres", *arguments], cwd=folder, **quiet(owner))
    try:
        wait_for_database(server, port)
        yield f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def quiet(owner):
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **owner}


def wait_for_database(server, port):
    import psycopg2

    deadline = time.monotonic() + 60
    while True:
        try:
            place = {"host": "127.0.0.1", "port": port, "dbname": "postgres"}
            return psycopg2.connect(user="mlflow", password=PASSWORD, **place).close()
        except psycopg2.OperationalError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
