"""A served MCP server as an ASGI app, alone or mounted in another one, from start to end."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Message, Receive, Scope, Send

from headway.asgi_server import Host, find_host
from headway.auth import note_pipe, noting_peer
from headway.clock import Clock
from headway.counters import Counters
from headway.engine import DEFAULT_QUEUE, Engine
from headway.errors import ProtocolError, SetupError
from headway.journal import Journal, open_journal
from headway.log_lines import quiet_logger
from headway.observability.metrics import Metrics
from headway.observability.probe_and_metrics_endpoints import Probes
from headway.protocol.methods import kind_of
from headway.repeated_log_lines import CLIENT_DRIVEN_LOGGERS, RefusalLog, limit_lines
from headway.served_object import Served
from headway.settings import Settings
from headway.start_and_stop import Life, Lives
from headway.transport.http.bearer_challenge import BearerChallenge
from headway.transport.http.browser_page import BrowserRedirect
from headway.transport.http.common_headers import CommonHeaders
from headway.transport.http.endpoint import HttpTransport
from headway.transport.http.host_check import Advice, Guard
from headway.transport.http.unfinished_requests import UnfinishedRequests
from headway.transport.stdio.pipe import Pipe

if TYPE_CHECKING:
    from headway.audit import AuditConfig

logger = quiet_logger(__name__)

APP_STOP_TIMEOUT = 1.5
"""Seconds that an app without its client waits for threads of tools and the server's own code."""

HOST_LOOK_INTERVAL: Final = 0.1
"""Seconds between two checks whether the server that the app runs in is stopping."""

FAREWELL_TIMEOUT: Final = 1.0
"""Seconds that are left for the last answers, of the time that such a server waits for them."""


