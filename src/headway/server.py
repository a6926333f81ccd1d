"""One MCP server, one journal and one engine put together: the only place that builds an app.

It is also the only place that knows the insides of servers: where the SDK or FastMCP offers no
public way, their private name is used here, and a test fails loudly when it moves.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import SubscriptionBus
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headway.api import Headway
from headway.app import HeadwayApp
from headway.clock import Clock
from headway.errors import SetupError
from headway.features import install
from headway.journal import Journal
from headway.protocol.methods import LISTEN
from headway.served_object import Served
from headway.settings import Settings
from headway.transport.http.bearer_challenge import BearerChallenge
from headway.transport.http.host_check import IN_AN_APP, Advice

if TYPE_CHECKING:
    from headway.audit import AuditConfig
    from headway.tokens import AuthConfig
    from headway.transport.http.caller_endpoint import FindCaller

__all__ = [
    "HeadwayApp",
    "Served",
    "asgi",
    "has_own_auth",
    "inspect_server",
    "serve_object",
    "worker_app",
]


def asgi(
    server: object,
    *,
    journal: str | Journal = "memory:",
    path: str = "/mcp",
    host: str = "127.0.0.1",
    settings: Settings | None = None,
    clock: Clock | None = None,
    advice: Advice = IN_AN_APP,
    auth: "AuthConfig | None" = None,
    audit: "AuditConfig | None" = None,
    principal: "FindCaller | None" = None,
) -> HeadwayApp:
    """Return an ASGI app that serves `server` at `path`.

    `server` is an `MCPServer` (a `Headway` among them), a lowlevel `Server` or a FastMCP 4
    server; its auth, metadata routes, custom routes and lifespan keep working. `host` is the
    address that will be listened on, for the Host check. The journal is opened and closed with
    the app. `advice` is how refusals name the settings that admit a request. With `auth` only
    requests with its tokens come to the endpoint; what the server has at other paths stays open.
    With `audit` each call, refusal and cancel is written into an audit log. `principal` returns who
    sends an ASGI request (its scope), for an app that has found that out itself: a name, an
    `AccessToken` of the SDK, which may have scopes and an end, or None for an anonymous caller.

    Mounted in another app it starts with its first request; to start and stop it with that
    app, enter `lifespan` in the other app's own.

    Raises:
        SetupError: `server` cannot be served, the journal's URL is malformed, or callers are found
            in two ways: by `auth`, by `principal`, by an auth of the server's own.
    """
    return _make_app(
        server,
        journal,
        path=path,
        host=host,
        settings=settings or Settings(),
        clock=clock,
        advice=advice,
        auth=auth,
        audit=audit,
        principal=principal,
    )


def worker_app(
    server: object, *, journal: str, settings: Settings, audit: "AuditConfig | None" = None
) -> HeadwayApp:
    """Return an app that answers nobody, for a process that executes queued runs with `server`.

    Raises:
        SetupError: `server` cannot be served, or the journal's URL is malformed.
    """
    return _make_app(server, journal, settings=settings, audit=audit, is_worker=True)


def _make_app(
    server: object,
    journal: str | Journal,
    *,
    settings: Settings,
    path: str = "/mcp",
    host: str = "127.0.0.1",
    clock: Clock | None = None,
    advice: Advice = IN_AN_APP,
    auth: "AuthConfig | None" = None,
    audit: "AuditConfig | None" = None,
    principal: "FindCaller | None" = None,
    is_worker: bool = False,
) -> HeadwayApp:
    if auth is not None and principal is not None:
        raise SetupError("auth and principal both say who calls; leave out one of them")
    served, clock = inspect_server(server), clock or Clock()
    serve_object(served)
    if auth is not None:
        served = replace(
            served,
            build=_behind_tokens(served, auth, clock.time),
            scopes=auth.tools,
            check_scopes=auth.check_tools,
        )
    elif principal is not None:
        served = replace(served, build=_with_callers(served, principal))
    return HeadwayApp(
        served,
        journal=journal,
        path=path,
        host=host,
        settings=settings,
        clock=clock,
        advice=advice,
        find_challenge=_find_challenge,
        is_worker=is_worker,
        audit=audit,
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
        every_tool=server.list_tools,
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

    async def list_every() -> list[Any]:
        from fastmcp.server.context import Context, _current_transport  # pyright: ignore[reportPrivateUsage]

        # Over stdio its components are for everybody, and nobody asks for them here.
        reset = _current_transport.set("stdio")
        try:
            async with Context(fastmcp=server):
                return list(await server.list_tools(run_middleware=False))
        finally:
            _current_transport.reset(reset)

    async def is_for_caller(name: str) -> bool:
        from fastmcp.server.context import Context

        async with Context(fastmcp=server):
            if await server.get_tool(name) is not None:
                return True
        return all(tool.name != name for tool in await list_every())  # it has no rules any more

    def is_alias(name: str) -> bool:
        # The second name of each tool, made of a hash; its form is another one in 4.1 and 4.2.
        from fastmcp.server.providers.addressing import parse_hashed_backend_name

        return parse_hashed_backend_name(name) is not None

    return Served(
        low.name,
        low,
        low.create_initialization_options,
        None,
        build,
        {},
        may_list=False,
        every_tool=list_every,
        own_check=is_for_caller,
        alias_check=is_alias,
    )


def _find_endpoint(app: Starlette, path: str) -> Any:
    """Return the innermost ASGI app of a route: under the auth wrapper, if there is one."""
    for route in app.routes:
        if isinstance(route, Route) and route.path == path:
            endpoint: Any = route.endpoint
            while not hasattr(endpoint, "session_manager") and hasattr(endpoint, "app"):
                endpoint = endpoint.app
            return endpoint
    raise SetupError(f"the server's own HTTP app has no route at {path}")


def _find_challenge(app: Starlette, path: str) -> BearerChallenge | None:
    """Return what the endpoint asks of tokens; None where it is not wrapped, as auth does."""
    for route in app.routes:
        if isinstance(route, Route) and route.path == path:
            outer: Any = route.endpoint
            if hasattr(outer, "session_manager"):
                return None
            if isinstance(outer, RequireAuthMiddleware):
                metadata = outer.resource_metadata_url
                return BearerChallenge(tuple(outer.required_scopes), str(metadata or ""))
            return getattr(outer, "challenge", BearerChallenge())
    return BearerChallenge()


def has_own_auth(server: object, path: str) -> bool:
    """Return whether a server asks for tokens itself; call it where the server is not served.

    Raises:
        SetupError: It cannot be served.
    """

    async def answer_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    app = inspect_server(server).build(path, answer_nothing)
    return _find_challenge(app, path) is not None


def _behind_tokens(
    served: Served, auth: "AuthConfig", now: Callable[[], float]
) -> Callable[[str, ASGIApp], Starlette]:
    """Return what builds the server's app with its endpoint behind tokens; `now` is since 1970."""
    from headway.tokens import TokenCheck
    from headway.transport.http.token_endpoint import TokenEndpoint, metadata_routes

    def gate(endpoint: ASGIApp) -> ASGIApp:
        return TokenEndpoint(endpoint, auth, TokenCheck(auth, now=now))

    instead = "leave out [auth] and --local-token, or take auth from the server"
    return _behind(served, gate, metadata_routes(auth, served.name), instead)


