"""A server is asked what its clients ask, and nothing besides: nothing more is counted or logged.

An author's middleware may count, bill or log what comes in, and a server may be a proxy that has to
ask another one. What Headway itself wants to know it finds out beneath that, or not at all.
"""

import logging
from collections import Counter
from typing import Any

import mcp_types as types
import pytest
from fastmcp import FastMCP
from fastmcp.server import create_proxy
from fastmcp.server.middleware import Middleware
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from tests.kit.peers import Modern, connect, each_era, served, text_of

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"shelf": {"type": "string", "x-mcp-header": "Shelf"}},
}
PLAIN: dict[str, Any] = {"type": "object", "properties": {"shelf": {"type": "string"}}}


class Books:
    """A lowlevel server with one tool; it notes what its handlers are asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.schema = SCHEMA
        self.server: Server[Any] = Server(
            "books", on_list_tools=self._list, on_call_tool=self._call
        )

    async def _list(self, _context: Any, _params: Any) -> types.ListToolsResult:
        self.asked["tools/list"] += 1
        return types.ListToolsResult(tools=[types.Tool(name="count", input_schema=self.schema)])

    async def _call(self, _context: Any, params: Any) -> types.CallToolResult:
        self.asked["tools/call"] += 1
        text = f"{params.arguments['shelf']}: 3"
        return types.CallToolResult(content=[types.TextContent(text=text)])


def lowlevel(seen: list[str]) -> Any:
    books = Books()
    books.schema = PLAIN
    books.server.middleware.append(_watching(seen))
    return books.server


def mcp_server(seen: list[str]) -> Any:
    server = MCPServer[Any]("books", middleware=[_watching(seen)])

    @server.tool()
    async def count(shelf: str) -> str:
        return f"{shelf}: 3"

    @server.prompt()
    async def ask(shelf: str) -> str:
        return shelf

    return server


def _watching(seen: list[str]) -> Any:
    async def watch(context: Any, call_next: Any) -> Any:
        seen.append(context.method)
        return await call_next(context)

    return watch


class Watch(Middleware):
    """Notes every message that a FastMCP server gets."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    async def on_message(self, context: Any, call_next: Any) -> Any:
        self._seen.append(context.method)
        return await call_next(context)


def fastmcp(seen: list[str]) -> Any:
    server: FastMCP[Any] = FastMCP("books", middleware=[Watch(seen)])

    @server.tool
    async def count(shelf: str) -> str:
        return f"{shelf}: 3"

    @server.prompt
    async def ask(shelf: str) -> str:
        return shelf

    return server


KINDS = pytest.mark.parametrize("build", [lowlevel, mcp_server, fastmcp])


@KINDS
@each_era
async def test_a_middleware_sees_what_the_client_asks_and_nothing_else(
    build: Any, era: str
) -> None:
    seen: list[str] = []
    async with served(build(seen)) as wire:
        client = await connect(wire, era)
        seen.clear()
        for shelf in ("novels", "maps", "novels"):
            answer = await client.call("count", {"shelf": shelf})
            assert text_of(await answer.outcome()) == f"{shelf}: 3"
        await client.request("tools/list")
        await client.call("count", {"shelf": "maps"})
        await client.call("unknown", {"shelf": "maps"})
    calls = ["tools/call"] * 3
    assert seen == [*calls, "tools/list", "tools/call", "tools/call"]


@pytest.mark.parametrize("build", [mcp_server, fastmcp])
@each_era
async def test_a_prompt_that_fails_is_asked_for_once(build: Any, era: str) -> None:
    seen: list[str] = []
    async with served(build(seen)) as wire:
        client = await connect(wire, era)
        seen.clear()
        for params in ({"name": "nothing"}, {"name": "ask"}):
            error = (await (await client.request("prompts/get", params)).outcome())["error"]
            assert error["code"] == -32602
    assert seen == ["prompts/get"] * 2


