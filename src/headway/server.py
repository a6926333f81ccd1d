"""One MCP server, one journal and one engine put together: the only place that builds an app.

Also the only place that knows the insides of what can be served: where the SDK or FastMCP
offers no public way, the private name is touched here, and a test fails loudly when it moves.
"""

from typing import Any, cast

from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import SubscriptionBus
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from headway.api import Headway
from headway.app import HeadwayApp
from headway.clock import Clock
from headway.errors import SetupError
from headway.features import install
from headway.journal import Journal
from headway.protocol.methods import LISTEN
from headway.served import Served
from headway.settings import Settings
from headway.transport.http.guard import IN_AN_APP, Advice

__all__ = ["HeadwayApp", "Served", "asgi", "inspect_server", "serve_object", "worker_app"]


def asgi(
    server: object,
    *,
    journal: str | Journal = "memory:",
    path: str = "/mcp",
    host: str = "127.0.0.1",
    settings: Settings | None = None,
    clock: Clock | None = None,
    advice: Advice = IN_AN_APP,
) -> HeadwayApp:
    """Return an ASGI app that serves `server` at `path`.

    `server` is an `MCPServer` (a `Headway` among them), a lowlevel `Server` or a FastMCP 4
    server; its auth, metadata routes, custom routes and lifespan keep working. `host` is the
    address that will be listened on, for the Host check. The journal is opened and closed with
    the app. `advice` is how refusals name the settings that admit a request.

    Mounted in another app it starts with its first request; to start and stop it with that
    app, enter `lifespan` in the other app's own.

    Raises:
        SetupError: `server` cannot be served, or the journal's URL is malformed.
    """
    return _make_app(
        server,
        journal,
        path=path,
        host=host,
        settings=settings or Settings(),
        clock=clock,
        advice=advice,
    )


def worker_app(server: object, *, journal: str, settings: Settings) -> HeadwayApp:
    """Return an app that answers nobody, for a process that executes queued runs with `server`.

    Raises:
        SetupError: `server` cannot be served, or the journal's URL is malformed.
    """
    return _make_app(server, journal, settings=settings, is_worker=True)


def _make_app(
    server: object,
    journal: str | Journal,
    *,
    settings: Settings,
    path: str = "/mcp",
    host: str = "127.0.0.1",
    clock: Clock | None = None,
    advice: Advice = IN_AN_APP,
    is_worker: bool = False,
) -> HeadwayApp:
    served = inspect_server(server)
    serve_object(served)
    return HeadwayApp(
        served,
        journal=journal,
        path=path,
        host=host,
        settings=settings,
        clock=clock or Clock(),
        advice=advice,
        is_guarded=_is_guarded,
        is_worker=is_worker,
    )


# What can be served


def inspect_server(server: object) -> Served:
    """Return how `server` is served, by its kind.

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
    bus: SubscriptionBus | None = server._subscriptions  # pyright: ignore[reportPrivateUsage]
    if low.get_request_handler(LISTEN) is None:
        bus = None  # switched off: `subscriptions=False`

    def build(path: str, endpoint: ASGIApp) -> Starlette:
        # Not by its class: a `Headway` answers with what is made here.
        app = MCPServer.streamable_http_app(server, streamable_http_path=path)
        low.session_manager.asgi_app = endpoint  # pyright: ignore[reportAttributeAccessIssue]
        return app

    return Served(
        name=server.name,
        low=low,
        options=low.create_initialization_options,
        bus=bus,
        build=build,
        tools=server.tool_options if isinstance(server, Headway) else {},
        listed=server.list_tools,
        is_ours=isinstance(server, Headway),
        is_bare=True,
    )


def _lowlevel_server(server: Server[Any]) -> Served:
    def build(path: str, endpoint: ASGIApp) -> Starlette:
        app = server.streamable_http_app(streamable_http_path=path)
        server.session_manager.asgi_app = endpoint  # pyright: ignore[reportAttributeAccessIssue]
        return app

    return Served(server.name, server, None, None, build, {})


def _is_fastmcp(server: object) -> bool:
    # By name, so that FastMCP is neither needed nor imported to serve anything else.
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(server).__mro__]
    return "fastmcp.server.server.FastMCP" in kinds and isinstance(
        getattr(server, "_mcp_server", None), Server
    )


class _Manager:
    """The part of a session manager that FastMCP's endpoint uses."""

    def __init__(self, endpoint: ASGIApp) -> None:
        self.handle_request = endpoint


def _fastmcp_server(server: Any) -> Served:
    low: Server[Any] = server._mcp_server

    def build(path: str, endpoint: ASGIApp) -> Starlette:
        app: Starlette = server.http_app(path=path)
        _find_endpoint(app, path).session_manager = _Manager(endpoint)
        return app

    options = low.create_initialization_options
    return Served(low.name, low, options, None, build, {}, may_list=False)


def _find_endpoint(app: Starlette, path: str) -> Any:
    """Return the innermost ASGI app of a route: under the auth wrapper, if there is one."""
    for route in app.routes:
        if isinstance(route, Route) and route.path == path:
            endpoint: Any = route.endpoint
            while not hasattr(endpoint, "session_manager") and hasattr(endpoint, "app"):
                endpoint = endpoint.app
            return endpoint
    raise SetupError(f"the server's own HTTP app has no route at {path}")


def _is_guarded(app: Starlette, path: str) -> bool:
    """Return whether the endpoint is wrapped, as auth does."""
    return not any(
        isinstance(route, Route)
        and route.path == path
        and hasattr(route.endpoint, "session_manager")
        for route in app.routes
    )


# What the SDK leaves to each server


def serve_object(served: Served) -> Server[Any]:
    """Install what Headway adds to a server, and return its low-level server."""
    install.install_features(
        served.low,
        publishes=served.bus is not None,
        may_list=served.may_list,
        is_bare=served.is_bare,
    )
    return served.low
