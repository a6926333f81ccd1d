"""What `serve` and `run` do once they have a server."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.cli.exits import report
from headway.server import asgi
from headway.settings import Settings

if TYPE_CHECKING:
    from headway.cli.streams import Streams


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server is found, and for how long after it was told to stop."""

    host: str
    port: int
    path: str
    grace: float


def start(
    server: object,
    *,
    journal: str,
    listen: Listen,
    settings: Settings,
    streams: "Streams | None" = None,
) -> None:
    """Serve `server` until a signal ends it, and say on stderr where it is.

    With `streams` it is served to the client behind them, until that one has had enough.
    """
    if streams is not None:
        from headway.cli.pipe import serve_pipe

        serve_pipe(server, streams=streams, journal=journal, settings=settings)
        return
    from headway.cli.serving import bind, serve_until_stopped

    app = asgi(server, journal=journal, path=listen.path, host=listen.host, settings=settings)
    listener = bind(listen.host, listen.port)

    def announce(origin: str) -> None:
        report(f"serving {app.name} at {origin}{listen.path} (Ctrl+C to stop)")

    serve_until_stopped(app, listener, announce=announce, grace=listen.grace)
