"""What `serve` and `run` do once they have a server."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.cli.exits import report
from headway.server import asgi, inspect_server
from headway.settings import Settings

if TYPE_CHECKING:
    from headway.cli.crew import Post
    from headway.cli.listener import Listener
    from headway.cli.streams import Streams


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server is found, by how many processes, and how long it may take to stop."""

    host: str
    port: int
    path: str
    grace: float
    workers: int = 1


def start(
    server: object,
    *,
    journal: str,
    listen: Listen,
    settings: Settings,
    streams: "Streams | None" = None,
) -> int:
    """Serve `server` until a signal ends it, and say on stderr where it is; gives the exit code.

    With `streams` it is served to the client behind them, until that one has had enough.
    """
    if streams is not None:
        from headway.cli.pipe import serve_pipe

        serve_pipe(server, streams=streams, journal=journal, settings=settings)
        return 0
    from headway.cli.crew import check_journal, post_of_worker

    post = post_of_worker()
    if post is None and listen.workers > 1:
        check_journal(journal)
        return _start_crew(server, listen)
    _serve(server, journal, listen, settings, post)
    return 0


def _serve(
    server: object, journal: str, listen: Listen, settings: Settings, post: "Post | None"
) -> None:
    from headway.cli.listener import bind
    from headway.cli.serving import serve_until_stopped

    app = asgi(server, journal=journal, path=listen.path, host=listen.host, settings=settings)
    listener = bind(listen.host, listen.port) if post is None else post.listener

    def announce(origin: str) -> None:
        if post is None:
            where = f"{origin}{listen.path}{_reach(listener)}"
            report(f"serving {app.name} at {where} (Ctrl+C to stop)")
        else:
            post.announce()

    serve_until_stopped(
        app,
        listener,
        announce=announce,
        grace=listen.grace,
        settings=settings,
        is_alone=post is None,
    )


def _start_crew(server: object, listen: Listen) -> int:
    from headway.cli.crew import Crew
    from headway.cli.listener import listening

    name, listener = inspect_server(server).name, listening(listen.host, listen.port)
    where = f"{listener.origin}{listen.path}{_reach(listener)}"

    def announce() -> None:
        report(f"serving {name} at {where} with {listen.workers} processes (Ctrl+C to stop)")

    async def serve() -> int:
        return await Crew(listener, listen.workers, announce).serve()

    return asyncio.run(serve())


def _reach(listener: "Listener") -> str:
    """What the address that is announced does not say."""
    return " on all addresses" if listener.is_everywhere else ""