class HeadwayApp(Starlette):
    """A served MCP server as an ASGI app. Made by `headway.asgi`.

    It is the Starlette app that the server itself builds, with its auth, metadata and custom
    routes, and may be treated as one (`add_middleware`, `routes`, `mount`).

    It may be started and stopped any number of times, in any event loop: each time everything is
    opened anew. What a `memory:` journal holds ends with each stop.
    """

    def __init__(
        self,
        served: Served,
        *,
        journal: str | Journal,
        path: str,
        host: str,
        settings: Settings,
        clock: Clock,
        advice: Advice,
        find_challenge: Callable[[Starlette, str], BearerChallenge | None],
        is_worker: bool = False,
        audit: "AuditConfig | None" = None,
    ) -> None:
        built = served.build(path, self.answer)
        super().__init__()
        vars(self).update(vars(built))
        self.router.lifespan_context = lambda _app: self.lifespan()
        self.name = served.name
        self.path = path
        self.settings = settings
        self.counters = Counters()
        self._is_worker = is_worker
        self._served = served
        self._clock = clock
        self._guard = Guard(settings, host, advice)
        self._challenge = find_challenge(self, path)
        self._journal_of_life = _journal_opener(journal, clock, settings)
        self._lives = Lives(partial(self._new_life, audit), self._run_life)
        self.metrics = Metrics(lambda: self.life)
        """Its metrics, for another registry of `prometheus_client`; see `/metrics`."""
        self._probes = Probes(self.metrics, settings, host, advice)
        self._edge = CommonHeaders(settings, path, self._refuse_request)
        limit_lines(*CLIENT_DRIVEN_LOGGERS)
        self.caller_note: Callable[[], str] | None = None
        """Returns what each caller of a tool is to know of this process; mostly nothing."""

    def _new_life(self, audit: "AuditConfig | None") -> Life:
        return Life(
            self._served,
            self._journal_of_life(),
            self.settings,
            clock=self._clock,
            guard=self._guard,
            bearer=self._challenge or BearerChallenge(),
            counters=self.counters,
            is_worker=self._is_worker,
            audit=audit,
            caller_note=lambda: "" if self.caller_note is None else self.caller_note(),
        )

    @property
    def _is_guarded(self) -> bool:
        """True when the endpoint is behind an auth."""
        return self._challenge is not None

    # The parts of its life

    @property
    def life(self) -> Life:
        """The life in the running event loop; elsewhere the one that was made last."""
        return self._lives.newest

    @property
    def journal(self) -> Journal:
        """The journal of its life."""
        return self.life.journal

    @property
    def engine(self) -> Engine:
        """The engine of its life."""
        return self.life.engine

    @property
    def transport(self) -> HttpTransport:
        """The MCP endpoint of its life."""
        return self.life.transport

    @property
    def calls_going(self) -> int:
        """The number of tool calls that have not ended."""
        runs = self.life.engine.runs.values()
        return sum(kind_of(run.request.method).is_counted for run in runs)

    @property
    def arrivals(self) -> UnfinishedRequests:
        """The requests of its life that have not been read completely."""
        return self.life.transport.arrivals

    @property
    def queues(self) -> list[str]:
        """Names of the queues in which runs of its tools wait for workers."""
        return sorted({DEFAULT_QUEUE, *(options.queue for options in self._served.tools.values())})

    # Answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        life = self._lives.here() or await self._lives.start_by_itself()
        if life.is_recording:
            with noting_peer(scope):
                await self._answer_http(life, scope, receive, send)
        else:
            await self._answer_http(life, scope, receive, send)

    async def _answer_http(self, life: Life, scope: Scope, receive: Receive, send: Send) -> None:
        if not life.takes_calls and scope.get("http_version", "").startswith("1"):
            send = _with_closing(send)
        scope = self._edge.read_as_endpoint(scope)
        if self._edge.is_plain(scope):
            await self._route_request(life, scope, receive, send)
        else:
            await self._edge.serve(partial(self._route_request, life), scope, receive, send)

    def record_refusal(self, status: int, limit: str | None, why: str, address: str | None) -> None:
        """Write a refusal that came before its request was read into the audit log, if any."""
        records = self.life.engine.services.options.records
        if records is not None:
            records.refuse(status, limit, why, address)

    async def _refuse_request(self, send: Send, error: ProtocolError) -> None:
        await self.life.transport.refuse(send, error)

    async def _route_request(self, life: Life, scope: Scope, receive: Receive, send: Send) -> None:
        path = _path_below(scope)
        if path in self._probes and not self._has_own_route(path):
            probe = self._probes[path](Request(scope), life.takes_calls)
            await probe(scope, receive, send)
        # Without middleware the router adds nothing to our own endpoint, so it is left out.
        elif path == self.path and not self.user_middleware and not self._is_guarded:
            await life.transport(scope, receive, send)
        else:
            if path == self.path and self._is_guarded:
                mark = _ServedMark()
                scope = {**scope, _MARK: mark}
                send = _with_refusals_told(send, life.transport.refusals, mark)
            await super().__call__(scope, receive, send)

    def answer_metrics(self, scope: Scope) -> Response | None:
        """Return the answer to a request for `/metrics` that came another way; None: it is off."""
        probe = self._probes.get("/metrics")
        return None if probe is None else probe(Request(scope), self.life.takes_calls)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to the MCP endpoint, wherever a router has found it."""
        life = self._lives.here() or await self._lives.start_by_itself()
        mark = scope.get(_MARK)
        if isinstance(mark, _ServedMark):
            mark.is_through = True
        await life.transport(scope, receive, send)

    def _has_own_route(self, path: str) -> bool:
        """Return whether the served object has a route at this path itself."""
        return any(getattr(route, "path", None) == path for route in self.routes)

    @property
    def has_auth(self) -> bool:
        """True when its endpoint is behind tokens: those of `[auth]`, or the object's own."""
        return self._is_guarded

    def redirect_browsers(self) -> None:
        """Send browsers that open `/` to the endpoint, if nothing else is there.

        For an app that has its host for itself. One that asks for tokens shows nobody the way.
        """
        root: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "root_path": "",
            "headers": [],
        }
        is_taken = any(route.matches(root)[0] is not Match.NONE for route in self.routes)
        if not is_taken and not self._is_guarded:
            app = BrowserRedirect(self._guard, self.path, self.router.not_found)
            self.router.routes.append(Route("/", app))

    # Starting and stopping

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Run journal, server lifespan and engine in the running event loop, while entered.

        Entering it again shares the life that goes on; after that is over, a new one starts.

        Raises:
            SetupError: The journal cannot be opened.
            Exception: The server's own lifespan ended before its time; what is inside is cancelled.
        """
        held = await self._lives.enter()
        try:
            async with _cancelled_with(held.task):
                yield
        finally:
            await self._lives.leave(held)

    @asynccontextmanager
    async def _run_life(self, life: Life) -> AsyncGenerator[None]:
        host = find_host()
        self._warn_of_others(life, host)
        async with life.running():
            watching = None if host is None else asyncio.create_task(self._watch_host(life, host))
            try:
                yield
            finally:
                if watching is not None:
                    watching.cancel()

    def _warn_of_others(self, life: Life, host: Host | None) -> None:
        """Log that sessions cannot be shared, where other processes serve the same app."""
        if host is None or host.processes < 2 or life.journal.is_durable or self.settings.stateless:
            return
        logger.warning(
            "%s serves %s with several processes, and each one's journal is memory: of its own: "
            "requests of a 2025 session that come to another process are refused with 404. Give "
            "headway.asgi a journal that they share: journal='sqlite:///file.db' or 'redis://…'",
            host.name,
            self.name,
        )

    async def _watch_host(self, life: Life, host: Host) -> None:
        """Drain when the server that the app runs in is stopping, which ASGI does not say."""
        while not host.is_stopping():  # noqa: ASYNC110 - it has no event that could be awaited
            await asyncio.sleep(HOST_LOOK_INTERVAL)
        if not life.takes_calls:
            return  # the program that runs the server drains the app as well
        grace = self.settings.grace
        if host.patience is not None:
            grace = min(grace, max(host.patience - FAREWELL_TIMEOUT, 0.0))
        logger.info("%s is stopping: calls may finish, for %g s", host.name, grace)
        try:
            async with asyncio.timeout(grace):
                await life.drain()
        except TimeoutError:
            logger.warning("calls were stopped that took longer than %g s to finish", grace)
        except Exception:
            logger.exception("draining failed; stopping all the same")
        if (held := self._lives.own()) is not None and held.life is life:
            held.closing.set()  # nobody else holds this life

    async def drain(self) -> None:
        """Accept no more calls, end the streams that wait for news, let calls finish.

        Call it when the process is told to stop, before the HTTP server waits for its
        connections, `settings.shutdown_delay` ahead. Returns when all calls have ended. Under
        uvicorn, hypercorn, Granian and Gunicorn that is done by itself, for `settings.grace`
        seconds.

        Cancellation (`asyncio.timeout`): what still goes on is stopped. Runs of tools with
        `restart` on a journal file are left to the next process, and the streams of clients that
        can come back are closed; other runs end as interrupted and are answered so. Parts that
        their authors shielded get up to 5 s more.
        """
        await self.life.drain()

    async def aclose(self) -> None:
        """Stop an app that started by itself; for those who mount it without `lifespan`."""
        if (held := self._lives.own()) is not None:
            await self._lives.leave(held)

    async def serve_pipe(self, pipe: Pipe, *, ready: Callable[[], object] | None = None) -> None:
        """Serve the one client at the other end of `pipe`, until it leaves or the pipe is ended.

        Starts the app, calls `ready`, and stops the app. Every run has its end in the journal
        `APP_STOP_TIMEOUT` seconds after the client left, or a little more.

        Raises:
            SetupError: The journal cannot be opened.
        """
        limit = asyncio.timeout(None)
        try:
            async with limit, self.lifespan():
                if ready is not None:
                    ready()
                if self.life.is_recording:
                    note_pipe()
                await self.life.serve_pipe(pipe).serve()
                limit.reschedule(asyncio.get_running_loop().time() + APP_STOP_TIMEOUT)
        except TimeoutError:
            if not limit.expired():
                raise
            logger.warning(
                "something did not stop within %g s and is left behind", APP_STOP_TIMEOUT
            )


def well_known(app: Starlette, *, at: str = "") -> list[BaseRoute]:
    """Return the routes of a mounted app that clients look for at the root of the host.

    OAuth metadata has its place there, whatever the path of what it describes (RFC 9728 3.1, RFC
    8414 3.1): `host.router.routes.extend(headway.well_known(tools, at="/tools"))`. `at` is where
    the app is mounted, for an authorization server in it, whose issuer has that path.
    """
    found: list[BaseRoute] = []
    for route in app.routes:
        if not isinstance(route, Route) or not route.path.startswith(_WELL_KNOWN):
            continue
        found.append(route)
        if at and route.path in _OF_ISSUERS:
            methods = None if route.methods is None else list(route.methods)
            found.append(Route(route.path + at.rstrip("/"), route.endpoint, methods=methods))
    return found


_WELL_KNOWN: Final = "/.well-known/"
_OF_ISSUERS: Final = (
    f"{_WELL_KNOWN}oauth-authorization-server",
    f"{_WELL_KNOWN}openid-configuration",
)


@asynccontextmanager
async def _cancelled_with(life: "asyncio.Task[None]") -> AsyncGenerator[None]:
    """Cancel the body when a life ends before its time; leaving the life then raises why."""
    inside = asyncio.current_task()
    assert inside is not None
    has_ended = False

    def end(_life: "asyncio.Task[None]") -> None:
        nonlocal has_ended
        has_ended = True
        inside.cancel()

    life.add_done_callback(end)
    try:
        yield
    except asyncio.CancelledError:
        if not has_ended or inside.uncancel() > 0:
            raise
    finally:
        life.remove_done_callback(end)


def _path_below(scope: Scope) -> str:
    """Return the path of a request below the path at which the app is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


