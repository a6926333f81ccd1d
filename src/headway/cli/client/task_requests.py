"""The requests about tasks: of 2025-11-25, which a client asks for, and of 2026-07-28."""

import asyncio
import re
from contextlib import suppress
from typing import Any, Final, Literal

import anyio
import mcp_types
from mcp.client.context import ClientRequestContext
from mcp.client.session import ClientSession
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, InputRequest, RequestParams, RequestParamsMeta, Result
from pydantic import ConfigDict, TypeAdapter

from headway.cli.client.peer import Connection
from headway.cli.exit_codes import ToolFailed

POLL_INTERVAL: Final = 1.0
"""Seconds until a task is asked for again where its server does not say."""

LEAST_INTERVAL: Final = 0.1

LONGEST_INTERVAL: Final = 60.0
"""Seconds until a task is asked for again, whatever its server says."""

_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?) of (\d+(?:\.\d+)?)(?: · (.*))?", re.DOTALL)
"""A status as Headway writes it: `37 of 120 · Hashing setup.py`."""

_INPUT: Final = TypeAdapter[InputRequest](InputRequest)


class TaskHandle(Result):
    """A call that is answered with a task of 2026-07-28."""

    result_type: Literal["task"] = "task"
    task_id: str


class _TaskState(Result):
    """The answer to `tasks/get`, at either revision."""

    model_config = ConfigDict(extra="allow")

    task_id: str
    status: str
    status_message: str | None = None
    poll_interval_ms: int | None = None
    poll_interval: int | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    input_requests: dict[str, dict[str, Any]] | None = None


class _Params(RequestParams):
    task_id: str


class _Answers(_Params):
    input_responses: dict[str, Any]


class _Request(mcp_types.Request[Any, str]):
    """A request of the tasks extension; its `Mcp-Name` is the task (SEP-2663)."""

    name_param = "taskId"

    method: str
    params: Any


# 2025-11-25


async def create_task(
    connection: Connection, tool: str, arguments: dict[str, Any], meta: RequestParamsMeta
) -> mcp_types.CreateTaskResult:
    """Call a tool as a task, and return the task."""
    params = mcp_types.CallToolRequestParams(
        name=tool, arguments=arguments, task=mcp_types.TaskMetadata(), _meta=meta
    )
    request = mcp_types.CallToolRequest(params=params)
    return await connection.client.session.send_request(request, mcp_types.CreateTaskResult)


async def task_result(
    connection: Connection, task_id: str, on_progress: ProgressFnT, *, polls: bool
) -> CallToolResult:
    """Wait for the result of a task; `polls`: it says nothing of its progress meanwhile."""
    session = connection.client.session
    polling = asyncio.create_task(_poll_status(session, task_id, on_progress)) if polls else None
    params = mcp_types.GetTaskPayloadRequestParams(task_id=task_id)
    try:
        return await session.send_request(
            mcp_types.GetTaskPayloadRequest(params=params),
            CallToolResult,
            progress_callback=on_progress,
        )
    finally:
        if polling is not None:
            polling.cancel()


async def _poll_status(session: ClientSession, task_id: str, on_progress: ProgressFnT) -> None:
    with suppress(MCPError):
        while True:
            pause = await _show_state(await _state_of(session, task_id), on_progress)
            await asyncio.sleep(pause)


async def cancel_task(connection: Connection, task_id: str) -> bool:
    """Cancel a task, and return whether the server said that it does."""
    request = _Request(method="tasks/cancel", params=_Params(task_id=task_id))
    try:
        await connection.client.session.send_request(request, Result)
    except (MCPError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        return False
    return True


async def is_known(connection: Connection, task_id: str) -> bool:
    """Return whether the server has a task of this id for this caller."""
    try:
        await _state_of(connection.client.session, task_id)
    except MCPError:
        return False
    return True


# 2026-07-28


async def poll_task(
    session: ClientSession, task_id: str, on_progress: ProgressFnT
) -> CallToolResult:
    """Ask for a task until it has ended, answer what it asks, and return its result.

    Raises:
        ToolFailed: It ended without one.
    """
    answered: set[str] = set()
    while True:
        state = await _state_of(session, task_id)
        if state.status == "completed" and state.result is not None:
            return CallToolResult.model_validate(state.result, by_name=False)
        if state.status in ("completed", "failed", "cancelled"):
            said = (state.error or {}).get("message") or state.status_message
            raise ToolFailed(str(said or f"the call was {state.status}"))
        interval = await _show_state(state, on_progress)
        if state.status == "input_required":
            await _answer(session, state, answered)
        await asyncio.sleep(interval)


async def _answer(session: ClientSession, state: _TaskState, answered: set[str]) -> None:
    answers: dict[str, Any] = {}
    for key, asked in (state.input_requests or {}).items():
        if key not in answered:
            request = _INPUT.validate_python({**asked}, by_name=False)
            context = ClientRequestContext(session=session, request_id=key, meta=None)
            said = await session.dispatch_input_request(context, request)
            if isinstance(said, mcp_types.ErrorData):
                raise MCPError(said.code, said.message, said.data)
            answers[key] = said.model_dump(by_alias=True, mode="json", exclude_none=True)
    if answers:
        update = _Answers(task_id=state.task_id, input_responses=answers)
        await session.send_request(_Request(method="tasks/update", params=update), Result)
        answered |= answers.keys()


async def _state_of(session: ClientSession, task_id: str) -> _TaskState:
    request = _Request(method="tasks/get", params=_Params(task_id=task_id))
    return await session.send_request(request, _TaskState)


async def _show_state(state: _TaskState, on_progress: ProgressFnT) -> float:
    """Show what a task is at, and return the seconds until it is asked for again."""
    if state.status_message:
        found = _AMOUNT.fullmatch(state.status_message)
        if found is not None:
            await on_progress(float(found[1]), float(found[2]), found[3])
        else:
            await on_progress(0, None, state.status_message)
    pause = state.poll_interval_ms or state.poll_interval
    if pause is None:
        return POLL_INTERVAL
    return max(min(pause, LONGEST_INTERVAL * 1000) / 1000, LEAST_INTERVAL)
