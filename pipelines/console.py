"""What is said of a run: a table of its tasks for people, plain data for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.watch import RunStatus


def clock(seconds: float | None) -> str:
    """Return a duration as 4 s, 3:20 min or 1:02:30 h; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def describe(status: RunStatus) -> str:
    """Return the run's state, a table of its tasks and their errors."""
    took = None
    if status.created is not None:
        took = ((status.finished or datetime.now(UTC)) - status.created).total_seconds()
    lines = [f"{status.name}: {status.state} {clock(took)}".rstrip(), status.url]
    if status.tasks:
        width = max(len(task.name) for task in status.tasks)
        lines.append("")
        lines += [
            f"{task.name:<{width}}  {task.state:<9}  {clock(task.seconds)}".rstrip() for task in status.tasks
        ]
    errors = [f"{task.name}: {task.error}" for task in status.tasks if task.error]
    errors += [status.error] if status.error else []
    return "\n".join([*lines, *([""] if errors else []), *errors])


def to_plain(status: RunStatus) -> dict[str, Any]:
    """Return the status for JSON: times in ISO 8601, durations in seconds."""

    def iso(moment: datetime | None) -> str | None:
        return moment.isoformat() if moment else None

    return {
        "id": status.id,
        "name": status.name,
        "state": status.state,
        "created": iso(status.created),
        "finished": iso(status.finished),
        "error": status.error,
        "url": status.url,
        "tasks": [
            {
                "name": task.name,
                "state": task.state,
                "started": iso(task.started),
                "seconds": task.seconds,
                "error": task.error,
            }
            for task in status.tasks
        ],
    }