_MARK: Final = "headway.served_mark"


class _ServedMark:
    """A request on its way through auth to the endpoint."""

    is_through = False
    """Whether the endpoint has it, which tells of its own refusals."""


def _with_refusals_told(send: Send, refusals: RefusalLog, mark: _ServedMark) -> Send:
    """Return a `send` that tells of what auth refuses, before the request comes to the endpoint."""

    async def tell(message: Message) -> None:
        status = message.get("status", 0)
        if not mark.is_through and status in _AUTH_REFUSALS:
            names = [name for name, _ in message["headers"]]
            if b"www-authenticate" in names or status == _UNCHECKED:
                refusals.tell(status, None, _AUTH_REFUSALS[status])
        await send(message)

    return tell


_UNCHECKED: Final = 503

_AUTH_REFUSALS: Final = {
    401: "it has no valid token",
    403: "its token does not have the scope",
    _UNCHECKED: "its token cannot be checked at the moment",
}


def _with_closing(send: Send) -> Send:
    """Return a `send` that adds `Connection: close` to an answer, unless it has that header."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if not any(name.lower() == b"connection" for name, _ in headers):
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return closing


def _journal_opener(
    journal: str | Journal, clock: Clock, settings: Settings
) -> Callable[[], Journal]:
    """Return a function that makes the journal of each life; a given journal is the first one's.

    The function raises `SetupError` where nothing says how another one is made.
    """
    given: list[Journal] = []
    retention, encryption = settings.retention, settings.encryption
    if isinstance(journal, Journal):
        given.append(journal)
        clock, retention, url = journal.clock, journal.retention, journal.url
        encryption = journal.encryption
    else:
        url = journal

    def opened() -> Journal:
        if given:
            return given.pop()
        if url:
            return open_journal(url, clock=clock, retention=retention, encryption=encryption)
        raise SetupError(
            "this app was started before, and the journal that it was given is closed; "
            "give headway.asgi the journal's URL, or make a new app"
        )

    return opened
