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
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import uvicorn

from headway.cli.exit_codes import report_line, root_of, start_failure
from headway.cli.server.client_connection import Connection, ConnectionLimiter, protocol
from headway.cli.server.event_loop import LoopName, run_until_done
from headway.cli.server.garbage_collector import freeze_what_is_there
from headway.cli.server.listener import Listener, bind
from headway.cli.server.process_end import Deadline, exit_at_once, give_up
from headway.cli.server.signals import stop_on_signals
from headway.cli.server.stop_accepting import stop_accepting
from headway.counters import Counters
from headway.errors import CodeEnded, HeadwayError, SetupError
from headway.log_rates import limit_lines
from headway.settings import Settings
from headway.transport.http.unfinished_requests import UnfinishedRequests

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DEFAULT_GRACE = 30.0
"""Seconds that calls get to finish after the first signal."""

LAST_ANSWERS_TIMEOUT = 3
"""Seconds after that for last answers to be sent; what goes on by then is stopped."""

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
    """An app that counts: its connections, and what arrives on them, are counted there too."""

    counters: Counters
    arrivals: UnfinishedRequests


class _Lifespan:
    """Keeps what the app's lifespan raises, for the caller instead of uvicorn's log.

    `on_end` is called when it ends while the app is served: what a task does that the server's
    own lifespan began may end it at any time, and nobody serves without one.
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
                # Apps tell first and raise after; the exception says more than the message.
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
    """uvicorn without its own signals, sentences and exits."""

    def __init__(
        self,
        app: App,
        listener: Listener,
        grace: float,
        settings: Settings,
        *,
        is_shared: bool = False,
    ) -> None:
        self._app = app
        self._listener = listener
        self._grace = grace
        self._is_shared = is_shared  # whether others accept at the same socket
        self._patience = max(STOP_MOMENT, settings.shutdown_delay)
        self._watched = _Lifespan(app, self._end_serving)
        counted = app if isinstance(app, Counting) else None
        self._limiter = (
            ConnectionLimiter(settings)
            if counted is None
            else ConnectionLimiter(settings, counted.counters, counted.arrivals)
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
                access_log=False,
                server_header=False,
                timeout_keep_alive=cast("int", settings.keep_alive),  # any number will do
                timeout_graceful_shutdown=LAST_ANSWERS_TIMEOUT,
            )
        )

    def _end_serving(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to whoever drives this server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, or raise the `SetupError` that says why not."""
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn's word for a lifespan that failed
            has_started = False
        except OSError as error:  # another one listens since this one was bound
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

    async def stop(self) -> None:
        """Let runs finish, then have `serve` return."""
        self._limiter.is_leaving = True
        for connection in self._connections:
            connection.leave()
        try:
            if self.started:
                async with asyncio.timeout(self._grace):
                    await self._app.drain()
        except TimeoutError:
            logger.warning("calls were stopped that took longer than %g s to finish", self._grace)
        except Exception:
            logger.exception("draining failed; stopping all the same")
        finally:
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take who has come, hear what is on its way, and end."""
        doors = (stop_accepting(one, is_shared=self._is_shared) for one in self._listener.sockets)
        await asyncio.gather(*doors)
        for server in self.servers:
            server.close()
        self._listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._hear_out()
        await super().shutdown(sockets)

    async def _hear_out(self) -> None:
        """Return when nobody is left who may be about to ask something."""
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


def _stop_on_signals(server: _Server, limit: float, *, is_alone: bool) -> None:
    """First signal: an orderly end, that takes no more than `limit` seconds. Second: now."""
    loop = asyncio.get_running_loop()
    deadline = Deadline((limit, partial(give_up, limit)))
    stopping: list[asyncio.Task[None]] = []

    def begin(_number: int) -> None:
        if is_alone:
            report_line("finishing what runs; Ctrl+C again stops at once")
        stopping.append(loop.create_task(server.stop()))

    # Whatever hangs cannot be trusted to end; the journal is safe against this.
    stop_on_signals(begin, lambda number: exit_at_once(128 + number), at_once=deadline.begin)


async def _serve_until_stopped(
    app: App,
    listener: Listener,
    announce: Callable[[str], object],
    grace: float,
    settings: Settings,
    is_alone: bool,
) -> None:
    server = _Server(app, listener, grace, settings, is_shared=not is_alone)

    def ready(_: object) -> None:
        freeze_what_is_there()
        announce(listener.origin)

    server.ready.add_done_callback(ready)
    _stop_on_signals(server, grace + settings.shutdown_delay + STOP_MARGIN, is_alone=is_alone)
    await server.serve()


def serve_until_stopped(
    app: App,
    listener: Listener,
    *,
    announce: Callable[[str], object],
    grace: float = DEFAULT_GRACE,
    settings: Settings | None = None,
    is_alone: bool = True,
    loop: LoopName = "auto",
) -> None:
    """Serve `app` on `listener` until a signal ends it; `announce` gets the origin when ready.

    Of `settings` it is what clients may do before there is a request that counts here. Who is not
    alone leaves what is to be said of its end to its parent.

    The first SIGINT, SIGTERM, SIGHUP or SIGQUIT drains the app and lets answers be sent, the second
    ends the process at once. It ends in any case `MARGIN` seconds after what it may take.

    Raises:
        SetupError: The app could not start.
        HeadwayError: It raised while it stopped.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    _quiet_uvicorn()
    chosen = settings or Settings()
    with listener:
        run_until_done(
            lambda: _serve_until_stopped(app, listener, announce, grace, chosen, is_alone),
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
    """Serve `app` in the running loop, on a free port unless told; gives `http://host:port`.

    Leaving drains the app and gives its runs `grace` seconds. Signals stay the caller's.

    Raises:
        SetupError: The port is taken or the app could not start.
        HeadwayError: It raised while it stopped.
    """
    _quiet_uvicorn()
    listener = bind(host, port)
    server = _Server(app, listener, grace, settings or Settings())
    task = asyncio.create_task(server.serve())
    task.add_done_callback(lambda _: server.ready.done() or server.ready.set_result(None))
    try:
        await server.ready
        if not task.done():
            yield listener.origin
    finally:
        await server.stop()
        try:
            await task
        finally:
            listener.close()
