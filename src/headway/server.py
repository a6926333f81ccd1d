"""One MCP server, one journal and one engine put together: the only place that builds an app.

Also the only place that knows the insides of what can be served: where the SDK or FastMCP
offers no public way, the private name is touched here, and a test fails loudly when it moves.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from math import inf
from typing import Any, cast

from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import SubscriptionBus
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from headway import handles, levels, prompts, resources, tasks
from headway.api import Headway
from headway.clock import Clock
from headway.engine import DEFAULT_QUEUE, Engine, ToolOptions, finish, give_back, leave_shields
from headway.errors import SetupError
from headway.journal import Journal, open_journal
from headway.log_limits import SAY_WHAT_CLIENTS_DO, limit_lines
from headway.metrics import Metrics
from headway.probes import Probes
from headway.queues import Queues, may_have_queues, open_queues
from headway.settings import Settings
from headway.transport.bridge import Bridge
from headway.transport.edge import Edge
from headway.transport.guard import Guard, Receive, Scope, Send
from headway.transport.http import HttpTransport
from headway.transport.kernel import Kernel
from headway.transport.pipe import Pipe
from headway.transport.sessions import Sessions
from headway.transport.stdio import StdioTransport
from headway.transport.watching import Watchers

logger = logging.getLogger(__name__)

STOP_WITHIN = 1.5
"""Seconds that an app without its client waits for threads of tools and the server's own code."""


@dataclass(frozen=True, slots=True)
class Served:
    """What Headway needs of a server object, whatever its kind."""

    name: str
    low: Server[Any]
    options: Callable[[], InitializationOptions] | None
    bus: SubscriptionBus | None
    """Where its change events are published; None when nobody outside can hear them."""
    build: Callable[[str, HttpTransport], Starlette]
    """Its own HTTP app, with auth, metadata and custom routes, around our endpoint."""
    tools: dict[str, ToolOptions]
    listed: Callable[[], Awaitable[Iterable[Any]]] | None = None
    """Lists its tools outside of any request; None where only a client can ask."""
    is_ours: bool = False
    """Whether it is a `Headway`, whose lists may show what Headway adds."""

    async def tool_names(self) -> list[str]:
        """The names of its tools, as far as it tells them before a client asks."""
        names = list(self.tools)
        with suppress(Exception):  # its own code; `tools/list` will tell
            names += [tool.name for tool in await self.listed()] if self.listed else []
        return names

    def options_of(self, tool: str) -> ToolOptions:
        """What the author set for a tool."""
        return self.tools.get(tool, _NO_OPTIONS)

    def for_workers(self, where: str) -> str:
        """The tools that workers are to execute; `where` is for those that do not say it."""
        named = (name for name, own in self.tools.items() if (own.where or where) == "worker")
        return ", ".join(named) or ("all tools" if where == "worker" else "")

    def has_windows(self) -> bool:
        """Whether the author set a window for a tool."""
        windows = (options.hand_over for options in self.tools.values())
        return any(window is not None and window < inf for window in windows)


_NO_OPTIONS = ToolOptions()


def asgi(
    server: object,
    *,
    journal: str | Journal = "memory:",
    path: str = "/mcp",
    host: str = "127.0.0.1",
    settings: Settings | None = None,
    clock: Clock | None = None,
) -> "HeadwayApp":
    """An ASGI app that serves `server` at `path`.

    `server` is an `MCPServer` (a `Headway` among them), a lowlevel `Server` or a FastMCP 4
    server; its auth, metadata routes, custom routes and lifespan keep working. `host` is the
    address that will be listened on, for the Host check. The journal is opened and closed with
    the app.

    Mounted in another app it starts with its first request; to start and stop it with that
    app, enter `lifespan` in the other app's own.

    Raises:
        SetupError: `server` cannot be served, or the journal's URL is malformed.
    """
    settings, clock, served = settings or Settings(), clock or Clock(), inspect_server(server)
    if isinstance(journal, str):
        journal = open_journal(journal, clock=clock, retention=settings.retention)
    return HeadwayApp(served, journal=journal, path=path, host=host, settings=settings, clock=clock)


