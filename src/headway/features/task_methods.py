"""Tasks, of the extension (SEP-2663) and of 2025-11-25: the state of runs that were handed over.

`tasks/get` reads the run, `tasks/update` and `tasks/cancel` write to its inbox, `tasks/result`
follows it: nothing here knows which process executes it. As with resources, a caller finds what is
its own, and "unknown", "expired" and "not yours" are one answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import MISSING_REQUIRED_CLIENT_CAPABILITY, PaginatedRequestParams, RequestParams
from mcp_types.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_types.methods import validate_client_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import Field, ValidationError

from headway.engine import MirrorRun, Run, ask_run, executing_run, read_inbox, result_gone_error
from headway.errors import HeadwayError, ResultDropped, StreamNotFound
from headway.events import CancelRequested, Entry, InputAnswered, encode_json
from headway.journal import Journal
from headway.protocol import tasks_2025
from headway.protocol.methods import TOOL_CALL
from headway.protocol.tasks import EXTENSION, open_questions, task_of
from headway.stream_names import ANONYMOUS, run_id_of
from headway.wrapped_handlers import add_handler, has_own

Handler = Callable[[Any, Any], Awaitable[dict[str, Any]]]


class TaskParams(RequestParams):
    """The params of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId")


class TaskUpdateParams(TaskParams):
    """The params of `tasks/update`."""

    input_responses: dict[str, Any] = Field(alias="inputResponses", default_factory=dict)


def install_task_methods(low: Server[Any]) -> None:
    """Let a server that has tools answer for tasks, unless its author does."""
    if low.get_request_handler(TOOL_CALL) is None or has_own_tasks(low):
        return
    for method, (params, modern, early) in _METHODS.items():
        add_handler(low, method, params, _for_revisions(method, modern, early))


def has_own_tasks(low: Server[Any]) -> bool:
    """Return whether the author has tasks of his own, or says so."""
    return EXTENSION in low.extensions or has_own(low, "tasks/get")


def missing_tasks() -> MCPError:
    """Return the refusal of what needs the extension, for a client that did not declare it."""
    return MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"This needs the {EXTENSION} extension, which the request does not declare",
        {"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
    )


def _for_revisions(method: str, modern: Handler | None, early: Handler | None) -> Handler:
    """Return the handler of a method, for the revisions that have it."""

    async def answer_revision(context: Any, params: Any) -> dict[str, Any]:
        version = context.session.protocol_version
        if version in MODERN_PROTOCOL_VERSIONS and modern is not None:
            capabilities = context.session.client_capabilities
            if EXTENSION not in ((capabilities and capabilities.extensions) or {}):
                raise missing_tasks()
            return await modern(context, params)
        if version == tasks_2025.VERSION and early is not None:
            return await early(context, params)
        raise MCPError(METHOD_NOT_FOUND, "Method not found", method)

    return answer_revision


async def _get_task(_context: Any, params: TaskParams) -> dict[str, Any]:
    run, stream = await _find_task(params.task_id)
    entries, inbox = await _read_task(run.journal, stream)
    kept = run.journal.retention.ttl
    task = task_of(params.task_id, entries, inbox, now=run.services.clock.time(), kept=kept)
    return {"resultType": "complete", **task}


async def _update_task(_context: Any, params: TaskUpdateParams) -> dict[str, Any]:
    run, stream = await _find_task(params.task_id)
    entries, inbox = await _read_task(run.journal, stream)
    waiting = {question.key: question.method for question in open_questions(entries, inbox)}
    answers = {key: value for key, value in params.input_responses.items() if key in waiting}
    for key, value in answers.items():
        _check_answer(key, waiting[key], value)
    for key, value in answers.items():
        await ask_run(run.journal, stream, InputAnswered(key, encode_json(value)))
    return {"resultType": "complete"}


async def _cancel_task(_context: Any, params: TaskParams) -> dict[str, Any]:
    run, stream = await _find_task(params.task_id)
    try:
        await ask_run(run.journal, stream, CancelRequested("client", "the task was cancelled"))
    except StreamNotFound:
        raise _unknown_error() from None
    return {"resultType": "complete"}


# The experimental tasks of 2025-11-25


async def _get_task_2025(_context: Any, params: TaskParams) -> dict[str, Any]:
    run, stream = await _find_task(params.task_id)
    return await _task_2025(run, stream)


