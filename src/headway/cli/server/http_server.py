"""Serving an app over HTTP: the socket, uvicorn, the signals and an orderly end.

This module must not know MCP. It is uvicorn's driver because three things have to happen in
an order of our own: the port is bound before anything starts and listened on when all has, runs
are drained before connections are waited for, and a failure to start is a sentence instead of a
traceback.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import uvicorn

from headway.cli.exit_codes import report_line, root_of, start_failure
from headway.cli.log_output.record_facts import ACCESS_LOGGER
from headway.cli.server.client_connection import Connection, ConnectionLimiter, protocol
from headway.cli.server.event_loop import LoopName, run_until_done
from headway.cli.server.garbage_collector import tune_collector
from headway.cli.server.listener import Listener, bind
from headway.cli.server.process_end import Deadline, exit_at_once, give_up
from headway.cli.server.reload import RETIRE
from headway.cli.server.service_manager import tell_stopping
from headway.cli.server.signals import farewell_text, stop_on_signals
from headway.cli.server.stop_accepting import stop_accepting
from headway.counters import Counters
from headway.errors import CodeEnded, HeadwayError, SetupError
from headway.log_lines import quiet_logger
from headway.repeated_log_lines import limit_lines
from headway.settings import Settings
from headway.transport.http.unfinished_requests import UnfinishedRequests

logger = quiet_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DEFAULT_GRACE = 30.0
"""Seconds that calls get to finish after the first signal."""

LAST_ANSWERS_TIMEOUT = 3
"""Seconds after that in which last answers are sent; calls that still go on are stopped."""

STOP_MARGIN = 9.0
"""Seconds that an end may take beyond `grace` and `shutdown_delay`: shielded parts of tools,
requests on their way, last answers. Then the process ends, whatever still runs in it."""

STOP_MOMENT = 0.5
"""Seconds from a connection to its request, at the most. Connections are not closed earlier."""

LOOK_INTERVAL = 0.02
"""Seconds between two looks at whether a connection is still quiet."""

SWITCH_INTERVAL = 0.0005
"""Python's default of 5 ms is how long a thread that wants the GIL may have to wait for one
that computes. The SQLite writer thread hands it back and forth with the event loop several
times a commit; at 5 ms each, commits of a busy server would take longer than their disk."""


class App(Protocol):
    """An ASGI app that can be served: one that drains when it is told to."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None:
        """Answer one connection."""
        ...

    async def drain(self) -> None:
        """End what would never end by itself, such as streams that only wait for news."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An app with counters, in which its connections and their refusals are counted too."""

    counters: Counters
    arrivals: UnfinishedRequests

    def record_refusal(
        self, status: int, limit: str | None, why: str, address: str | None, /
    ) -> None:
        """Write a refusal into the audit log, where one is kept."""
        ...


class _Lifespan:
    """Keeps the exception of the app's lifespan, for the caller instead of uvicorn's log.

    `on_end` is called when the lifespan ends while the app is served. A task that the server's own
    lifespan began may end it at any time, and an app cannot be served without it.
    """

    def __init__(self, app: App, on_end: Callable[[], object]) -> None:
        self.app = app
        self.failure: HeadwayError | None = None
        self._on_end = on_end

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._lifespan(scope, receive, send)
        return self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        phase, is_told = "startup", False

        async def watched_receive() -> Message:
            nonlocal is_told
            message = await receive()
            is_told = message["type"] == "lifespan.shutdown"
            return message

        async def watched_send(message: Message) -> None:
            nonlocal phase
            if message["type"].endswith(".failed"):
                # Apps send a message first and raise afterwards; the exception says more than the
                # message.
                self.failure = SetupError(f"the server failed: {message.get('message', '')}")
                return
            phase = "shutdown"
            await send(message)

        try:
            await self.app(scope, watched_receive, watched_send)
        except Exception as error:  # noqa: BLE001 - the server's own code: it may raise anything
            self.failure = _lifespan_failure(root_of(error), phase, is_told=is_told)
        if self.failure is not None and (phase == "startup" or is_told):
            await send({"type": f"lifespan.{phase}.failed", "message": ""})
        if phase != "startup" and not is_told:
            self.failure = self.failure or HeadwayError("the server's own lifespan has ended")
            self._on_end()