@KINDS
async def test_a_server_is_asked_nothing_as_it_starts(build: Any) -> None:
    seen: list[str] = []
    async with served(build(seen)):
        assert seen == []


async def test_the_tools_of_a_proxied_server_are_listed_when_a_client_lists_them() -> None:
    seen: list[str] = []
    async with served(create_proxy(fastmcp(seen), name="front")) as wire:
        assert seen == []
        modern = Modern(wire)
        for _ in range(3):
            assert (
                text_of(await (await modern.call("count", {"shelf": "maps"})).json()) == "maps: 3"
            )
    # FastMCP lists once by itself, to find the tool of the first call.
    assert seen.count("tools/list") <= 1
    assert seen.count("tools/call") == 3


async def test_a_call_is_counted_under_its_tools_name_before_anybody_has_listed_it() -> None:
    for build in (mcp_server, fastmcp):
        async with served(build([])) as wire:
            await Modern(wire).call("count", {"shelf": "maps"})
            await Modern(wire).call("nothing of the kind", {"shelf": "maps"})
            counted = {name for name, _ in wire.app.counters.ends}
        assert counted == {"count", "(other)"}


# Headers that mirror arguments


def params_of(shelf: str) -> dict[str, Any]:
    return {"name": "count", "arguments": {"shelf": shelf}}


async def is_refused(modern: Modern, shelf: str, header: str | None) -> bool:
    body = modern.body("tools/call", params_of(shelf))
    answer = await modern.post(body, {"Mcp-Param-Shelf": header})
    if answer.status == 200:
        assert text_of(await answer.json()) == f"{shelf}: 3"
        return False
    assert (await answer.json())["error"]["code"] == -32020
    return True


async def test_headers_are_held_against_a_tool_that_nobody_has_listed() -> None:
    books = Books()
    async with served(books.server) as wire:
        modern = Modern(wire)
        assert await is_refused(modern, "maps", "novels")
        assert await is_refused(modern, "maps", None)
        assert not await is_refused(modern, "maps", "maps")
    assert books.asked["tools/call"] == 1


async def test_the_tools_are_asked_for_once_however_many_calls_there_are() -> None:
    books = Books()
    async with served(books.server) as wire:
        modern = Modern(wire)
        for _ in range(20):
            assert not await is_refused(modern, "maps", "maps")
    assert books.asked == {"tools/list": 1, "tools/call": 20}


async def test_the_tools_are_not_asked_for_again_where_the_client_has_listed_them() -> None:
    books = Books()
    async with served(books.server) as wire:
        modern = Modern(wire)
        await modern.request("tools/list")
        for _ in range(3):
            assert not await is_refused(modern, "maps", "maps")
    assert books.asked == {"tools/list": 1, "tools/call": 3}


async def test_no_call_is_refused_for_what_a_tool_does_not_mirror_any_more() -> None:
    books = Books()
    async with served(books.server) as wire:
        modern = Modern(wire)
        assert await is_refused(modern, "maps", None)
        books.schema = PLAIN  # and nobody is told
        assert not await is_refused(modern, "maps", None)
        assert not await is_refused(modern, "maps", "novels")
        books.schema = SCHEMA
        await modern.request("tools/list")
        assert await is_refused(modern, "maps", None)


@pytest.mark.parametrize("raised", [LookupError("no tenant"), MCPError(-32603, "no tenant")])
async def test_a_call_is_served_where_its_tools_cannot_be_listed(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    books = Books()

    async def fail(_context: Any, _params: Any) -> Any:
        raise raised

    books.server.add_request_handler("tools/list", types.PaginatedRequestParams, fail)
    caplog.set_level(logging.INFO, "headway")
    async with served(books.server) as wire:
        for _ in range(3):
            assert not await is_refused(Modern(wire), "maps", "novels")
    complaints = [record for record in caplog.records if "Mcp-Param" in record.getMessage()]
    assert len(complaints) == 1