async def _task_2025(run: Run, stream: str) -> dict[str, Any]:
    entries, inbox = await _read_task(run.journal, stream)
    run_id, kept = run_id_of(stream), run.journal.retention.ttl
    return tasks_2025.task_of(run_id, entries, inbox, now=run.services.clock.time(), kept=kept)


async def _task_result_2025(_context: Any, params: TaskParams) -> dict[str, Any]:
    """Wait for the call's result and return it; its questions are asked on the way."""
    run, stream = await _find_task(params.task_id)
    await _read_task(run.journal, stream)
    related = tasks_2025.related_meta(params.task_id)
    result = await MirrorRun(run, stream, ask=run.ask_client).result()
    return {**result, "_meta": {**result.get("_meta", {}), **related}}


async def _list_tasks_2025(_context: Any, params: PaginatedRequestParams) -> dict[str, Any]:
    """Return the tasks of a principal, oldest first; a cursor is the last one it has seen.

    Anonymous callers cannot be told apart, so no tasks are listed for them.
    """
    run = executing_run()
    if run is None or run.request.principal == ANONYMOUS:
        raise MCPError(METHOD_NOT_FOUND, "Tasks are listed only for callers that are known")
    try:
        page, last = await run.services.names.tasks_of(run, params.cursor)
    except LookupError:
        raise MCPError(INVALID_PARAMS, "No such page; list from the start") from None
    found: list[dict[str, Any]] = []
    for stream in page.values():
        with suppress(MCPError, HeadwayError):  # the task has just expired, or is damaged
            found.append(await _task_2025(run, stream))
    return {"tasks": found, **({} if last is None else {"nextCursor": last})}


async def _cancel_task_2025(_context: Any, params: TaskParams) -> dict[str, Any]:
    run, stream = await _find_task(params.task_id)
    task = await _task_2025(run, stream)
    if task["status"] in _ENDED:
        raise MCPError(INVALID_PARAMS, f"The task has ended already: it is {task['status']}")
    await ask_run(run.journal, stream, CancelRequested("client", "the task was cancelled"))
    with suppress(MCPError):
        await MirrorRun(run, stream).result()
    return await _task_2025(run, stream)


_ENDED = ("completed", "failed", "cancelled")

_METHODS: dict[str, tuple[type[RequestParams], Handler | None, Handler | None]] = {
    "tasks/get": (TaskParams, _get_task, _get_task_2025),
    "tasks/update": (TaskUpdateParams, _update_task, None),
    "tasks/cancel": (TaskParams, _cancel_task, _cancel_task_2025),
    "tasks/result": (TaskParams, None, _task_result_2025),
    "tasks/list": (PaginatedRequestParams, None, _list_tasks_2025),
}
"""Each method, the model of its params, and its handlers at 2026-07-28 and at 2025-11-25."""


# What both have in common


def _check_answer(key: str, method: str, value: object) -> None:
    """Refuse an answer that the tool could not read; nothing is changed by it."""
    try:
        if not isinstance(value, Mapping):
            raise TypeError("it is no object")
        # As answers to requests these results are only in the tables of the handshake's era.
        answer = cast("Mapping[str, Any]", value)
        validate_client_result(method, LATEST_HANDSHAKE_VERSION, answer)
    except KeyError:
        return
    except (TypeError, ValidationError):
        raise MCPError(
            INVALID_PARAMS,
            f"The answer to {key!r} is no result of {method}; no answer of this update was taken",
        ) from None


async def _read_task(journal: Journal, stream: str) -> tuple[list[Entry], list[Entry]]:
    try:
        inbox = await read_inbox(journal, stream)
        return await journal.read_all_kept(stream), inbox
    except StreamNotFound:
        raise _unknown_error() from None


async def _find_task(task_id: str) -> tuple[Run, str]:
    """Return the run that asks, and the stream of the task, if it is the same caller's."""
    asking = executing_run()
    if asking is None:
        raise _unknown_error()
    try:
        return asking, await asking.services.names.stream_of(asking, task_id)
    except ResultDropped:
        raise result_gone_error() from None
    except StreamNotFound:
        raise _unknown_error() from None


def _unknown_error() -> MCPError:
    return MCPError(INVALID_PARAMS, "No such task: it has expired, or its id is not yours")
