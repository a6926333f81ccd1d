"""A `Headway` whose requests come in by ways of the SDK: in memory, through its SSE app, a proxy.

In these ways the SDK hands a request to its handlers by itself. This middleware makes it a run
first, like every other request: its output is paced and numbered, the tool's options hold, and a
cursor on the run brings the output to the client. The engine is one for each event loop, with a
journal in memory; it begins with the first such request and ends with the server's lifespan.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from math import inf
from typing import Any, Final

import anyio
from mcp.server.connection import allowed_log_levels
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from msgspec import Raw
from pydantic import BaseModel

from headway.auth import scopes_of_caller
from headway.background import BackgroundTasks
from headway.engine import (
    Engine,
    EngineOptions,
    Request,
    Run,
    RunContext,
    ScopePolicy,
    SetVariable,
    ToolOptions,
    inherit_variables,
    variables_set_since,
)
from headway.errors import ProtocolError
from headway.events import TERMINAL, Event, Failed, Progress, decode_json
from headway.journal.memory import memory_journal
from headway.log_lines import quiet_logger
from headway.protocol.eras import ERAS, LOG_LEVELS, MODERN, rank_of
from headway.protocol.methods import TOOL_CALL
from headway.protocol.render import Reader, error_code, error_message, render_event
from headway.settings import Settings

logger = quiet_logger(__name__)

OWNER: Final = "in-process"
TOKEN: Final = "in-process"

_METHODS: Final = (TOOL_CALL, "resources/read", "prompts/get")
"""Methods that execute an author's code, which may report or log."""

_STOP_TIMEOUT: Final = 2.0
"""Seconds that a call gets to stop when its client has given it up; the engine needs one."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class InProcess:
    """Executes the requests of one server that reach it by the SDK's own transports."""

    def __init__(self, options: Mapping[str, ToolOptions]) -> None:
        self._options = options
        self._engines: dict[asyncio.AbstractEventLoop, _Shared] = {}
        self._warned_tools: set[str] = set()

    def wrap_lifespan(self, lifespan: Lifespan | None) -> Lifespan:
        """Return the server's lifespan with the engine's around it."""

        @asynccontextmanager
        async def living(server: Any) -> AsyncGenerator[Any]:
            before = copy_context()
            async with self._hold_shared() as shared:
                if lifespan is None:
                    yield {}
                    return
                async with lifespan(server) as state:
                    shared.inherited = variables_set_since(before)
                    yield state

        return living

    async def middleware(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Make a request a run, unless it is one."""
        channel = _channel_of(ctx.session)
        if isinstance(channel, RunContext) or ctx.request_id is None or ctx.method not in _METHODS:
            return await call_next(ctx)
        async with self._hold_shared() as shared:
            policy = ScopePolicy(authors=self._options)
            engine = await shared.get_engine(EngineOptions(self._options_of, policy=policy))
            return await _Call(engine, ctx, call_next, channel, shared.inherited).answer_request()

    def _options_of(self, tool: str) -> ToolOptions:
        options = self._options.get(tool, _NO_OPTIONS)
        left_out = [name for name, is_set in _without_effect(options) if is_set]
        if left_out and tool not in self._warned_tools:
            self._warned_tools.add(tool)
            logger.warning(
                "tool %r: %s has no effect for a client in memory; serve it with headway.asgi, "
                "mcp.run() or `headway run`",
                tool,
                ", ".join(left_out),
            )
        return options

    @asynccontextmanager
    async def _hold_shared(self) -> AsyncGenerator["_Shared"]:
        """Yield the parts that the requests of this loop share, until the last request lets go of
        them.
        """
        loop = asyncio.get_running_loop()
        for gone in [other for other in self._engines if other.is_closed()]:
            del self._engines[gone]
        shared = self._engines.setdefault(loop, _Shared())
        shared.holders += 1
        try:
            yield shared
        finally:
            shared.holders -= 1
            if not shared.holders:
                del self._engines[loop]
                await shared.stop()


_NO_OPTIONS = ToolOptions()


def _without_effect(options: ToolOptions) -> list[tuple[str, bool]]:
    """Return the options that need a transport of ours, and whether each was set."""
    return [
        ("hand_over", options.hand_over is not None and options.hand_over < inf),
        ("needs_task", options.needs_task),
        ("detached", options.detached),
        ("restart", options.restart),
        ("where='worker'", options.where == "worker"),
    ]


class _Shared:
    """The engine of one loop, once there was a request for it."""

    def __init__(self) -> None:
        self.holders = 0
        self.inherited: Sequence[SetVariable] = ()
        self._starting: asyncio.Task[Engine] | None = None
        self._stack = AsyncExitStack()

    async def get_engine(self, options: EngineOptions) -> Engine:
        """Return the engine; the first caller starts it."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_engine(options))
        return await asyncio.shield(self._starting)

    async def _start_engine(self, options: EngineOptions) -> Engine:
        journal = await self._stack.enter_async_context(memory_journal())
        engine = Engine(journal, Settings(), options=options)
        await engine.start()
        self._stack.push_async_callback(engine.stop)
        return engine

    async def stop(self) -> None:
        """Stop the engine and its runs."""
        if self._starting is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._starting])
                await self._stack.aclose()


