"""Serving: the part that `serve` and `run` share, once they have a server."""

import asyncio
import os
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from headway.cli.exit_codes import report_line
from headway.cli.server.known_callers import NOBODY_SAID, KnownCallers, check_callers
from headway.cli.server.service_manager import tell_ready
from headway.errors import SetupError
from headway.observability.metrics_of_processes import DIRECTORY, Snapshots
from headway.server import HeadwayApp, asgi, has_own_auth, inspect_server
from headway.settings import Settings
from headway.transport.http.host_check import ON_COMMAND_LINE, Advice

if TYPE_CHECKING:
    from headway.audit import AuditConfig
    from headway.cli.local_token import LocalToken
    from headway.cli.server.event_loop import LoopName
    from headway.cli.server.listener import Listener
    from headway.cli.server.prefork import Inherited
    from headway.cli.server.reload import ReloadNote
    from headway.cli.server.standard_streams import Streams


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The address of a server, its number of processes, and the time that its stop may take."""

    host: str
    port: int
    path: str
    grace: float
    workers: int = 1
    uds: Path | None = None
    """A socket in the file system, instead of the port."""
    fd: int | None = None
    """A socket that is open already, instead of the port."""
    certificate: Path | None = None
    """A file with the certificates to show to clients; then TLS is spoken."""
    key: Path | None = None
    """The file with the certificate's key, where the certificate's file does not have it."""
    root_path: str = ""
    """The path below which a proxy serves this server."""
    forwarded_allow_ips: str | None = None
    """Addresses of proxies whose `X-Forwarded-*` headers are believed."""
    reload: tuple[Path, ...] = ()
    """Files and directories whose change brings the newest code; empty: nothing is watched."""
    callers: KnownCallers = NOBODY_SAID
    """The callers that it lets in."""
    on_reloading: Callable[[str], None] | None = None
    """Called once with the URL when a server that reloads can be reached."""


def start_serving(
    server: object,
    *,
    journal: str,
    listen: ListenOptions,
    settings: Settings,
    audit: "AuditConfig | None" = None,
    streams: "Streams | None" = None,
    advice: Advice = ON_COMMAND_LINE,
    loop: "LoopName" = "auto",
    note: "ReloadNote | None" = None,
) -> int:
    """Serve `server` until a signal ends it, and announce its address; return the exit code.

    With `streams` it is served to the client at their other end, until that closes them.
    """
    if streams is not None:
        from headway.cli.server.stdio_server import serve_pipe

        serve_pipe(
            server, streams=streams, journal=journal, settings=settings, audit=audit, loop=loop
        )
        return 0
    from headway.cli.server.prefork import check_journal, inherited_by_worker

    check_certificate(listen)
    post = inherited_by_worker()
    if post is None and (listen.workers > 1 or listen.reload):
        check_journal(journal, "--workers" if listen.workers > 1 else "--reload")
        return _start_crew(server, journal, listen, settings)
    app = asgi(
        server,
        journal=journal,
        path=listen.path,
        host=listen.host,
        settings=settings,
        advice=advice,
        auth=listen.callers.auth,
        audit=audit,
    )
    app.redirect_browsers()
    if note is not None:
        app.caller_note = note.read
    shared = os.environ.pop(DIRECTORY, None)
    if shared is not None:
        app.metrics.snapshots = Snapshots(Path(shared))
    _serve(app, journal, listen, settings, post, loop, note)
    return 0


def _serve(
    app: HeadwayApp,
    journal: str,
    listen: ListenOptions,
    settings: Settings,
    post: "Inherited | None",
    loop: "LoopName",
    note: "ReloadNote | None",
) -> None:
    from headway.cli.server.http_server import serve_until_stopped

    listener = post.listener if post is not None else open_listener(listen)
    if post is None:
        check_callers(listener, listen.callers, lambda: app.has_auth)

    def announce(origin: str) -> None:
        if post is None:
            where = f"{origin}{listen.path}{_describe_reach(listener)}"
            report_line(f"serving {app.name} at {where} (Ctrl+C to stop)")
            report_line(facts_text(app.counters.tool_count, journal))
            tell_ready()
        else:
            post.announce(app.metrics.write_snapshot)

    with offering_token(listen.callers.local_token if post is None else None, listener):
        serve_until_stopped(
            app,
            listener,
            announce=announce,
            grace=listen.grace,
            settings=settings,
            connection=connection_options(listen),
            is_alone=post is None,
            on_retired=None if post is None or note is None else post.report_retired,
            loop=loop,
        )
    app.metrics.write_snapshot()  # the last: what it has counted stays


@contextmanager
def offering_token(token: "LocalToken | None", listener: "Listener") -> Generator[None]:
    """Keep the token of this start in its files while inside, and say where; None: there is none.

    Raises:
        SetupError: It cannot be written.
    """
    if token is None:
        yield
        return
    with token.offered(listener) as file:
        report_line(
            f"calls need the token in {file}: headway call and tools find it there, other clients "
            "send it as Authorization: Bearer TOKEN"
        )
        yield


def _hash_for_workers(token: "LocalToken | None") -> dict[str, str]:
    if token is None:
        return {}
    from headway.cli.local_token import HASH

    return {HASH: token.sha256}


def open_listener(listen: ListenOptions) -> "Listener":
    """Return the sockets to serve on, not listening yet.

    Raises:
        SetupError: They cannot be had.
    """
    from headway.cli.server.listener import bind, bind_file, inherit

    if listen.uds is not None:
        listener = bind_file(listen.uds)
    elif listen.fd is not None:
        listener = inherit(listen.fd)
    else:
        listener = bind(listen.host, listen.port)
    listener.scheme = "http" if listen.certificate is None else "https"
    return listener


def connection_options(listen: ListenOptions) -> dict[str, Any]:
    """Return uvicorn's options about TLS and proxies."""
    return {
        "ssl_certfile": listen.certificate,
        "ssl_keyfile": listen.key,
        "root_path": listen.root_path,
        "forwarded_allow_ips": listen.forwarded_allow_ips,
    }