def _lifespan_failure(error: BaseException, phase: str, *, is_told: bool) -> HeadwayError:
    """Return the reason why the server cannot start, did not stop cleanly, or cannot go on."""
    if phase == "startup":
        return start_failure(error)
    if is_told:
        logger.error("the server's own shutdown code raised", exc_info=error)
        return HeadwayError(f"the server did not stop cleanly: {error}")
    logger.error("the server's own lifespan ended while it was served", exc_info=error)
    did = f"raised {type(error).__name__}: {error}"
    return HeadwayError(
        f"the server's own lifespan {error if isinstance(error, CodeEnded) else did}"
    )


class _Server(uvicorn.Server):
    """uvicorn without its own signals, messages and exits."""

    def __init__(
        self,
        app: App,
        listener: Listener,
        settings: Settings,
        *,
        is_shared: bool = False,
        connection: Mapping[str, Any] | None = None,
    ) -> None:
        self._app = app
        self._listener = listener
        self._is_retired = False
        self._is_shared = is_shared  # whether other processes accept on the same socket
        self._patience = max(STOP_MOMENT, settings.shutdown_delay)
        self._watched = _Lifespan(app, self._end_serving)
        counted = app if isinstance(app, Counting) else None
        self._limiter = (
            ConnectionLimiter(settings)
            if counted is None
            else ConnectionLimiter(
                settings, counted.counters, counted.arrivals, counted.record_refusal
            )
        )
        self.ready = asyncio.get_running_loop().create_future()
        super().__init__(
            uvicorn.Config(
                self._watched,
                interface="asgi3",
                http=cast("type[asyncio.Protocol]", protocol(self._limiter)),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=logging.getLogger(ACCESS_LOGGER).isEnabledFor(logging.INFO),
                server_header=False,
                timeout_keep_alive=cast("int", settings.keep_alive),  # any positive number will do
                timeout_graceful_shutdown=LAST_ANSWERS_TIMEOUT,
                **(connection or {}),
            )
        )

    def farewell(self, grace: float) -> str:
        """Return what is said as the end begins."""
        return farewell_text(self._app, grace)

    def _end_serving(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the code that drives this server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, or raise the `SetupError` that says why not."""
        try:
            await super().startup(sockets)
        except SystemExit:  # so uvicorn marks a lifespan that failed
            has_started = False
        except OSError as error:  # another program listens since this socket was bound
            await self.lifespan.shutdown()
            raise SetupError(self._listener.refusal(error)) from error
        else:
            has_started = True
        if not has_started:
            raise self._watched.failure or SetupError("the server did not start")
        if not self.ready.done():
            self.ready.set_result(None)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `stop`, or raise what start-up or shutdown failed with."""
        await super().serve(sockets or self._listener.sockets)
        if self._watched.failure is not None:
            raise self._watched.failure

    def expect_successor(self) -> None:
        """Answer one request on each connection, so that the next one may go to another process.

        A client cannot know that a kept connection leads to a process that is retired.
        """
        self._limiter.is_leaving = True

    def retire(self) -> None:
        """Accept nothing more: other processes accept on the same sockets."""
        self._close_servers()
        self._is_retired = True
        for connection in self._connections:
            connection.close_if_idle()

    def _close_servers(self) -> None:
        for server in self.servers:
            server.close()
        self._listener.close()

    async def stop(self, grace: float | None) -> None:
        """Let runs finish for `grace` seconds, or for as long as they take; end `serve` then."""
        self._limiter.is_leaving = True
        for connection in self._connections:
            connection.leave()
        try:
            if self.started:
                async with asyncio.timeout(grace):
                    await self._app.drain()
        except TimeoutError:
            logger.warning("calls were stopped that took longer than %g s to finish", grace)
        except Exception:
            logger.exception("draining failed; stopping all the same")
        finally:
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that wait, answer requests that are under way, and end."""
        if not self._is_retired:
            is_shared = self._is_shared or self._listener.is_shared
            doors = (stop_accepting(one, is_shared=is_shared) for one in self._listener.sockets)
            await asyncio.gather(*doors)
        self._close_servers()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._hear_out()
        await super().shutdown(sockets)

    async def _hear_out(self) -> None:
        """Return when no client is left that may be about to send a request."""
        while any(  # noqa: ASYNC110 - what makes it true is that nothing happens
            one.may_be_asked(self._patience) for one in self._connections
        ):
            await asyncio.sleep(LOOK_INTERVAL)

    @property
    def _connections(self) -> list[Connection]:
        return [cast("Connection", one) for one in self.server_state.connections]


def _without_uvicorns_sentence(record: logging.LogRecord) -> bool:
    return not record.getMessage().endswith("failed. Exiting.")


def _quiet_uvicorn() -> None:
    logging.getLogger("uvicorn.error").addFilter(_without_uvicorns_sentence)
    limit_lines("uvicorn.error")  # tracebacks of an app


def _stop_on_signals(server: _Server, grace: float, settings: Settings, *, is_alone: bool) -> None:
    """End in order at the first signal, within a limit; end at once at the second."""
    limit = grace + settings.shutdown_delay + STOP_MARGIN
    loop = asyncio.get_running_loop()
    deadline = Deadline((limit, partial(give_up, limit)))
    stopping: list[asyncio.Task[None]] = []

    def begin(_number: int) -> None:
        if is_alone:
            report_line(server.farewell(grace))
            tell_stopping()
        stopping.append(loop.create_task(server.stop(grace)))

    # Code that hangs cannot be trusted to end; the journal is safe against this.
    stop_on_signals(begin, lambda number: exit_at_once(128 + number), at_once=deadline.begin)


def _retire_on_signal(server: _Server, on_retired: Callable[[], object]) -> None:
    """Retire the server when its parent says so; it ends when its last call has."""
    loop, stopping = asyncio.get_running_loop(), list[asyncio.Task[None]]()

    def retire() -> None:
        server.retire()
        on_retired()
        stopping.append(loop.create_task(server.stop(None)))

    server.expect_successor()
    loop.add_signal_handler(RETIRE, retire)


async def _serve_until_stopped(
    app: App,
    listener: Listener,
    announce: Callable[[str], object],
    grace: float,
    settings: Settings,
    is_alone: bool,
    on_retired: Callable[[], object] | None,
    connection: Mapping[str, Any] | None,
) -> None:
    server = _Server(app, listener, settings, is_shared=not is_alone, connection=connection)

    def ready(_: object) -> None:
        tune_collector()
        announce(listener.origin)

    server.ready.add_done_callback(ready)
    _stop_on_signals(server, grace, settings, is_alone=is_alone)
    if on_retired is not None:
        _retire_on_signal(server, on_retired)
    await server.serve()


def serve_until_stopped(
    app: App,
    listener: Listener,
    *,
    announce: Callable[[str], object],
    grace: float = DEFAULT_GRACE,
    settings: Settings | None = None,
    is_alone: bool = True,
    on_retired: Callable[[], object] | None = None,
    connection: Mapping[str, Any] | None = None,
    loop: LoopName = "auto",
) -> None:
    """Serve `app` on `listener` until a signal ends it; `announce` gets the origin when ready.

    Of `settings` only the limits on clients before a request are used here. A process that is not
    alone leaves the report of its end to its parent. `connection` is uvicorn's options for TLS and
    proxies. With `on_retired` the signal `RETIRE` has it
    accept nothing more and end when its last call has; the function is called at once.

    The first SIGINT, SIGTERM, SIGHUP or SIGQUIT drains the app and lets answers be sent, the second
    ends the process at once. It ends in any case `STOP_MARGIN` seconds after what it may take.

    Raises:
        SetupError: The app could not start.
        HeadwayError: The app raised while it stopped.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    _quiet_uvicorn()
    chosen = settings or Settings()
    with listener:
        run_until_done(
            lambda: _serve_until_stopped(
                app, listener, announce, grace, chosen, is_alone, on_retired, connection
            ),
            loop=loop,
        )


@asynccontextmanager
async def serving(
    app: App,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    grace: float = DEFAULT_GRACE,
    settings: Settings | None = None,
) -> AsyncGenerator[str]:
    """Serve `app` in the running loop, on a free port unless one is given; yield
    `http://host:port`.

    Leaving drains the app and gives its runs `grace` seconds. Signals stay the caller's.

    Raises:
        SetupError: The port is taken or the app could not start.
        HeadwayError: It raised while it stopped.
    """
    _quiet_uvicorn()
    listener = bind(host, port)
    server = _Server(app, listener, settings or Settings())
    task = asyncio.create_task(server.serve())
    task.add_done_callback(lambda _: server.ready.done() or server.ready.set_result(None))
    try:
        await server.ready
        if not task.done():
            yield listener.origin
    finally:
        await server.stop(grace)
        try:
            await task
        finally:
            listener.close()
