"""One life of an app: everything that exists from a start to the stop, in one event loop.

An app may be started any number of times: by each test of a suite, by each call of a serverless
function, by each cell of a notebook, each time in another event loop. Nothing that is bound to a
loop, or closed with the journal, outlives its life: the next one makes all of it anew.

Its states are those of `engine/lifecycle.py`. A life that is over is never started again.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from headway.clock import Clock
from headway.counters import Counters
from headway.engine import (
    Engine,
    EngineOptions,
    Execute,
    Phase,
    ScopePolicy,
    Watchdog,
    contain_failures,
    lifespan_of,
    retry_run,
    variables_set_since,
)
from headway.errors import SetupError
from headway.events import RequestStored
from headway.features import install
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.queues import Queues, may_have_queues, open_queues
from headway.served_object import Served
from headway.settings import Settings
from headway.toml_file import guess_name
from headway.transport.hand_over import HandOver
from headway.transport.http.bearer_challenge import BearerChallenge
from headway.transport.http.browser_page import BrowserPage
from headway.transport.http.endpoint import HttpTransport
from headway.transport.http.host_check import Guard
from headway.transport.sdk import Sdk
from headway.transport.sessions.registry import Sessions
from headway.transport.shared_parts import Endpoint
from headway.transport.stdio.endpoint import StdioTransport
from headway.transport.stdio.pipe import Pipe
from headway.transport.stream_pages import End
from headway.transport.subscriptions.list_changed import ServerChanges
from headway.transport.subscriptions.run_updates import RunSubscriptions

if TYPE_CHECKING:
    from headway.audit import AuditConfig
    from headway.engine.run.call_records import CallRecords

logger = quiet_logger(__name__)


class Life:
    """One journal, one engine and one endpoint, from a start to the stop that follows.

    With `is_worker` it answers no client: it executes runs that servers have put into queues.
    """

    def __init__(
        self,
        served: Served,
        journal: Journal,
        settings: Settings,
        *,
        clock: Clock,
        guard: Guard,
        bearer: BearerChallenge,
        counters: Counters,
        is_worker: bool = False,
        audit: "AuditConfig | None" = None,
        caller_note: Callable[[], str] = str,
    ) -> None:
        self._served = served
        self._is_worker = is_worker
        self.journal = journal
        has_resources = served.low.get_request_handler("resources/read") is not None
        self._records = None if audit is None else _records_of(audit, served.name, counters)
        options = EngineOptions(
            tool_options=served.tools.get,
            has_windows=served.has_windows,
            max_result=settings.max_result if has_resources else inf,
            executor_for=self._executor_for,
            on_run_released=self._close_response,
            server_name=served.name,
            records=self._records,
            is_worker=is_worker,
            caller_note=caller_note,
            policy=ScopePolicy(served.scopes, served.tools, served.own_check, served.alias_check),
        )
        self.engine = Engine(journal, settings, clock=clock, options=options, counters=counters)
        self.lifecycle = self.engine.services.lifecycle
        if not is_worker:
            self.engine.take_retries(partial(retry_run, self.engine))
        added = install.to_results(
            served.low, self.engine, publishes=served.bus is not None, lists_runs=served.is_ours
        )
        self._sdk = Sdk(served.low, added, may_list=served.may_list)
        counters.is_tool = served.is_tool
        self.sessions = Sessions(journal, settings, clock)
        self.sessions.broadcasts.tag = lambda: self.engine.lease.tag
        self._bridge = ServerChanges(served.bus, self.sessions)
        self._endpoint = Endpoint(
            sdk=self._sdk,
            engine=self.engine,
            sessions=self.sessions,
            subscriptions=RunSubscriptions(journal, clock, self._bridge.notify_of_run),
            hand_over=HandOver(self.engine, self._sdk),
        )
        list_tools = served.tool_names if served.may_list else None
        page = BrowserPage(served.name, served.low.version or "", list_tools)
        self.transport = HttpTransport(self._endpoint, guard, page, bearer)

    def _executor_for(self, request: RequestStored) -> Execute:
        return self._sdk.executor_of(request)

    def _close_response(self, stream: str) -> None:
        self.transport.responses.close_stream(stream, End.LEAVING)

    @property
    def is_recording(self) -> bool:
        """True when an audit log is kept."""
        return self._records is not None

    @property
    def takes_calls(self) -> bool:
        """True while it serves and nobody has said that the end is near."""
        return self.lifecycle.is_serving

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run journal, server lifespan and engine, from start to stop.

        Raises:
            SetupError: The journal or the audit log cannot be opened.
        """
        low, before = self._served.low, copy_context()
        lifespan = lifespan_of(low.lifespan(low))
        recording = _recording(self._records)
        async with recording, self._open_queues() as queues, self.journal, lifespan as state:
            self._sdk.inherited = variables_set_since(before)
            self._sdk.state = state
            if self._served.options is not None:
                self._sdk.options = self._served.options()
            # The engine first: it recovers runs, whose readers the sessions may already ask for.
            # The life serves only when all of this is done.
            await self.engine.start(queues)
            self.engine.counters.register_tools(await self._served.tool_names())
            await self._check_tool_names()
            await self.sessions.start()
            self._bridge.open()
            self.lifecycle.move_to(Phase.SERVING)
            watchdog = Watchdog(
                self.engine.settings.hold_warning, self.engine.lease.sign_for_held_loop
            )
            watchdog.start()
            try:
                yield
            finally:
                watchdog.stop()
                await self._stop_all()

    async def _check_tool_names(self) -> None:
        """Check that there are the tools that the operator has written scopes or rates for.

        Raises:
            SetupError: There is one that does not exist.
        """
        served, rated = self._served, dict(self.engine.settings.calls_of_tools)
        if not served.scopes and not rated:
            return
        known: set[str] | None = None
        with contain_failures("the list of tools"), suppress(Exception):  # its author's own code
            if served.every_tool is not None:
                known = {tool.name for tool in await served.every_tool()}
            else:
                known = {str(tool.get("name")) for tool in await self._sdk.list_for_start()}
        if known is None:
            logger.warning(
                "the tools cannot be listed, so [auth.tools] and [limits.tools] are not checked"
            )
            return
        if served.check_scopes is not None:
            served.check_scopes(served.name, known)
        for name in sorted({*rated} - known):
            guess = guess_name(name, sorted(known))
            raise SetupError(f"limits.tools.{name}: {served.name} has no such tool{guess}")

    async def _stop_all(self) -> None:
        self.lifecycle.move_to(Phase.OVER)
        self._bridge.close()
        # Streams without an end of their own go first; then runs end, while their readers can still
        # be sent the ends; sessions and the journal last.
        self.transport.end_idle_streams()
        await self._endpoint.subscriptions.stop()
        await self.engine.stop()
        await self.sessions.stop()

    def _open_queues(self) -> AbstractAsyncContextManager[Queues | None]:
        """Return the queues for workers, opened when entered; None where nothing is for workers.

        Raises:
            SetupError: What that needs is not installed.
        """
        settings = self.engine.settings
        wanted = self._served.for_workers(settings.where)
        if self._is_worker:
            return open_queues(self.journal.url, lease=settings.lease)
        if not wanted:
            return nullcontext()
        if not may_have_queues(self.journal.url):
            logger.warning("executed here: %s; workers need a journal in Redis", wanted)
            return nullcontext()
        return open_queues(self.journal.url, lease=settings.lease)

    def serve_pipe(self, pipe: Pipe) -> StdioTransport:
        """Return the MCP endpoint for the one client at the other end of `pipe`."""
        return StdioTransport(self._endpoint, pipe)

    async def drain(self) -> None:
        """Accept no more calls, end the streams that wait for news, let calls finish.

        Returns when all calls have ended. Cancellation: what still goes on is stopped, or left to
        another process, as `HeadwayApp.drain` says.
        """
        self.lifecycle.move_to(Phase.LEAVING)
        drain = self.engine.drain
        try:
            await self.engine.clock.sleep(self.engine.settings.shutdown_delay)
            self.transport.end_idle_streams()
            await drain.finish_calls()
        finally:
            await drain.wait_for_shields()
            drain.release_restartable()
            # Their runs may go on in other processes: those are not waited for.
            self.transport.responses.end_resumable()


