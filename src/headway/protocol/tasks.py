"""Runs as tasks: the task that a run's entries and its inbox add up to (extension, SEP-2663).

A task is not a thing of its own. Its id is the run's id, its status the run's state, its status
message the run's progress.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from mcp_types.jsonrpc import INTERNAL_ERROR

from headway.events import (
    Completed,
    Entry,
    Event,
    Failed,
    GivenBack,
    HandedOver,
    InputAnswered,
    InputReceived,
    InputRequested,
    Interrupted,
    Restarted,
)
from headway.run_state import RunView, State, view_of

EXTENSION: Final = "io.modelcontextprotocol/tasks"

METHODS: Final = ("tasks/get", "tasks/update", "tasks/cancel")

POLL_LEAST: Final = 0.5
POLL_MOST: Final = 10.0
POLL_SHARE: Final = 20
"""A client is asked to come back after a twentieth of the task's age, within these bounds in
seconds: often for a young task, seldom for one that will take hours."""

_STATUS: Final[Mapping[State, str]] = {
    State.NEW: "working",
    State.QUEUED: "working",
    State.WORKING: "working",
    State.INPUT_REQUIRED: "input_required",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.INTERRUPTED: "failed",
}


def declares_tasks(capabilities: object) -> bool:
    """Return whether a client's capabilities, as they came, name the tasks extension."""
    match capabilities:
        case {"extensions": {"io.modelcontextprotocol/tasks": dict()}}:
            return True
        case _:
            return False


def task_handle(
    run_id: str, entries: list[Entry], handed: HandedOver, now: float
) -> dict[str, Any]:
    """Return the `CreateTaskResult`: the task without its outcome."""
    task = _task_fields(run_id, view_of(entries), handed, updated=now, now=now)
    if task["status"] != "working":
        # `tasks/get` returns the rest, in the shape that has room for it.
        task["status"] = "working"
    return {"resultType": "task", **task}


def task_of(
    run_id: str, entries: list[Entry], inbox: list[Entry], *, now: float, kept: float
) -> dict[str, Any]:
    """Return the `DetailedTask`; an ended run can be read for `kept` seconds."""
    handed = handed_over_in(inbox, entries, kept)
    view = view_of(entries)
    updated = entries[-1].time if entries else handed.created
    if view.end is not None:
        handed = HandedOver(handed.created, updated - handed.created + kept)
    task = _task_fields(run_id, view, handed, updated=updated, now=now)
    questions = open_questions(entries, inbox)
    if task["status"] == "input_required" and not questions:
        task["status"] = "working"  # all questions are answered; the tool will notice in a moment
    if task["status"] == "input_required":
        task["inputRequests"] = {
            question.key: {
                "method": question.method,
                **({} if question.params is None else {"params": question.params}),
            }
            for question in questions
        }
    return task | _outcome_fields(view.end)


def handed_over_in(inbox: Iterable[Entry], entries: list[Entry], kept: float) -> HandedOver:
    """Return when a run with a handle began; the beginning of a long inbox may be gone."""
    for entry in inbox:
        if isinstance(entry.event, HandedOver):
            return entry.event
    return HandedOver(entries[0].time, entries[-1].time - entries[0].time + kept)


def open_questions(entries: Iterable[Entry], inbox: Iterable[Entry]) -> list[InputRequested]:
    """Return the questions of a run that nobody has answered yet."""
    answered = {entry.event.key for entry in inbox if isinstance(entry.event, InputAnswered)}
    waiting: dict[str, InputRequested] = {}
    for entry in entries:
        match entry.event:
            case InputRequested() as question if question.key not in answered:
                waiting[question.key] = question
            case InputReceived(key):
                waiting.pop(key, None)
            case Restarted() | GivenBack():
                waiting.clear()  # the attempt that asked is gone
            case _:
                pass
    return list(waiting.values())


def status_message(view: RunView) -> str | None:
    """Return the run's progress as a sentence: `37 of 120 · Hashing setup.py`."""
    match view.end:
        case Failed():
            return view.end.message
        case Interrupted():
            return _interrupted_text(view.end)
        case None:
            pass
        case _:
            return getattr(view.end, "reason", None)
    amount = None
    if view.progress is not None and view.total is not None:
        amount = f"{_number_text(view.progress)} of {_number_text(view.total)}"
    return " · ".join(filter(None, (amount, view.message))) or None


def _task_fields(
    run_id: str, view: RunView, handed: HandedOver, *, updated: float, now: float
) -> dict[str, Any]:
    message = status_message(view)
    pause = min(max((now - handed.created) / POLL_SHARE, POLL_LEAST), POLL_MOST)
    return {
        "taskId": run_id,
        "status": _STATUS[view.state],
        **({} if message is None else {"statusMessage": message}),
        "createdAt": iso_time(handed.created),
        "lastUpdatedAt": iso_time(max(updated, handed.created)),
        "ttlMs": max(1, int(handed.ttl * 1000)),
        "pollIntervalMs": int(pause * 1000),
    }


def _outcome_fields(end: Event | None) -> dict[str, Any]:
    match end:
        case Completed():
            return {"result": end.result}
        case Failed():
            error: dict[str, Any] = {"code": end.code, "message": end.message}
            return {"error": error if end.data is None else {**error, "data": end.data}}
        case Interrupted():
            return {"error": {"code": INTERNAL_ERROR, "message": _interrupted_text(end)}}
        case _:
            return {}


def _interrupted_text(end: Interrupted) -> str:
    return f"The call was interrupted: {end.reason}"


def iso_time(seconds: float) -> str:
    """Return a time as ISO 8601 has it, in UTC and to the millisecond."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _number_text(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
