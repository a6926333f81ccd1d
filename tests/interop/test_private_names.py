"""The names of the SDK and of FastMCP that Headway touches though they are private.

Most are in `headway/server.py`.

Nothing public does what they do. When a release moves one, these tests say where to look.
"""

from typing import Any

import pytest
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp import Client
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.routing import Route

from headway.server import _find_endpoint

PATH = "/mcp"


def endpoint_of(app: Starlette) -> Any:
    routes = [route for route in app.routes if isinstance(route, Route) and route.path == PATH]
    assert routes, f"no Route at {PATH}: change headway.server._find_endpoint to find the endpoint"
    return routes[0].endpoint


def test_mcpserver_has_its_lowlevel_server() -> None:
    low = getattr(MCPServer("x"), "_lowlevel_server", None)
    assert isinstance(low, Server), (
        "MCPServer._lowlevel_server is no lowlevel Server any more: "
        "change headway.server._mcp_server to get at it (the kernel serves that object)"
    )


def test_mcpserver_has_its_subscription_bus() -> None:
    bus = getattr(MCPServer("x"), "_subscriptions", None)
    assert callable(getattr(bus, "subscribe", None)), (
        "MCPServer._subscriptions is no SubscriptionBus any more: change "
        "headway.server._mcp_server to get at the bus, or 2025 sessions will not hear of changes"
    )


@pytest.mark.anyio
async def test_a_request_in_memory_shows_its_channel_and_its_connection() -> None:
    seen: list[bool] = []

    async def look(ctx: Any, call_next: Any) -> Any:
        session = ctx.session
        channel = getattr(session, "_request_outbound", None)
        seen.append(callable(getattr(channel, "progress", None)))
        seen.append(isinstance(getattr(session, "_connection", None), Connection))
        return await call_next(ctx)

    async with Client(MCPServer("x", middleware=[look])) as client:
        await client.list_tools()
    assert seen, "the SDK calls no middleware in memory any more: see headway.api.sdk_requests"
    assert all(seen), (
        "ServerSession._request_outbound or _connection has moved: change _channel_of and "
        "_connection_of in headway.api.sdk_requests"
    )


def test_fastmcp_has_its_lowlevel_server_and_its_name() -> None:
    server: FastMCP[Any] = FastMCP("x")
    assert isinstance(getattr(server, "_mcp_server", None), Server), (
        "FastMCP._mcp_server is no lowlevel Server any more: "
        "change headway.server._is_fastmcp and _fastmcp_server to get at it"
    )
    kind = type(server)
    assert f"{kind.__module__}.{kind.__qualname__}" == "fastmcp.server.server.FastMCP", (
        "FastMCP has moved: change the name that headway.server._is_fastmcp looks for"
    )


@pytest.mark.parametrize("server", [MCPServer("x"), Server("x")], ids=["MCPServer", "Server"])
def test_the_sdks_endpoint_asks_its_session_manager_for_the_app(server: Any) -> None:
    app = server.streamable_http_app(streamable_http_path=PATH)
    manager = getattr(endpoint_of(app), "session_manager", None)
    assert manager is not None, (
        "the endpoint of streamable_http_app() has no session_manager any more: "
        "change headway.server._find_endpoint and _is_guarded"
    )
    assert manager is server.session_manager, (
        "server.session_manager is not what the endpoint uses any more: "
        "change `build` in headway.server so that the endpoint gets our transport"
    )
    assert hasattr(manager, "asgi_app"), (
        "session_manager.asgi_app is gone, so replacing it has no effect: "
        "change `build` in headway.server so that the endpoint gets our transport"
    )


@pytest.mark.anyio
@pytest.mark.parametrize("server", [MCPServer("x"), Server("x")], ids=["MCPServer", "Server"])
async def test_the_sdks_endpoint_calls_what_is_put_in_place_of_asgi_app(server: Any) -> None:
    app = server.streamable_http_app(streamable_http_path=PATH)
    calls: list[Any] = []

    async def ours(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope)

    server.session_manager.asgi_app = ours
    await endpoint_of(app)({"type": "http"}, None, None)
    assert calls == [{"type": "http"}], (
        "the endpoint does not look up session_manager.asgi_app at each request any more: "
        "change `build` in headway.server so that the endpoint gets our transport"
    )


@pytest.mark.anyio
async def test_fastmcps_endpoint_calls_handle_request_of_its_session_manager() -> None:
    server: FastMCP[Any] = FastMCP("x")
    endpoint = endpoint_of(server.http_app(path=PATH))
    assert hasattr(endpoint, "session_manager"), (
        "the endpoint of FastMCP.http_app() has no session_manager any more: "
        "change headway.server._find_endpoint and _is_guarded"
    )
    calls: list[Any] = []

    class Manager:
        async def handle_request(self, scope: Any, receive: Any, send: Any) -> None:
            calls.append(scope)

    endpoint.session_manager = Manager()
    await endpoint({"type": "http"}, None, None)
    assert calls == [{"type": "http"}], (
        "FastMCP's endpoint does not call session_manager.handle_request any more: "
        "change headway.server._Manager to what it calls now"
    )


class Verifier(TokenVerifier):
    async def verify_token(self, token: str) -> AccessToken | None:
        return None


def _guarded() -> list[Any]:
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.test"),
        resource_server_url=AnyHttpUrl("https://me.test/mcp"),
        validate_token_resource=False,
    )
    mcp_server = MCPServer("x", auth=auth, token_verifier=Verifier())
    fastmcp_server: FastMCP[Any] = FastMCP("x", auth=StaticTokenVerifier(tokens={}))
    return [
        mcp_server.streamable_http_app(streamable_http_path=PATH),
        fastmcp_server.http_app(PATH),
    ]


@pytest.mark.parametrize("app", _guarded(), ids=["MCPServer", "FastMCP"])
def test_the_endpoint_is_found_below_the_auth_wrapper(app: Starlette) -> None:
    outermost = endpoint_of(app)
    assert not hasattr(outermost, "session_manager"), (
        "auth wraps the endpoint no more: headway.server._is_guarded cannot tell that it is on"
    )
    assert hasattr(_find_endpoint(app, PATH), "session_manager"), (
        "the auth wrapper holds the endpoint under another name than `app`: "
        "change headway.server._find_endpoint"
    )


def test_mcpserver_has_its_tools_and_what_reads_and_writes_for_them() -> None:
    mcp = MCPServer("x")

    @mcp.tool()
    def size() -> int:
        return 1

    tool = getattr(mcp, "_tool_manager", None) and mcp._tool_manager.get_tool("size")
    assert tool is not None, (
        "MCPServer._tool_manager is gone: change headway.api.headway_server.Headway._prepare, "
        "or tools of Headway have the SDK's rules for what goes in and out"
    )
    metadata = tool.fn_metadata
    assert all(
        callable(getattr(metadata, name, None))
        for name in ("validate_arguments", "convert_result", "pre_parse_json", "_output_adapter")
    ), "FuncMetadata has changed: look at headway.api.tool_results.ToolMetadata, which extends it"
