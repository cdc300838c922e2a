"""kfp.local's DockerRunner, for tasks whose outcome is to be trusted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PASSED_ON = ("MLFLOW_", "AWS_", "DDM_")
"""Settings of the caller's environment that containers get, by their beginning."""


def docker_runner() -> Any:  # noqa: ANN401 - kfp.local.DockerRunner
    """Return a runner whose containers work as the current user in the folder that kfp mounts.

    The network is the machine's own, so that MLflow and S3 servers on it are reached by the same address.
    The limits are what a task needs; hosts that forbid higher ones, as some inside containers do, take them.
    """
    from docker.types import Ulimit
    from kfp import local
    from kfp.local import docker_task_handler

    # kfp has a container removed as soon as it ends, and takes one that it no longer finds for a success.
    docker_task_handler.run_docker_container = run_container
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return local.DockerRunner(
        user=f"{os.getuid()}:{os.getgid()}",
        working_dir=str(Path.cwd()),
        entrypoint=[
            "env"
        ],  # kfp gives a whole command, which the image's own entry point would take for a verb
        network_mode="host",
        ulimits=[Ulimit(name=name, soft=1024, hard=4096) for name in ("nofile", "nproc")],
        environment={"HOME": "/tmp", **passed},
    )


def run_container(client: Any, image: str, command: list[str], volumes: Any, **options: Any) -> int:  # noqa: ANN401 - docker's own types
    """Run one container to its end, print what it says, remove it; return its exit status."""
    from docker.errors import ImageNotFound

    try:
        client.images.get(image)
    except ImageNotFound:
        client.images.pull(image)
    container = client.containers.run(image=image, command=command, volumes=volumes, detach=True, **options)
    try:
        for line in container.logs(stream=True, follow=True):
            print(line.decode(errors="replace"), end="")
        status = int(container.wait()["StatusCode"])
        if status:  # the end of a stream can get lost, and the end is what tells why
            print(container.logs().decode(errors="replace"))
        return status
    finally:
        container.remove(force=True)
