"""Serving from Python: `headway.run`, and what `Headway.run` does.

The same engine, socket, pipe, signals and end as on the command line; nothing is read from the
environment or from arguments, and logging stays as the program has set it up.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal

import anyio

from headway.cli.exit_codes import report_line
from headway.cli.server import start
from headway.cli.server.http_server import DEFAULT_GRACE, serving
from headway.cli.server.known_callers import KnownCallers
from headway.cli.server.standard_streams import take_streams
from headway.cli.server.stdio_server import serve_pipe
from headway.server import asgi
from headway.settings import Settings
from headway.transport.http.host_check import BY_ITS_RUN
from headway.transport.stdio.pipe import Pipe

if TYPE_CHECKING:
    from headway.journal import Journal

Transport = Literal["stdio", "http", "streamable-http"]


def run(
    server: object,
    transport: Transport = "stdio",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    path: str = "/mcp",
    journal: str = "memory:",
    grace: float = DEFAULT_GRACE,
    settings: Settings | None = None,
) -> None:
    """Serve `server` until its client leaves (stdio) or a signal ends it (HTTP).

    For the last line of a program. `server` is anything that `headway.asgi` takes. Over HTTP it
    is at `http://host:port/path`, and calls get `grace` seconds at the first SIGTERM or SIGINT;
    the second one ends the process at once.

    Raises:
        SetupError: `server` cannot be served, the journal cannot be opened, the port is in use.
        HeadwayError: The server raised while it stopped.
        ValueError: There is no such transport.
    """
    check_transport(transport)
    settings = settings or Settings()
    if transport == "stdio":
        streams = take_streams()
        serve_pipe(server, streams=streams, journal=journal, settings=settings, stays=True)
        return
    start.start_serving(
        server,
        journal=journal,
        listen=start.ListenOptions(
            host=host, port=port, path=path, grace=grace, callers=KnownCallers(is_anonymous=None)
        ),
        settings=settings,
        advice=BY_ITS_RUN,
    )


async def run_stdio(
    server: object, *, journal: str = "memory:", settings: Settings | None = None
) -> None:
    """Serve `server` on stdin and stdout in the running loop, until its client leaves.

    Signals stay the program's own.

    Raises:
        SetupError: It cannot be served, or stdin or stdout is closed.
    """
    app = asgi(server, journal=journal, settings=settings)
    streams = take_streams()
    pipe = Pipe(streams.source, streams.sink, longest=app.settings.max_body)
    try:
        await app.serve_pipe(pipe)
    finally:
        pipe.end()


async def run_http(
    server: object,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    path: str = "/mcp",
    journal: "str | Journal" = "memory:",
    grace: float = DEFAULT_GRACE,
    settings: Settings | None = None,
) -> None:
    """Serve `server` over HTTP in the running loop, until a signal comes or it is cancelled.

    Cancellation: calls get `grace` seconds, as at a signal.

    Raises:
        SetupError: It cannot be served, the journal cannot be opened, the port is in use.
    """
    settings = settings or Settings()
    app = asgi(server, journal=journal, path=path, host=host, settings=settings, advice=BY_ITS_RUN)
    app.redirect_browsers()
    serve = serving(app, host=host, port=port, grace=grace, settings=settings)
    origin = await serve.__aenter__()
    try:
        report_line(f"serving {app.name} at {origin}{path} (Ctrl+C to stop)")
        async with _stop_signals() as told:
            await told.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await serve.__aexit__(None, None, None)


@asynccontextmanager
async def _stop_signals() -> AsyncGenerator[asyncio.Event]:
    """Return an event that the first SIGINT or SIGTERM sets; only the main thread gets signals."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    with suppress(NotImplementedError, ValueError, RuntimeError):
        for number in numbers:
            loop.add_signal_handler(number, told.set)
    try:
        yield told
    finally:
        with suppress(NotImplementedError, ValueError, RuntimeError):
            for number in numbers:
                loop.remove_signal_handler(number)


def check_transport(transport: str) -> None:
    """Check that there is such a transport.

    Raises:
        ValueError: There is none; the text names those that there are.
    """
    known = ("stdio", "http", "streamable-http")
    if transport not in known:
        raise ValueError(f"there is no transport {transport!r}; there is {', '.join(known)}")
