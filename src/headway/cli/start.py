"""What `serve` and `run` do once they have a server."""

from dataclasses import dataclass

from headway.cli.exits import report
from headway.cli.serving import bind, serve_until_stopped
from headway.server import asgi
from headway.settings import Settings


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server is found."""

    host: str
    port: int
    path: str


def start(server: object, *, journal: str, listen: Listen, settings: Settings) -> None:
    """Serve `server` until a signal ends it, and say on stderr where it is."""
    app = asgi(server, journal=journal, path=listen.path, host=listen.host, settings=settings)
    listener = bind(listen.host, listen.port)

    def announce(origin: str) -> None:
        report(f"serving {app.name} at {origin}{listen.path} (Ctrl+C to stop)")

    serve_until_stopped(app, listener, announce=announce)