def _records_of(audit: "AuditConfig", server: str, counters: Counters) -> "CallRecords":
    from headway.audit import AuditLog
    from headway.engine.run.call_records import CallRecords

    return CallRecords(AuditLog(audit, counters.lose_audit_records), server)


@asynccontextmanager
async def _recording(records: "CallRecords | None") -> AsyncGenerator[None]:
    """Keep an audit log open while inside.

    Raises:
        SetupError: It cannot be opened.
    """
    if records is None:
        yield
        return
    records.open()
    try:
        yield
    finally:
        records.end_log()
        await asyncio.to_thread(records.log.wait_until_written)
        records.log.close()


class Lives:
    """The lives of one app: at most one in each event loop, shared by all who enter it there.

    `make` returns a new life; `running` starts a life when entered and stops it when left.
    """

    def __init__(
        self, make: Callable[[], Life], running: Callable[[Life], AbstractAsyncContextManager[None]]
    ) -> None:
        self._make = make
        self._running = running
        self._newest = make()
        self._held: dict[asyncio.AbstractEventLoop, Held] = {}
        self._own: set[Held] = set()

    @property
    def newest(self) -> Life:
        """The life of the running loop; elsewhere the one that was made last."""
        try:
            return self.here() or self._newest
        except RuntimeError:  # no loop runs in this thread
            return self._newest

    def here(self) -> Life | None:
        """Return the life that has started in the running loop and is not over, or None."""
        held = self._held.get(asyncio.get_running_loop())
        return held.life if held is not None and held.started.done() else None

    async def enter(self) -> "Held":
        """Hold the life of the running loop until `leave`; the first one to enter starts it.

        Cancellation: as if it had not been entered.

        Raises:
            SetupError: It cannot be started.
        """
        loop = asyncio.get_running_loop()
        for gone in [other for other in self._held if other.is_closed()]:
            del self._held[gone]  # its loop has ended without a stop, and all of it with the loop
        while (held := self._held.get(loop)) is not None and held.closing.is_set():
            await asyncio.wait([held.task])
        held = self._held.get(loop) or self._begin_life(loop)
        held.holders += 1
        try:
            await asyncio.shield(held.started)
        except BaseException:
            await self.leave(held)
            raise
        return held

    async def leave(self, held: "Held") -> None:
        """Release a life; the last one to leave stops it, and the stop's exception is raised there.

        Cancellation: the parts that are not stopped yet are cancelled.
        """
        held.holders -= 1
        if held.holders:
            return
        self._own.discard(held)
        held.closing.set()
        if not held.started.done():
            held.task.cancel()
        try:
            await asyncio.wait([held.task])
        except asyncio.CancelledError:
            held.task.cancel()
            await asyncio.wait([held.task])
            raise
        if not held.task.cancelled():
            held.task.result()

    async def start_by_itself(self) -> Life:
        """Start a life in the running loop that nobody entered; `HeadwayApp.aclose` ends it.

        Raises:
            SetupError: It cannot be started.
        """
        held = await self.enter()
        if held in self._own:
            await self.leave(held)  # another request has started it meanwhile
        self._own.add(held)
        return held.life

    def own(self) -> "Held | None":
        """Return the life that started by itself in the running loop, or None."""
        held = self._held.get(asyncio.get_running_loop())
        return held if held in self._own else None

    def _begin_life(self, loop: asyncio.AbstractEventLoop) -> "Held":
        if any(held.life is self._newest for held in self._held.values()) or (
            self._newest.lifecycle.phase is not Phase.NEW
        ):
            self._newest = self._make()
        held = self._held[loop] = Held(self._newest, loop)
        # A task of its own: the first one to enter need not be the last to leave.
        held.task = loop.create_task(self._live_through(held))
        held.task.add_done_callback(lambda _: self._forget_life(loop, held))
        return held

    def _forget_life(self, loop: asyncio.AbstractEventLoop, held: "Held") -> None:
        self._own.discard(held)
        if self._held.get(loop) is held:
            del self._held[loop]

    async def _live_through(self, held: "Held") -> None:
        try:
            async with self._running(held.life):
                held.started.set_result(None)
                await held.closing.wait()
        except BaseException as error:
            if held.started.done() or isinstance(error, asyncio.CancelledError):
                held.started.cancel()
                raise
            held.started.set_exception(error)
        finally:
            held.life.lifecycle.move_to(Phase.OVER)


class Held:
    """A life, the task that it runs in, and the number of those who have entered it."""

    task: asyncio.Task[None]

    def __init__(self, life: Life, loop: asyncio.AbstractEventLoop) -> None:
        self.life = life
        self.holders = 0
        self.closing = asyncio.Event()
        self.started: asyncio.Future[None] = loop.create_future()
