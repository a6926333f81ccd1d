"""The tasks extension (SEP-2663): what a server answers about runs that were handed over.

`tasks/get` reads the run, `tasks/update` and `tasks/cancel` write to its inbox: nothing here
knows which process executes it. As with resources, a caller finds what is in its own place of
the journal, and "unknown", "expired" and "not yours" are one answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import MISSING_REQUIRED_CLIENT_CAPABILITY, RequestParams
from mcp_types.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_types.methods import validate_client_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import Field, ValidationError

from headway.engine import Run, current_run
from headway.engine.inbox import ask, read_inbox
from headway.errors import StreamNotFound
from headway.events import CancelRequested, Entry, InputAnswered, encode_json
from headway.journal import Journal
from headway.protocol.tasks import EXTENSION, outstanding, task_of

Handler = Callable[[Any, Any], Awaitable[dict[str, Any]]]


class TaskParams(RequestParams):
    """What `tasks/get` and `tasks/cancel` say."""

    task_id: str = Field(alias="taskId")


class TaskUpdateParams(TaskParams):
    """What `tasks/update` says."""

    input_responses: dict[str, Any] = Field(alias="inputResponses", default_factory=dict)


def equip(low: Server[Any]) -> None:
    """Have a server answer for tasks, unless it brings an answer of its own."""
    if EXTENSION in low.extensions:
        return
    low.extensions[EXTENSION] = {}
    methods: list[tuple[str, type[RequestParams], Handler]] = [
        ("tasks/get", TaskParams, _get),
        ("tasks/update", TaskUpdateParams, _update),
        ("tasks/cancel", TaskParams, _cancel),
    ]
    for method, params, handler in methods:
        low.add_request_handler(method, params, _gated(method, handler))


def missing_tasks() -> MCPError:
    """The refusal of what needs the extension, for a client that did not declare it."""
    return MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"This needs the {EXTENSION} extension, which the request does not declare",
        {"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
    )


def _gated(method: str, handler: Handler) -> Handler:
    async def gated(context: Any, params: Any) -> dict[str, Any]:
        if context.session.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", method)
        capabilities = context.session.client_capabilities
        if EXTENSION not in ((capabilities and capabilities.extensions) or {}):
            raise missing_tasks()
        return await handler(context, params)

    return gated


async def _get(_context: Any, params: TaskParams) -> dict[str, Any]:
    run, stream = await _place_of(params.task_id)
    entries, inbox = await _read(run.journal, stream)
    kept = run.journal.retention.ttl
    task = task_of(params.task_id, entries, inbox, now=run.clock.time(), kept=kept)
    return {"resultType": "complete", **task}


async def _update(_context: Any, params: TaskUpdateParams) -> dict[str, Any]:
    run, stream = await _place_of(params.task_id)
    entries, inbox = await _read(run.journal, stream)
    waiting = {question.key: question.method for question in outstanding(entries, inbox)}
    answers = {key: value for key, value in params.input_responses.items() if key in waiting}
    for key, value in answers.items():
        _check_answer(key, waiting[key], value)
    for key, value in answers.items():
        await ask(run.journal, stream, InputAnswered(key, encode_json(value)))
    return {"resultType": "complete"}


async def _cancel(_context: Any, params: TaskParams) -> dict[str, Any]:
    run, stream = await _place_of(params.task_id)
    try:
        await ask(run.journal, stream, CancelRequested("client", "the task was cancelled"))
    except StreamNotFound:
        raise _unknown() from None
    return {"resultType": "complete"}


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


async def _read(journal: Journal, stream: str) -> tuple[list[Entry], list[Entry]]:
    try:
        inbox = await read_inbox(journal, stream)
        return await journal.kept(stream), inbox
    except StreamNotFound:
        raise _unknown() from None


async def _place_of(task_id: str) -> tuple[Run, str]:
    """The run that is asking, and the stream of the task, if it is the same caller's."""
    asking = current_run.get()
    if asking is None:
        raise _unknown()
    try:
        return asking, await asking.engine.keys.place_of(asking, task_id)
    except StreamNotFound:
        raise _unknown() from None


def _unknown() -> MCPError:
    return MCPError(INVALID_PARAMS, "No such task: it has expired, or its id is not yours")
