"""The process that runs the graph with kfp.local; `pipelines.local` starts it and reads its events.

A process of its own, because kfp.local redirects the standard output of whoever calls it, and because its
tasks take over the current folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ddm_core.data.sources import combined_digest
from ddm_core.files import read_json, sha256_file
from ddm_core.strict import parse

STARTED, FINISHED = "started", "finished"


@dataclass(frozen=True)
class Specification:
    """What to run: the pipeline's parameters, which runner, how many obfuscators side by side, the cache.

    `exit_handler` as in `build_pipeline`.
    """

    arguments: dict[str, Any]
    runner: Literal["subprocess", "docker"]
    image: str | None
    parallelism: int
    cache: str
    exit_handler: bool


@dataclass(frozen=True)
class Event:
    """A task started or finished. `outputs` names where its artifacts lie; `cached`: it had run before."""

    what: str
    task: str
    succeeded: bool
    cached: bool
    seconds: float
    outputs: dict[str, str]


def main(specification: Path, events: int) -> int:
    """Run the graph in the current folder; write one JSON line an event to the file descriptor `events`."""
    from kfp import local

    from ddm_core.arguments import from_arguments
    from ddm_core.tracking import EXPERIMENT, connect, experiment_id
    from pipelines.ddm_pipeline import build_pipeline
    from pipelines.local_docker import docker_runner
    from pipelines.resources import Parallelism

    # Tasks side by side would all find MLflow's store missing, and make it at once.
    experiment_id(connect(), EXPERIMENT)
    wanted = read_specification(specification)
    runner = local.SubprocessRunner(use_venv=False) if wanted.runner == "subprocess" else docker_runner()
    local.init(runner, pipeline_root=str(Path.cwd()), enable_caching=True, cache_root=wanted.cache)
    _observe(_writer(events))
    pipeline = build_pipeline(
        from_arguments(wanted.arguments),
        image=wanted.image,
        parallelism=Parallelism(obfuscators=wanted.parallelism, attackers=1),
        exit_handler=wanted.exit_handler,
    )
    pipeline()
    return 0


def read_specification(path: Path) -> Specification:
    """Read what `pipelines.local` wrote."""
    return parse(read_json(path), Specification, str(path), {Any: lambda value, where: value})


def _writer(descriptor: int) -> Callable[[Event], None]:
    stream, lock = os.fdopen(descriptor, "w", buffering=1), threading.Lock()

    def write(event: Event) -> None:
        with lock:
            stream.write(json.dumps(asdict(event)) + "\n")

    return write


def _observe(tell: Callable[[Event], None]) -> None:
    """Make kfp.local tell of every task; it has no other way of being watched."""
    from kfp.local.orchestrator import task_executor

    execute = task_executor.execute_single_task

    def observed(**arguments: Any) -> tuple[dict[str, Any], Any]:  # noqa: ANN401 - kfp's own
        task, started = arguments["task_name"], time.perf_counter()
        tell(Event(STARTED, task, succeeded=True, cached=False, seconds=0.0, outputs={}))
        outputs, status = execute(**arguments)
        made = outputs
        if not arguments["task_spec"].caching_options.enable_cache and "raw" in outputs:
            outputs = _same_content(outputs, "raw")
        artifacts = {name: str(item.uri) for name, item in outputs.items() if hasattr(item, "uri")}
        new = f"{arguments['pipeline_root']}/{arguments['pipeline_resource_name']}/"
        places = [str(item.uri) for item in made.values() if hasattr(item, "uri")]
        cached = bool(places) and not any(place.startswith(new) for place in places)
        seconds = round(time.perf_counter() - started, 1)
        tell(Event(FINISHED, task, status.name == "SUCCESS", cached, seconds, artifacts))
        return outputs, status

    task_executor.execute_single_task = observed


def _same_content(outputs: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the outputs of an earlier run whose folder `name` is the same, byte for byte; else `outputs`.

    The cache knows an artifact by its place. So a task that has to look again, such as a fetch from an
    address, runs anew, and what follows it runs anew only where it found something else.
    """
    from kfp.local.cache import get_local_cache

    folder, cache = Path(outputs[name].path), get_local_cache()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digest = combined_digest((path.relative_to(folder).as_posix(), sha256_file(path)) for path in files)
    if earlier := cache.get(f"{name}-{digest}"):
        shutil.rmtree(folder)
        return dict(earlier)
    cache.put(f"{name}-{digest}", outputs)
    return outputs


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