class _Call:
    """One request of the SDK that is executed as a run."""

    def __init__(
        self,
        engine: Engine,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
        channel: DispatchContext[Any],
        inherited: Sequence[SetVariable],
    ) -> None:
        self._engine = engine
        self._inherited = inherited
        self._ctx = ctx
        self._call_next = call_next
        self._channel = channel
        ranks = map(rank_of, allowed_log_levels(ctx.protocol_version, ctx.meta))
        lowest = min(ranks, default=len(LOG_LEVELS))
        era = ERAS.get(ctx.protocol_version, MODERN)
        self._reader = Reader(ctx.request_id or 0, TOKEN, era, lambda: lowest)
        self._result: HandlerResult = None
        self._error: Exception | None = None
        self._asking = BackgroundTasks("questions")

    async def answer_request(self) -> HandlerResult:
        """Execute the request; the client gets its output on the way.

        Cancellation: stops the run.

        Raises:
            MCPError: The request was stopped, or refused for a limit.
            Exception: What the handler raised.
        """
        run = self._start_run()
        try:
            end = await self._relay_events(run)
        except BaseException:
            run.cancel("client", "the client gave it up")
            with anyio.move_on_after(_STOP_TIMEOUT, shield=True):
                await self._wait_for_end(run)
            raise
        finally:
            self._asking.cancel()
        if self._error is not None and run.stop_event is None:
            raise self._error
        code = None if end is None else error_code(end)
        if code is not None and end is not None:
            data = end.data if isinstance(end, Failed) else None
            raise MCPError(code, error_message(end), None if data is None else decode_json(data))
        return self._result

    def _start_run(self) -> Run:
        ctx = self._ctx
        context = RunContext(
            ctx.request_id, self._channel.transport, ServerMessageMetadata(), TOKEN, {}
        )
        target = (ctx.params or {}).get("name" if ctx.method != "resources/read" else "uri")
        request = Request(
            ctx.method,
            target if isinstance(target, str) else None,
            OWNER,
            context,
            self._call_handler,
            version=ctx.protocol_version,
            scopes=scopes_of_caller(),
        )
        try:
            access = self._engine.services.access
            access.check_call(request.method, request.target, request.scopes)
            return self._engine.start_run(request)
        except ProtocolError as error:
            raise MCPError(error.code, error.message, error.data) from None

    async def _call_handler(self, context: RunContext) -> dict[str, Any]:
        session = ServerSession(
            context, _connection_of(self._ctx.session), request_meta=self._ctx.meta
        )
        inherit_variables(self._inherited)
        try:
            self._result = await self._call_next(replace(self._ctx, session=session))
        except Exception as error:
            self._error = error
            raise
        result = self._result
        if isinstance(result, BaseModel):
            return result.model_dump(by_alias=True, mode="json", exclude_none=True)
        return result if isinstance(result, dict) else {}

    # What is sent to the client

    async def _relay_events(self, run: Run) -> Event | None:
        """Bring the run's output to the client, and return its end."""
        end: Event | None = None
        async for entry in run.journal.follow(run.stream):
            end = entry.event
            await self._relay_event(run, end)
        return end

    async def _relay_event(self, run: Run, event: Event) -> None:
        rendered = None if type(event) in TERMINAL else render_event(event, self._reader)
        if rendered is None:
            return
        message = decode_json(Raw(rendered))
        method, params = message["method"], message.get("params")
        if isinstance(event, Progress):
            await self._channel.progress(event.progress, event.total, event.message)
        elif "id" not in message:
            await self._channel.notify(method, params)
        else:
            self._asking.start(self._ask_client(run, message["id"], method, params))

    async def _ask_client(
        self, run: Run, key: str, method: str, params: dict[str, Any] | None
    ) -> None:
        try:
            run.answer_question(key, await self._channel.send_raw_request(method, params))
        except MCPError as error:
            run.answer_question(key, None, error)

    async def _wait_for_end(self, run: Run) -> None:
        with suppress(Exception):  # its client has left, and its output is for nobody
            async for _ in run.journal.follow(run.stream):
                pass


# Private names of the SDK: tests/interop/test_private_names.py fails when one of them moves.


def _channel_of(session: ServerSession) -> DispatchContext[Any]:
    """Return the channel to the client of one request."""
    return session._request_outbound  # pyright: ignore[reportPrivateUsage]


def _connection_of(session: ServerSession) -> Any:
    """Return the connection that a session belongs to."""
    return session._connection  # pyright: ignore[reportPrivateUsage]
