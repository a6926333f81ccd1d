"""A call of a tool, from its request to its result, over as many connections as that takes.

A server with tasks of 2025-11-25 that declares idempotency keys, as Headway does, makes the call a
task at once: its id outlives connections, sessions and the server itself, and `tasks/result`
brings what was said on the way. Elsewhere the call stands and falls with its request, unless it
becomes a task of 2026-07-28.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final, Protocol, TypeVar, cast

import anyio
import mcp_types
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    LoggingMessageNotificationParams,
    RequestParamsMeta,
)

from headway.cli.client import task_requests
from headway.cli.client.http_client import ProxyRoute
from headway.cli.client.peer import Connection, ConnectOptions, Peer, list_tools
from headway.cli.client.task_requests import TaskHandle, is_known, poll_task
from headway.cli.exit_codes import Lost, Refused, SessionGone, Unreachable
from headway.errors import HeadwayError
from headway.protocol.continue_run_tool import CONTINUE_RUN, handle_in
from headway.protocol.idempotency_key import META_KEY
from headway.protocol.render import REQUEST_CANCELLED
from headway.protocol.tasks import EXTENSION

CANCEL_TIMEOUT: Final = 5.0
"""Seconds in which a call has to be cancelled before its caller leaves."""

MOST_CALLS: Final = 5
"""Times that a call is sent again after its answer was lost."""

_CANCELS: Final = "a lost connection cancels a call of 2026-07-28; with --era 2025 it goes on"

T = TypeVar("T")


class Over(Lost):
    """The outcome of the call cannot be had any more."""


Arguments = Callable[[Sequence[mcp_types.Tool]], dict[str, Any]]


class Observer(Protocol):
    """Hears what a call says on its way."""

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """The newest progress."""
        ...

    def log(self, params: LoggingMessageNotificationParams) -> None:
        """A log message, or a part."""
        ...


@dataclass(frozen=True, slots=True)
class CallRequest:
    """The tool to call, and how."""

    tool: str
    arguments: Arguments
    """Makes the arguments, of the tools that the server has; refuses what it cannot take."""
    key: str


class ToolCall:
    """One call: a new one with a `wish`, or that of a task."""

    def __init__(
        self,
        way: ProxyRoute,
        options: ConnectOptions,
        observer: Observer,
        *,
        wish: CallRequest | None = None,
        task_id: str = "",
    ) -> None:
        self._observer = observer
        self._wish = wish
        self._url = way.url_shown
        self._is_repeated = False
        self._is_in_doubt = False
        self._logs = _LogFilter(observer)
        extension = _TasksExtension(self._finish_claimed)
        self._peer = Peer(
            way,
            replace(options, on_log=self._logs, extensions=(extension,), outlasts=True),
        )
        self.task_id = task_id
        """The task that the call has become; empty: none."""
        self.is_sent = bool(task_id)
        """Whether the server may have the call."""
        self.is_cancelled = False
        """Whether the server said that it cancels it."""
        self.is_left = False
        """Whether a cancelled `result` leaves the call running."""

    async def result(self) -> CallToolResult:
        """Return the call's result.

        Cancellation: cancels the call, unless it `is_left`.

        Raises:
            Refused: The server has no such tool, or its arguments do not fit.
            ToolFailed: The call ended without a result.
            Unreachable: The server is not there, is busy, or was lost.
        """
        return await self._over_connections(self._on)

    async def start(self) -> str:
        """Start the call and return the id of its task.

        Raises:
            Refused: The server has no tasks that can be left.
            HeadwayError: As `result`.
        """
        return await self._over_connections(self._started)

    async def _over_connections(self, do: Callable[[Connection], Awaitable[T]]) -> T:
        before: Lost | None = None
        for _ in range(MOST_CALLS):
            connection = None
            try:
                async with self._peer.connect() as connection:
                    self._check_is_safe(connection)
                    return await self._do_or_cancel(connection, do)
            except Over:
                raise
            except Unreachable as error:
                lost = error if before is None else Lost(f"{before}; {error}")
                if not self._may_go_on(connection, error):
                    raise self._in_words(lost, connection) from error
                before, self._is_repeated = Lost(str(error)), True
        raise self._in_words(before or Lost(f"{MOST_CALLS} connections were lost"), None)

    async def _do_or_cancel(
        self, connection: Connection, do: Callable[[Connection], Awaitable[T]]
    ) -> T:
        try:
            return await do(connection)
        except asyncio.CancelledError:
            if self.task_id and not self.is_left:
                with anyio.move_on_after(CANCEL_TIMEOUT, shield=True):
                    self.is_cancelled = await task_requests.cancel_task(connection, self.task_id)
            raise

    def _may_go_on(self, connection: Connection | None, error: Unreachable) -> bool:
        """Return whether the call can be made on another connection without being done twice."""
        if connection is None:
            return False
        self._is_in_doubt = self._is_in_doubt or connection.transport.is_in_doubt
        if not isinstance(error, Lost):
            return False
        if self.task_id or not self._is_in_doubt:
            return True
        # A server that has forgotten the session may have forgotten the key, and do it all again.
        return connection.transport.has_durable_keys and not isinstance(error, SessionGone)

    def _check_is_safe(self, connection: Connection) -> None:
        """Refuse to make a call again at a server that may not know its key.

        Raises:
            Lost: It would perhaps be done twice.
        """
        if self._is_in_doubt and not self.task_id and not connection.transport.has_durable_keys:
            raise Lost(f"{self._url} may not know the call any more")

    def _in_words(self, error: Unreachable, connection: Connection | None) -> Unreachable:
        """Return an error that says the doubt, where there is one."""
        wish = self._wish
        if wish is None or self.task_id or not self._is_in_doubt:
            return error
        also = ""
        if connection is not None and connection.knows_keys and connection.is_2026:
            also = f"; {_CANCELS}"
        return type(error)(f"{error}{also}. Whether {wish.tool} was done is not known")

    # On one connection

    async def _on(self, connection: Connection) -> CallToolResult:
        if not self.task_id:
            wish = self._wish
            assert wish is not None
            tools = await list_tools(connection.client)
            arguments = wish.arguments(tools)
            if not _becomes_task(connection, wish.tool, tools):
                return await self._call_plainly(connection, wish, arguments)
            await self._create_task(connection, wish, arguments)
        return await self._follow_task(connection)

    async def _started(self, connection: Connection) -> str:
        wish = self._wish
        if not self.task_id and wish is not None:
            tools = await list_tools(connection.client)
            arguments = wish.arguments(tools)
            if not _becomes_task(connection, wish.tool, tools):
                raise Refused(
                    f"{wish.tool} cannot be left running: it is no task at this server "
                    "(tasks of 2025-11-25); call it without --detach"
                )
            await self._create_task(connection, wish, arguments)
        return self.task_id

    async def _create_task(
        self, connection: Connection, wish: CallRequest, arguments: dict[str, Any]
    ) -> None:
        # Without a token the progress of many servers is not even made. What is sent for this one
        # goes on the session's own stream; `tasks/result` has a token of its own.
        meta = cast("RequestParamsMeta", {**_meta_of(wish), "progressToken": f"task-{wish.key}"})
        self.is_sent = True
        created = await task_requests.create_task(connection, wish.tool, arguments, meta)
        self.task_id = created.task.task_id

    async def _follow_task(self, connection: Connection) -> CallToolResult:
        self._logs.begin_again()
        try:
            if connection.is_2026:
                return await poll_task(connection.client.session, self.task_id, self._progress)
            result = await task_requests.task_result(
                connection, self.task_id, self._progress, polls=not connection.knows_keys
            )
        except MCPError as error:
            # The tool's own error may look the same: the task itself is asked for.
            if error.code == INVALID_PARAMS and not await is_known(connection, self.task_id):
                raise self._forgotten() from error
            raise
        if self._wish is not None and not result.is_error:
            await connection.client.session.validate_tool_result(self._wish.tool, result)
        return result

    def _forgotten(self) -> HeadwayError:
        if self._wish is None:
            return Refused(
                f"there is no call {self.task_id} to come back to at {self._url}: it has expired, "
                "belongs to another caller, or was never handed over"
            )
        return Over(
            f"{self._url} does not know the call any more: it was started again without a journal, "
            f"or no longer keeps the call. Whether {self._wish.tool} was done is not known"
        )

    async def _call_plainly(
        self, connection: Connection, wish: CallRequest, arguments: dict[str, Any]
    ) -> CallToolResult:
        client = connection.client
        self._logs.begin_again()
        self.is_sent = True
        try:
            result = await client.call_tool(
                wish.tool, arguments, progress_callback=self._progress, meta=_meta_of(wish)
            )
        except MCPError as error:
            is_repeated = self._is_repeated or connection.transport.is_repeated
            if is_repeated and connection.is_2026 and error.code == REQUEST_CANCELLED:
                text = f"the connection to {self._url} was lost, and {_CANCELS}"
                raise Over(text) from error
            raise
        # It is handed such a handle only where an operator says so.
        while (handle := handle_in(result.meta, result.structured_content)) is not None:
            rest = {"run_id": handle}
            result = await client.call_tool(CONTINUE_RUN, rest, progress_callback=self._progress)
        return result

    async def _finish_claimed(self, handle: TaskHandle, context: ClaimContext) -> CallToolResult:
        self.task_id = handle.task_id
        return await poll_task(context.session, handle.task_id, self._progress)

    async def _progress(self, progress: float, total: float | None, message: str | None) -> None:
        # JSON has numbers that a float has not: 1e400 is infinite here.
        amount = progress if isfinite(progress) else 0.0
        whole = total if total is not None and isfinite(total) else None
        self._observer.progress(amount, whole, message)


def _meta_of(wish: CallRequest) -> RequestParamsMeta:
    # What is sent again on the way, by a proxy or by the client itself, is not done again.
    return cast("RequestParamsMeta", {META_KEY: wish.key})


def _becomes_task(connection: Connection, name: str, tools: Sequence[mcp_types.Tool]) -> bool:
    """Return whether the call is to be a task of 2025-11-25.

    Of other servers only where it has to be: what they say of a task is little.
    """
    tool = next((tool for tool in tools if tool.name == name), None)
    support = tool.execution.task_support if tool is not None and tool.execution else None
    wanted = ("optional", "required") if connection.knows_keys else ("required",)
    return connection.has_tasks_2025 and support in wanted


class _LogFilter:
    """Passes log messages on; those that are sent again after a cut are left out."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._seen = 0
        self._due = 0

    def begin_again(self) -> None:
        """From here on all messages come again, from the first."""
        self._due = self._seen

    async def __call__(self, params: LoggingMessageNotificationParams) -> None:
        if self._due:
            self._due -= 1
            return
        self._seen += 1
        self._observer.log(params)


class _TasksExtension(ClientExtension):
    """The tasks of 2026-07-28: a call may be answered with one."""

    identifier = EXTENSION

    def __init__(
        self, resolve: Callable[[TaskHandle, ClaimContext], Awaitable[CallToolResult]]
    ) -> None:
        self._resolve = resolve

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Return the one shape of a result that is a task."""
        return (ResultClaim(result_type="task", model=TaskHandle, resolve=self._resolve),)
