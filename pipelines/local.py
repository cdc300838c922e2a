"""Runs the graph on this machine: progress for people, a log file, finished tasks kept for next time."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddm_core.arguments import to_arguments
from ddm_core.data.dvc_source import absolute_repository, is_dvc, parse_dvc
from ddm_core.errors import DdmError
from ddm_core.files import remove_leftovers_below, sha256_bytes, sha256_file, write_bytes, write_json
from ddm_core.params import Params
from ddm_core.results import ATTACKERS, CONTROLS
from pipelines.local_runner import FINISHED, Event, Specification

Runner = Literal["subprocess", "docker"]

LOG, LOCK = "run.log", "run.lock"
ONCE = 7  # fetch, prepare_share, prepare, recognise, report, register, notify
EACH = 3  # train, utility, join of one obfuscator
LINES_OF_LOG = 4000


@dataclass(frozen=True)
class LocalRun:
    """Where the results of a run lie, how many tasks it had and how many of them had run before."""

    report: Path
    metrics: Path
    registration: Path
    tasks: int
    cached: int


def run_locally(
    params: Params, folder: Path, *, runner: Runner, image: str | None = None, exit_handler: bool = True
) -> LocalRun:
    """Run the whole graph with kfp.local; everything it makes lies in `folder`.

    A task whose inputs and code are those of an earlier run in `folder` is not run again, also after a kill.
    MLflow's runs and models go to MLFLOW_TRACKING_URI, without it to `folder`/mlflow.db.

    Raises:
        DdmError: a task failed, another run is at work in `folder`, or it holds what no run made.
    """
    if image and runner != "docker":
        raise DdmError("--image is what --runner docker runs tasks in; pass that too, or leave --image out")
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(folder)
    with _alone(folder):
        remove_leftovers_below(folder)
        specification = folder / "run.json"
        wanted = Specification(
            arguments=to_arguments(_absolute(params)),
            runner=runner,
            image=image,
            parallelism=_parallelism(params),
            cache=str((folder / "cache" / _code_digest()).resolve()),
            exit_handler=exit_handler,
        )
        write_json(specification, dataclasses.asdict(wanted))
        events = list(_show(_execute(folder, specification), _count_tasks(params) - (not exit_handler)))
    return _collect(folder, [event for event in events if event.what == FINISHED])


def _execute(folder: Path, specification: Path) -> Iterator[Event]:
    """Start the runner's process and yield its events.

    Raises:
        DdmError: it failed; the message repeats what the task said.
    """
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "pipelines.local_runner", str(specification.resolve()), str(writing)]
    temporary = (folder / "tmp").resolve()  # KFP leaves a folder a task behind
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(temporary), stdout=log, stderr=log, pass_fds=[writing]
        )
    os.close(writing)
    try:
        failed = None
        with os.fdopen(reading) as stream:
            for line in stream:
                event = Event(**json.loads(line))
                failed = failed or (None if event.succeeded else event.task)
                yield event
        if process.wait() != 0:
            what = f"task {failed} failed" if failed else "the run failed"
            raise DdmError(f"{what}: {_reason(folder / LOG)}; the whole log: {folder / LOG}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def _show(events: Iterator[Event], total: int) -> Iterator[Event]:
    from tqdm import tqdm

    running: list[str] = []
    with tqdm(total=total, unit="task", desc="pipeline") as bar:
        for event in events:
            if event.what == FINISHED:
                with suppress(ValueError):
                    running.remove(event.task)
                bar.update()
            else:
                running.append(event.task)
            bar.set_postfix_str(", ".join(running), refresh=sys.stderr.isatty())
            yield event


def _collect(folder: Path, finished: list[Event]) -> LocalRun:
    outputs = {event.task: event.outputs for event in finished}
    evidence = Path(outputs["report"]["evidence"])
    found = {
        "report.html": evidence / "report.html",
        "metrics.json": evidence / "metrics.json",
        "registration.json": Path(outputs["register"]["registration"]),
    }
    for name, source in found.items():
        write_bytes(folder / name, source.read_bytes())
    report, metrics, registration = (folder / name for name in found)
    return LocalRun(report, metrics, registration, len(finished), sum(event.cached for event in finished))


def _count_tasks(params: Params) -> int:
    return ONCE + len(params.train) * (EACH + len(ATTACKERS + CONTROLS))


def _parallelism(params: Params) -> int:
    """Return how many obfuscators fit side by side: threads that wait for a core cost ten times the work."""
    threads = [getattr(settings, "threads", 1) for settings in params.train.values()]
    busiest = max([*threads, params.attack.threads, params.utility.threads])
    return max(1, (os.cpu_count() or 1) // busiest)


def _absolute(params: Params) -> Params:
    """Return `params` with the paths of the photos as seen from any folder."""

    def seen(path: str | None) -> str | None:
        if path is not None and is_dvc(path):
            address = parse_dvc(path)
            return str(dataclasses.replace(address, repository=absolute_repository(address.repository)))
        return path if path is None or "://" in path else str(Path(path).expanduser().absolute())

    fetch = dataclasses.replace(
        params.fetch,
        uri=seen(params.fetch.uri),
        lists=tuple(str(Path(path).expanduser().absolute()) for path in params.fetch.lists),
        corrections=seen(params.fetch.corrections),
        exclude_people=seen(params.fetch.exclude_people),
    )
    return dataclasses.replace(params, fetch=fetch)


def _code_digest() -> str:
    """Return the digest of the tasks' code: what an earlier version made is not taken for this one's."""
    import ddm_core

    package = Path(ddm_core.__file__).parent
    files = sorted(path for path in package.rglob("*") if path.suffix in (".py", ".jinja"))
    lines = [f"{path.relative_to(package)} {sha256_file(path)}" for path in files]
    return sha256_bytes("\n".join(lines).encode())[:16]


def _environment(temporary: Path) -> dict[str, str]:
    """Return the tasks' environment: the commit of the current folder, and a place for temporary files."""
    from ddm_core.reporting.provenance import UNKNOWN, read_commit

    commit, _ = read_commit(Path.cwd())
    return {**os.environ, "TMPDIR": str(temporary)} | ({} if commit == UNKNOWN else {"DDM_COMMIT": commit})


def _refuse_foreign(folder: Path) -> None:
    """A run overwrites its results and clears up what a killed one left: never among other people's files."""
    if not (folder / LOCK).exists() and any(folder.iterdir()):
        raise DdmError(f"{folder}: holds files that no local run made; pass -o with a new or empty folder")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DdmError(f"{folder}: another run is at work here; wait for it or pass -o FOLDER") from None
        yield


def _reason(log: Path) -> str:
    """Return the last error that a task named, without the log's colours and indentation."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_OF_LOG:]
    for pattern in (r"ddm_core\.errors\.DdmError: (.+)", r"(\w*(?:Error|Exception): .+)"):
        found = [match[1] for line in lines if (match := re.search(pattern, line))]
        if found:
            return found[-1].strip()
    return "it stopped without a word"
