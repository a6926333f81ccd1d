"""Serving: the part that `serve` and `run` share, once they have a server."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.cli.exit_codes import report_line
from headway.server import asgi, inspect_server
from headway.settings import Settings
from headway.transport.http.guard import ON_COMMAND_LINE, Advice

if TYPE_CHECKING:
    from headway.cli.server.event_loop import LoopName
    from headway.cli.server.listener import Listener
    from headway.cli.server.prefork import Inherited
    from headway.cli.server.standard_streams import Streams


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Where a server is found, by how many processes, and how long it may take to stop."""

    host: str
    port: int
    path: str
    grace: float
    workers: int = 1


def start_serving(
    server: object,
    *,
    journal: str,
    listen: ListenOptions,
    settings: Settings,
    streams: "Streams | None" = None,
    advice: Advice = ON_COMMAND_LINE,
    loop: "LoopName" = "auto",
) -> int:
    """Serve `server` until a signal ends it, and say on stderr where it is; gives the exit code.

    With `streams` it is served to the client behind them, until that one has had enough.
    """
    if streams is not None:
        from headway.cli.server.stdio_server import serve_pipe

        serve_pipe(server, streams=streams, journal=journal, settings=settings, loop=loop)
        return 0
    from headway.cli.server.prefork import check_journal, inherited_by_worker

    post = inherited_by_worker()
    if post is None and listen.workers > 1:
        check_journal(journal)
        return _start_crew(server, listen, settings)
    _serve(server, journal, listen, settings, post, advice, loop)
    return 0


def _serve(
    server: object,
    journal: str,
    listen: ListenOptions,
    settings: Settings,
    post: "Inherited | None",
    advice: Advice,
    loop: "LoopName",
) -> None:
    from headway.cli.server.http_server import serve_until_stopped
    from headway.cli.server.listener import bind

    app = asgi(
        server,
        journal=journal,
        path=listen.path,
        host=listen.host,
        settings=settings,
        advice=advice,
    )
    listener = bind(listen.host, listen.port) if post is None else post.listener

    def announce(origin: str) -> None:
        if post is None:
            where = f"{origin}{listen.path}{_describe_reach(listener)}"
            report_line(f"serving {app.name} at {where} (Ctrl+C to stop)")
        else:
            post.announce()

    serve_until_stopped(
        app,
        listener,
        announce=announce,
        grace=listen.grace,
        settings=settings,
        is_alone=post is None,
        loop=loop,
    )


def _start_crew(server: object, listen: ListenOptions, settings: Settings) -> int:
    from headway.cli.server.http_server import STOP_MARGIN
    from headway.cli.server.listener import listening
    from headway.cli.server.prefork import Prefork

    name, listener = inspect_server(server).name, listening(listen.host, listen.port)
    where = f"{listener.origin}{listen.path}{_describe_reach(listener)}"

    def announce() -> None:
        report_line(f"serving {name} at {where} with {listen.workers} processes (Ctrl+C to stop)")

    async def serve() -> int:
        crew = Prefork(
            listener,
            listen.workers,
            announce,
            hold_timeout=settings.hold_timeout,
            # Each of them ends itself before.
            stop_timeout=listen.grace + settings.shutdown_delay + STOP_MARGIN + 2,
        )
        return await crew.serve()

    return asyncio.run(serve())


def _describe_reach(listener: "Listener") -> str:
    """Return what the announced address does not tell: from where it can be reached."""
    return " on all addresses" if listener.is_everywhere else ""
