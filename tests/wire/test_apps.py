"""What a server object brings along keeps working: auth, routes, lifespan, its place in an app."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import fastmcp
import pytest
from fastmcp.server.auth import StaticTokenVerifier
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.kit.auth import bearer, guarded_tools
from tests.kit.peers import Modern, Session, Wire, connect, each_era, progress_of, served, text_of

from headway import HeadwayApp, asgi
from headway.cli.server.http_server import serving
from headway.clock import Clock

pytestmark = pytest.mark.anyio

# Auth


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("token", [None, "nobody", ""])
async def test_a_request_without_a_valid_token_is_told_where_to_get_one(
    method: str, token: str | None
) -> None:
    tools = guarded_tools()
    async with served(tools.mcp) as wire:
        answer = await wire.ask(method, {} if token is None else bearer(token))
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert "resource_metadata" in answer.headers["www-authenticate"]


async def test_the_metadata_route_answers_without_a_token() -> None:
    tools = guarded_tools()
    async with served(tools.mcp) as wire:
        path = "/.well-known/oauth-protected-resource/mcp"
        answer = await wire.ask("GET", {}, path=path)
        assert answer.status == 200
        metadata = await answer.json()
        assert metadata["authorization_servers"] == ["https://issuer.example/"]
        assert metadata["scopes_supported"] == ["use"]


async def test_a_token_without_the_scope_is_a_403() -> None:
    tools = guarded_tools()
    async with served(tools.mcp) as wire:
        answer = await wire.ask("POST", bearer("narrow"))
        assert answer.status == 403
        assert "insufficient_scope" in answer.headers["www-authenticate"]


@pytest.mark.requirement("http.authentication")
@each_era
async def test_a_valid_token_passes_and_the_tool_sees_whose_it_is(era: str) -> None:
    tools = guarded_tools()
    async with served(tools.mcp) as wire:
        for name in ("alice", "mallory"):
            if era == "2025":
                session = await Session.open(wire, extra=bearer(f"{name}:1"))
                outcome = await (await session.call("whoami")).outcome()
            else:
                modern = Modern(wire)
                body = modern.body("tools/call", {"name": "whoami", "arguments": {}})
                outcome = await (await modern.post(body, bearer(f"{name}:1"))).outcome()
            assert text_of(outcome) == name


async def test_a_session_is_its_principals_and_nobody_elses() -> None:
    """Another principal's attempt looks like an unknown session, whatever it knows."""
    tools = guarded_tools()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire, extra=bearer("alice:1"))
        answer = await session.call("wait", token="t")
        await answer.message()
        cursor = answer.ids[-1]
        thief = Session(wire, session.version, session.id, bearer("mallory:1"))
        attempts = [
            await thief.request("ping"),
            await thief.get(),
            await thief.get(cursor),
            await thief.delete(),
            await thief.post({"jsonrpc": "2.0", "id": "x", "result": {}}),
        ]
        for attempt in attempts:
            assert attempt.status == 404
            assert b"wait" not in await attempt.body()
        answer.cut()
        tools.gate.open()
        fresh = Session(wire, session.version, session.id, bearer("alice:2"))
        messages = await (await fresh.get(cursor)).rest()
        assert text_of(messages[-1]) == "run 1"


# Routes and lifespan


@each_era
async def test_custom_routes_and_the_lifespans_state_are_there(era: str) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncGenerator[dict[str, str]]:
        seen.append("start")
        yield {"db": "open"}
        seen.append("stop")

    mcp = MCPServer("s", lifespan=lifespan)

    @mcp.tool()
    async def look(ctx: Context[dict[str, str], Any]) -> str:
        return ctx.request_context.lifespan_context["db"]

    @mcp.custom_route("/health", methods=["GET"])
    async def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    async with served(mcp) as wire:
        assert seen == ["start"]
        assert await (await wire.ask("GET", {}, path="/health")).body() == b"fine"
        assert (await wire.ask("GET", {}, path="/nowhere")).status == 404
        outcome = await (await (await connect(wire, era)).call("look")).outcome()
        assert text_of(outcome) == "open"
    assert seen == ["start", "stop"]