def _with_callers(served: Served, find_caller: "FindCaller") -> Callable[[str, ASGIApp], Starlette]:
    """Return what builds the server's app with an endpoint that is told who calls."""
    from headway.transport.http.caller_endpoint import CallerEndpoint

    def gate(endpoint: ASGIApp) -> ASGIApp:
        return CallerEndpoint(endpoint, find_caller)

    return _behind(served, gate, (), "leave out that, or principal")


def _behind(
    served: Served,
    gate: Callable[[ASGIApp], ASGIApp],
    routes: Sequence[BaseRoute],
    instead: str,
) -> Callable[[str, ASGIApp], Starlette]:
    """Return what builds the server's app with its endpoint behind a gate, and more routes.

    Raises:
        SetupError: When it builds: the server has an auth of its own. `instead` is what to do.
    """

    def build(path: str, endpoint: ASGIApp) -> Starlette:
        app = served.build(path, endpoint)
        if _find_challenge(app, path) is not None:
            raise SetupError(f"{served.name} has its own auth; {instead}")
        others = [each for each in app.routes if getattr(each, "path", None) != path]
        app.router.routes[:] = [Route(path, gate(endpoint)), *routes, *others]
        return app

    return build


# The installation of Headway's methods


def serve_object(served: Served) -> Server[Any]:
    """Install what Headway adds to a server, and return its low-level server."""
    install.install_features(
        served.low,
        publishes=served.bus is not None,
        may_list=served.may_list,
        is_bare=served.is_bare,
    )
    return served.low
