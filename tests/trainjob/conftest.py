"""A cluster on loopback, and the environment of a task that runs in it."""

import os
import shutil

import pytest
from kubernetes_server import KubernetesServer

from ddm_core.trainjob.settings import Toleration, TrainJobSettings, Variable

IMAGE = "registry.example/ddm@sha256:" + "0" * 64
FROM_CONFIG_MAP = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
FROM_SECRET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def settings():
    """Two nodes with one process each."""
    return TrainJobSettings(
        image=IMAGE,
        nodes=2,
        processes=1,
        runtime="torch-distributed",
        runtime_kind="ClusterTrainingRuntime",
        timeout_seconds=600,
        requests={"cpu": "1", "memory": "2Gi"},
        limits={"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"},
        node_selector={"pool": "gpu"},
        tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", toleration_seconds=60),),
        environment=(
            *(Variable(name, "ConfigMap", "ddm-settings", optional=False) for name in FROM_CONFIG_MAP),
            *(Variable(name, "Secret", "ddm-credentials", optional=True) for name in FROM_SECRET),
        ),
    )


@pytest.fixture
def tracking(empty_store, tmp_path):
    """The address of an MLflow store that is ready."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def cluster(s3, aws, tracking, tmp_path, monkeypatch):
    """The cluster, with ConfigMap and Secret; this process is a task of it."""
    for name in [name for name in os.environ if name.startswith("KUBERNETES_")]:
        monkeypatch.delenv(name)
    with KubernetesServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.config_maps["ddm-settings"] = {
            "MLFLOW_TRACKING_URI": tracking,
            "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        server.secrets["ddm-credentials"] = {name: aws[name] for name in FROM_SECRET}
        for name, value in {
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "DDM_NAMESPACE": "runs",
            "DDM_POD_NAME": "ddm-abc-system-container-impl-1",
            "DDM_POD_UID": "0b1c2d3e",
            "DDM_WORKFLOW": "ddm-abc",
            "DDM_CHECKPOINTS": "s3://faces/checkpoints",
        }.items():
            monkeypatch.setenv(name, value)
        yield server
