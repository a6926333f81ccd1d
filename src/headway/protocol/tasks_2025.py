"""The experimental tasks of 2025-11-25: the same runs, in an earlier shape.

A client asks for a task itself, with `task` in its call, and gets the result with `tasks/result`.
"""

from typing import Any, Final, Literal

from headway.events import Completed, Entry, HandedOver, decode_json
from headway.protocol import tasks
from headway.protocol.render import RELATED

VERSION: Final = "2025-11-25"

METHODS: Final = ("tasks/get", "tasks/result", "tasks/list", "tasks/cancel")

CAPABILITY: Final[dict[str, Any]] = {"cancel": {}, "requests": {"tools": {"call": {}}}}
"""The capability for every client; one that is authenticated may list its tasks besides."""

Support = Literal["forbidden", "optional", "required"]

_NAMES: Final = {
    "taskId": "taskId",
    "status": "status",
    "statusMessage": "statusMessage",
    "createdAt": "createdAt",
    "lastUpdatedAt": "lastUpdatedAt",
    "ttlMs": "ttl",
    "pollIntervalMs": "pollInterval",
}
"""The fields of a task, and their names in 2025-11-25."""


def created_task(
    run_id: str, entries: list[Entry], handed: HandedOver, now: float
) -> dict[str, Any]:
    """Return the `CreateTaskResult`."""
    return {"task": _with_old_names(tasks.task_handle(run_id, entries, handed, now))}


def task_of(
    run_id: str, entries: list[Entry], inbox: list[Entry], *, now: float, kept: float
) -> dict[str, Any]:
    """Return the `Task`; unlike at 2026-07-28, one whose tool failed has failed."""
    task = _with_old_names(tasks.task_of(run_id, entries, inbox, now=now, kept=kept))
    end = entries[-1].event
    if isinstance(end, Completed) and decode_json(end.result).get("isError") is True:
        task["status"] = "failed"
    return task


def related_meta(run_id: str) -> dict[str, Any]:
    """Return the `_meta` of all messages about a task outside of `tasks/*`."""
    return {RELATED: {"taskId": run_id}}


def awaited_task(method: str | None, params: dict[str, Any] | None) -> str:
    """Return the task that a request waits for; empty for all others."""
    task = (params or {}).get("taskId") if method == "tasks/result" else None
    return task if isinstance(task, str) else ""


def _with_old_names(task: dict[str, Any]) -> dict[str, Any]:
    return {old: task[name] for name, old in _NAMES.items() if name in task}