def check_certificate(listen: ListenOptions) -> None:
    """See that the certificate can be used, before anything is started.

    Raises:
        SetupError: It cannot be read, or its key does not fit.
    """
    if listen.certificate is None:
        if listen.key is not None:
            raise SetupError("--ssl-keyfile needs the certificate: --ssl-certfile FILE")
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            listen.certificate, listen.key, password=""
        )
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"--ssl-certfile {listen.certificate} cannot be used: {error}") from error


def facts_text(tools: int, journal: str) -> str:
    """Return what the second line of a start says: version, tools, and where the journal is.

    Servers that list their tools only to clients have none to count here.
    """
    from importlib.metadata import version

    from headway.cli.journal_access.user_journals import shown_journal

    many = "" if not tools else "1 tool, " if tools == 1 else f"{tools} tools, "
    where = "in memory" if journal.startswith("memory:") else shown_journal(journal)
    return f"headway {version('headway')}, {many}journal {where}"


def _start_crew(server: object, journal: str, listen: ListenOptions, settings: Settings) -> int:
    from headway.cli.server.listener import start_listening
    from headway.cli.server.reload import check_reload, new_note

    if listen.reload:
        check_reload()
    served = inspect_server(server)
    tools = len(set(asyncio.run(served.tool_names())))
    listener = open_listener(listen)
    check_callers(listener, listen.callers, lambda: has_own_auth(server, listen.path))
    start_listening(listener)
    where = f"{listener.origin}{listen.path}{_describe_reach(listener)}"
    processes = f" with {listen.workers} processes" if listen.workers > 1 else ""
    watched = ", and again whenever a file changes" if listen.reload else ""

    def announce() -> None:
        report_line(f"serving {served.name} at {where}{processes}{watched} (Ctrl+C to stop)")
        report_line(facts_text(tools, journal))
        tell_ready()
        if listen.on_reloading is not None:
            listen.on_reloading(f"{listener.origin}{listen.path}")

    with (
        listener,
        offering_token(listen.callers.local_token, listener),
        new_note() as note,
        TemporaryDirectory(prefix="headway-metrics-") as directory,
    ):
        return asyncio.run(_keep_crew(listener, listen, settings, announce, note, directory))


async def _keep_crew(
    listener: "Listener",
    listen: ListenOptions,
    settings: Settings,
    announce: Callable[[], None],
    note: "ReloadNote",
    directory: str,
) -> int:
    from headway.cli.server.http_server import STOP_MARGIN
    from headway.cli.server.prefork import Prefork, Reload

    crew = Prefork(
        listener,
        listen.workers,
        announce,
        hold_timeout=settings.hold_timeout,
        # Each worker ends itself before.
        stop_timeout=listen.grace + settings.shutdown_delay + STOP_MARGIN + 2,
        reload=Reload(listen.reload, note) if listen.reload else None,
        environment={DIRECTORY: directory, **_hash_for_workers(listen.callers.local_token)},
        on_worker_end=Snapshots(Path(directory)).fold_ended,
    )
    return await crew.serve()


def _describe_reach(listener: "Listener") -> str:
    """Return the part of the announcement that says from where the server can be reached."""
    return " on all addresses" if listener.is_everywhere else ""
