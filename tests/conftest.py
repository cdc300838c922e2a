"""Small real datasets that tests of every part share."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy
import pytest
from hypothesis import settings
from PIL import Image

from ddm_core.learned_params import PhotoDdmParams
from ddm_core.params import AttackParams, DdmParams, KeyedDdmParams, PrepareParams
from ddm_core.seeding import numpy_generator
from ddm_core.stages import prepare

# How long an example takes depends on what else the machine does: no test is timed.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")

PEOPLE = ("Anna Lee", "Björn", "José", "王芳", "zoe")


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Tests in the background may have Ctrl-C switched off, and processes they start would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def tracking_address() -> Iterator[None]:
    """MLflow puts the address that it connects to into the environment: no test hands its own to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI", ""))
        yield


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people with six 40 x 48 photos each, `identity/photo N.png`: a face-like disc a person, moved,
    lit and made noisy from photo to photo, so that people can be told apart and no two photos are equal.
    Read only: copy it before changing it."""
    root = tmp_path_factory.mktemp("photos")
    rows, columns = numpy.mgrid[:48, :40]
    for person, name in enumerate(PEOPLE):
        (root / name).mkdir()
        for photo in range(6):
            noise = numpy_generator(0, f"tests/photo_folder/{person}/{photo}")
            shift = noise.integers(-2, 3, size=2)
            distance = numpy.hypot(rows - 24 - shift[0], (columns - 20 - shift[1]) * (1 + 0.2 * person))
            face = 40 * person + 60 + 90 * numpy.cos(distance / (2 + person))
            pixels = face * (0.9 + 0.04 * photo) + noise.normal(0, 3, face.shape)
            Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(root / name / f"photo {photo}.png")
    return root


@pytest.fixture(scope="session")
def prepare_params() -> PrepareParams:
    """32-pixel grey crops; one test photo of each person's six, one test person of five."""
    return PrepareParams(
        image_size=32,
        channels=1,
        square="crop",
        test_fraction=0.2,
        identity_test_fraction=0.2,
        max_bad_fraction=0.01,
        shard_megabytes=1,
        seed=0,
    )


@pytest.fixture(scope="session")
def prepared(
    photo_folder: Path, prepare_params: PrepareParams, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`photo_folder` as a prepared dataset. Read only."""
    target = tmp_path_factory.mktemp("data") / "prepared"
    prepare.run(prepare_params, raw=photo_folder, prepared=target)
    return target


@pytest.fixture(scope="session")
def ddm_params() -> DdmParams:
    """The smallest DDM that trains: five fp32 steps of four photos."""
    return DdmParams(
        steps=5,
        batch_size=4,
        learning_rate=2e-3,
        warmup_steps=1,
        discrepancy_weight=0.1,
        reconstruction_weight=10.0,
        precision="fp32",
        threads=1,
        split="image",
        seed=0,
        method="ddm",
        width=4,
    )


@pytest.fixture(scope="session")
def photo_ddm_params() -> PhotoDdmParams:
    """The smallest photo model that carries detail: three fp32 steps of four photos."""
    return PhotoDdmParams(
        steps=3,
        batch_size=4,
        learning_rate=4e-4,
        warmup_steps=1,
        discrepancy_weight=0.02,
        reconstruction_weight=10.0,
        precision="fp32",
        threads=1,
        split="image",
        seed=0,
        method="photo_ddm",
        quaternions=20,
        encoder_width=8,
        encoder_blocks=0,
        renderer_width=8,
        renderer_blocks=0,
        seeker_width=8,
        seeker_blocks=0,
        decoder_width=8,
        decoder_blocks=1,
        linear_learning_rate=5e-5,
        site_share=0.5,
        jpeg_probability=0.5,
        jpeg_quality_min=60,
        jpeg_quality_max=97,
        resize_probability=0.2,
        noise_deviation=0.002,
    )


@pytest.fixture(scope="session")
def keyed_ddm_params() -> KeyedDdmParams:
    """The smallest keyed DDM that trains: five fp32 steps of four photos."""
    return KeyedDdmParams(
        steps=5,
        batch_size=4,
        learning_rate=2e-3,
        warmup_steps=1,
        discrepancy_weight=0.05,
        reconstruction_weight=10.0,
        precision="fp32",
        threads=1,
        split="image",
        seed=0,
        method="keyed_ddm",
        quaternions=8,
        linear_learning_rate=5e-5,
        width=8,
        blocks=1,
        jpeg_probability=0.4,
        jpeg_quality_min=70,
        jpeg_quality_max=97,
        resize_probability=0.5,
        resize_scale_min=0.5,
        resize_min_share=0.5,
        noise_deviation=0.004,
    )


@pytest.fixture(scope="session")
def attack_params() -> AttackParams:
    """One epoch, two inversion steps, two encryptions a photo: enough to run every line of an attacker."""
    return AttackParams(
        epochs=1,
        batch_size=8,
        learning_rate=2e-3,
        inversion_steps=2,
        inversion_learning_rate=2e-3,
        encryptions_per_photo=2,
        threads=1,
        seed=0,
    )


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mlflow.db with tables only: making them takes a second or two each time."""
    from ddm_core.tracking import connect  # here, because mlflow is slow to import

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # noted, because MLflow sets it when it connects
        patch.chdir(folder)
        connect()
    return folder / "mlflow.db"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Fresh fake S3 credentials in the environment and no other AWS setting; returns them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ACCESS_KEY_ID": f"FAKE{secrets.token_hex(8).upper()}",
        "AWS_SECRET_ACCESS_KEY": f"fake/{secrets.token_hex(16)}",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 protocol server on loopback."""
    from moto.server import ThreadedMotoServer  # here, because few tests need it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """An S3 service with one empty bucket, `faces`, that the environment alone names; returns a client."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    urlopen(Request(f"{s3_server}/moto-api/reset", method="POST")).close()
    client = boto3.session.Session().client("s3")
    client.create_bucket(Bucket="faces")
    return client