@each_era
async def test_a_lowlevel_server_is_served(era: str) -> None:
    async def tools(_: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> Any:
        return ListToolsResult(tools=[Tool(name="low", input_schema={"type": "object"})])

    async def call(ctx: ServerRequestContext[Any], params: CallToolRequestParams) -> Any:
        await ctx.session.report_progress(1, 2)
        return CallToolResult(content=[TextContent(type="text", text=params.name)])

    low: Server[Any] = Server("low", on_list_tools=tools, on_call_tool=call)
    async with served(low) as wire:
        client = await connect(wire, era)
        messages = await (await client.call("low", token="t")).rest()
        assert progress_of(messages) == [1, 2]
        assert text_of(messages[-1]) == "low"
        listed = await (await client.request("tools/list")).outcome()
        assert [tool["name"] for tool in listed["result"]["tools"]] == ["low"]


def fast() -> fastmcp.FastMCP[Any]:
    verifier = StaticTokenVerifier({"alice": {"client_id": "alice", "scopes": ["use"]}})
    server: fastmcp.FastMCP[Any] = fastmcp.FastMCP("fast", auth=verifier)

    @server.tool
    async def work(ctx: fastmcp.Context) -> str:
        await ctx.report_progress(1, 2)
        return "fast"

    @server.custom_route("/health", methods=["GET"])
    async def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    return server


@each_era
async def test_a_fastmcp_server_is_served_with_its_auth_and_routes(era: str) -> None:
    async with served(fast()) as wire:
        assert (await wire.ask("POST", {})).status == 401
        assert await (await wire.ask("GET", {}, path="/health")).body() == b"fine"
        if era == "2025":
            session = await Session.open(wire, extra=bearer("alice"))
            answer = await session.call("work", token="t")
        else:
            modern = Modern(wire)
            body = modern.body("tools/call", {"name": "work", "arguments": {}}, token="t")
            answer = await modern.post(body, bearer("alice"))
        messages = await answer.rest()
        assert progress_of(messages) == [1, 2]
        assert text_of(messages[-1]) == "fast"


# Mounted


def plain() -> MCPServer:
    mcp = MCPServer("plain")

    @mcp.tool()
    async def work(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2)
        return "done"

    return mcp


class Host(Starlette):
    """Somebody's application with a Headway app in it."""

    async def drain(self) -> None:
        """What `serving` wants; this application has nothing to end."""


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("home")


@asynccontextmanager
async def hosted(inner: HeadwayApp, **options: Any) -> AsyncGenerator[Wire]:
    host = Host(routes=[Route("/", home), Mount("/sub", app=inner)], **options)
    async with serving(host, grace=5) as origin:
        wire = Wire(origin, inner, Clock())
        wire.path = "/sub/mcp"
        try:
            yield wire
        finally:
            wire.cut_all()


@each_era
async def test_mounted_with_its_lifespan_it_starts_and_stops_with_the_host(era: str) -> None:
    inner = asgi(plain())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with inner.lifespan():
            yield

    async with hosted(inner, lifespan=lifespan) as wire:
        assert await (await wire.ask("GET", {}, path="/")).body() == b"home"
        messages = await (await (await connect(wire, era)).call("work", token="t")).rest()
        assert progress_of(messages) == [1, 2]
        assert text_of(messages[-1]) == "done"
    assert inner.journal.closed


@each_era
async def test_mounted_without_its_lifespan_it_starts_with_the_first_request(era: str) -> None:
    inner = asgi(plain())
    async with hosted(inner) as wire:
        calls = [connect(wire, era) for _ in range(3)]
        clients = await asyncio.gather(*calls)
        for client in clients:
            messages = await (await client.call("work", token="t")).rest()
            assert text_of(messages[-1]) == "done"
        await inner.aclose()
        assert inner.journal.closed


async def test_at_another_path_only_that_path_answers() -> None:
    async with served(plain(), path="/api/v1") as wire:
        assert (await wire.ask("POST", {}, path="/mcp")).status == 404
        wire.path = "/api/v1"
        session = await Session.open(wire)
        body = json.dumps(session.message("ping")).encode()
        assert (await wire.ask("POST", session.headers(), body)).status == 200