class HeadwayApp:
    """A served MCP server as an ASGI app. Made by `asgi`."""

    def __init__(
        self,
        served: Served,
        *,
        journal: Journal,
        path: str,
        host: str,
        settings: Settings,
        clock: Clock,
    ) -> None:
        equipped(served)
        limit_lines(*SAY_WHAT_CLIENTS_DO)
        self.name = served.name
        self.path = path
        self.journal = journal
        self.engine = Engine(journal, settings, clock=clock, options=served.options_of)
        self.engine.has_windows = served.has_windows
        if served.low.get_request_handler("resources/read") is not None:
            self.engine.most_result = settings.max_result
        self._served = served
        self._kernel = Kernel(served.low)
        self.tally = self.engine.tally
        self._sessions = Sessions(journal, settings, clock)
        self._bridge = Bridge(served.bus, self._sessions)
        self._watchers = Watchers(journal, clock, self._bridge.tell_of_run)
        self.transport = HttpTransport(
            self._kernel,
            self.engine,
            self._sessions,
            settings=settings,
            clock=clock,
            guard=Guard(settings, host),
            watchers=self._watchers,
        )
        self.arrivals = self.transport.arrivals
        self.engine.left = lambda run: self.transport.answers.close(run.stream)
        self.metrics = Metrics(self.engine, self._sessions, self.transport)
        """What it does, for another registry of `prometheus_client`; see `/metrics`."""
        self._probes = Probes(self.metrics, settings, host)
        self._edge = Edge(settings, path, self.transport.refuse)
        self._app = served.build(path, self.transport)
        self._app.router.lifespan_context = lambda _app: self.lifespan()
        # Without middleware the router has nothing to add to our own endpoint.
        self._is_direct = not self._app.user_middleware and not _is_guarded(self._app, path)
        self.works = False
        """Whether it is a worker's, and answers nobody."""
        self._starting = asyncio.Lock()
        self._is_running = self._is_leaving = False
        self._own: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._is_running:
            await self._start_by_itself()
        scope = self._edge.read_as_endpoint(scope)
        if self._edge.is_plain(scope):
            await self._route(scope, receive, send)
        else:
            await self._edge.serve(self._route, scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in self._probes and not self._has_own(scope["path"]):
            is_ready = self._is_running and not self._is_leaving
            probe = self._probes[scope["path"]]
            await probe(Request(scope), is_ready)(scope, receive, send)
        elif self._is_direct and scope["path"] == self.path and not scope.get("root_path"):
            await self.transport(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @property
    def queues(self) -> list[str]:
        """Where runs of its tools wait for workers."""
        return sorted({DEFAULT_QUEUE, *(options.queue for options in self._served.tools.values())})

    def _has_own(self, path: str) -> bool:
        """Whether the served object has a route at this path itself."""
        return any(getattr(route, "path", None) == path for route in self._app.routes)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Journal, server lifespan and engine, from start to stop.

        Raises:
            SetupError: The journal cannot be opened.
        """
        low = self._served.low
        async with self._queues() as queues, self.journal, low.lifespan(low) as state:
            self.engine.dispatch.queues = queues
            self._kernel.state = state
            if self._served.options is not None:
                self._kernel.options = self._served.options()
            self.engine.reopen = self._kernel.again
            await self.engine.start()
            self.tally.know(await self._served.tool_names())
            await self._sessions.start()
            self._bridge.open()
            self._is_running, self._is_leaving = True, False
            try:
                yield
            finally:
                self._is_running = False
                self._bridge.close()
                self.transport.end_idle_streams()
                await self._watchers.stop()
                await self.engine.stop()
                await self._sessions.stop()

    def _queues(self) -> AbstractAsyncContextManager[Queues | None]:
        """Where calls wait for workers, if any are for them and the journal can be shared.

        Raises:
            SetupError: What that needs is not installed.
        """
        settings = self.engine.settings
        wanted = self._served.for_workers(settings.where)
        if self.works:
            return open_queues(self.journal.url, lease=settings.lease)
        if not wanted:
            return nullcontext()
        if not may_have_queues(self.journal.url):
            logger.warning("executed here: %s; workers need a journal in Redis", wanted)
            return nullcontext()
        return open_queues(self.journal.url, lease=settings.lease)

    async def serve_pipe(self, pipe: Pipe, *, ready: Callable[[], object] | None = None) -> None:
        """Serve the one client at the other end of `pipe`, until it leaves or the pipe is ended.

        Starts the app, calls `ready`, and stops the app: it is for nobody else. Every run has
        its end in the journal `STOP_WITHIN` seconds after the client left, or a little more.

        Raises:
            SetupError: The journal cannot be opened.
        """
        transport = StdioTransport(
            self._kernel,
            self.engine,
            self._sessions,
            settings=self.engine.settings,
            watchers=self._watchers,
            pipe=pipe,
        )
        limit = asyncio.timeout(None)
        try:
            async with limit, self.lifespan():
                if ready is not None:
                    ready()
                await transport.serve()
                limit.reschedule(asyncio.get_running_loop().time() + STOP_WITHIN)
        except TimeoutError:
            if not limit.expired():
                raise
            logger.warning("something did not stop within %g s and is left behind", STOP_WITHIN)

    async def drain(self) -> None:
        """Take no more calls, end the streams that wait for news, let calls finish.

        To be called when the process is told to stop, before the HTTP server waits for its
        connections, `settings.notice` ahead. Returns when all calls have ended.

        Cancellation (`asyncio.timeout`): what still goes on is stopped. Runs of tools with
        `restart` on a journal file are left to the next process, and the streams of clients that
        can come back are closed; other runs end as interrupted and their clients are told. Parts
        that their authors shielded get up to 5 s more.
        """
        self._is_leaving = True
        try:
            await self.engine.clock.sleep(self.engine.settings.notice)
            self.transport.end_idle_streams()
            await finish(self.engine)
        finally:
            await leave_shields(self.engine)
            give_back(self.engine)
            # Their runs may go on in other processes: those are not waited for.
            self.transport.answers.end()

    async def aclose(self) -> None:
        """Stop an app that started by itself; for those who mount it without `lifespan`."""
        if self._own is not None and self._closing is not None:
            self._closing.set()
            await self._own
            self._own = None

    async def _start_by_itself(self) -> None:
        """Mounted in an app that did not run our lifespan: run it in a task of our own."""
        async with self._starting:
            if self._is_running:
                return
            started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._closing = asyncio.Event()
            self._own = asyncio.create_task(self._live(started, self._closing))
            await started

    async def _live(self, started: "asyncio.Future[None]", closing: asyncio.Event) -> None:
        try:
            async with self.lifespan():
                started.set_result(None)
                await closing.wait()
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)


# What can be served


def inspect_server(server: object) -> Served:
    """What `server` is and how it is served.

    Raises:
        SetupError: It is none of the kinds that can be served.
    """
    if isinstance(server, MCPServer):
        return _mcp_server(cast("MCPServer[Any]", server))
    if isinstance(server, Server):
        return _lowlevel_server(cast("Server[Any]", server))
    if _is_fastmcp(server):
        return _fastmcp_server(server)
    raise SetupError(
        f"{type(server).__module__}.{type(server).__qualname__} is no MCP server; Headway serves "
        "mcp.server.MCPServer, mcp.server.lowlevel.Server, fastmcp.FastMCP (4.x) and Headway"
    )


def _mcp_server(server: MCPServer[Any]) -> Served:
    low: Server[Any] = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
    bus: SubscriptionBus = server._subscriptions  # pyright: ignore[reportPrivateUsage]

    def build(path: str, transport: HttpTransport) -> Starlette:
        app = server.streamable_http_app(streamable_http_path=path)
        server.session_manager.asgi_app = transport  # pyright: ignore[reportAttributeAccessIssue]
        return app

    return Served(
        name=server.name,
        low=low,
        options=lambda: low.create_initialization_options(
            NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        ),
        bus=bus,
        build=build,
        tools=server.tool_options if isinstance(server, Headway) else {},
        listed=server.list_tools,
        is_ours=isinstance(server, Headway),
    )


def _lowlevel_server(server: Server[Any]) -> Served:
    def build(path: str, transport: HttpTransport) -> Starlette:
        app = server.streamable_http_app(streamable_http_path=path)
        server.session_manager.asgi_app = transport  # pyright: ignore[reportAttributeAccessIssue]
        return app

    return Served(server.name, server, None, None, build, {})


def _is_fastmcp(server: object) -> bool:
    # By name, so that FastMCP is neither needed nor imported to serve anything else.
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(server).__mro__]
    return "fastmcp.server.server.FastMCP" in kinds and isinstance(
        getattr(server, "_mcp_server", None), Server
    )


class _Manager:
    """What FastMCP's endpoint expects of a session manager."""

    def __init__(self, transport: HttpTransport) -> None:
        self.handle_request = transport.__call__


def _fastmcp_server(server: Any) -> Served:
    low: Server[Any] = server._mcp_server

    def build(path: str, transport: HttpTransport) -> Starlette:
        app: Starlette = server.http_app(path=path)
        _endpoint(app, path).session_manager = _Manager(transport)
        return app

    return Served(
        low.name, low, low.create_initialization_options, None, build, {}, server.list_tools
    )


def _endpoint(app: Starlette, path: str) -> Any:
    """The innermost ASGI app of a route: under the auth wrapper, if there is one."""
    for route in app.routes:
        if isinstance(route, Route) and route.path == path:
            endpoint: Any = route.endpoint
            while not hasattr(endpoint, "session_manager") and hasattr(endpoint, "app"):
                endpoint = endpoint.app
            return endpoint
    raise SetupError(f"the server's own HTTP app has no route at {path}")


def _is_guarded(app: Starlette, path: str) -> bool:
    """Whether the endpoint is wrapped, as auth does."""
    return not any(
        isinstance(route, Route)
        and route.path == path
        and hasattr(route.endpoint, "session_manager")
        for route in app.routes
    )


# What the SDK leaves to each server


def equipped(served: Served) -> Server[Any]:
    """The low-level server, answering for what Headway adds to it."""
    levels.equip(served.low)
    resources.equip(served.low, listed=served.is_ours)
    tasks.equip(served.low)
    handles.equip(served.low)
    prompts.equip(served.low)
    return served.low
