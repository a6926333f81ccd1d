"""Servers of each kind, and ways to serve them, whose calls workers execute."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcp import Client
from mcp_types import TextContent
from tests.kit.program import Programs, programs_in

pytestmark = pytest.mark.anyio

HOUSES = {
    "fastmcp": """
import os
from fastmcp import FastMCP
mcp = FastMCP("house")

@mcp.tool
def pid() -> str:
    return str(os.getpid())
""",
    "lowlevel": """
import os
from mcp.server import Server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool

async def tools(ctx, params):
    return ListToolsResult(tools=[Tool(name="pid", input_schema={"type": "object"})])

async def call(ctx, params):
    return CallToolResult(content=[TextContent(type="text", text=str(os.getpid()))])

mcp = Server("house", on_list_tools=tools, on_call_tool=call)
""",
    "mcpserver": """
import os
from mcp.server import MCPServer
mcp = MCPServer("house")

@mcp.tool()
def pid() -> str:
    return str(os.getpid())
""",
}
"""A server of each kind that knows nothing of Headway."""


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


@pytest.mark.parametrize(
    ("house", "options"),
    [
        ("fastmcp", ()),
        ("lowlevel", ()),
        ("mcpserver", ()),
        ("mcpserver", ("--stateless",)),
        ("mcpserver", ("--workers", "2")),
    ],
)
async def test_all_calls_of_a_server_are_executed_by_workers(
    programs: Programs,
    new_redis_url: Callable[[], str],
    tmp_path: Path,
    house: str,
    options: tuple[str, ...],
) -> None:
    (tmp_path / "house.py").write_text(HOUSES[house])
    shared = ("house.py:mcp", "--journal", new_redis_url(), "--set", "where=worker")
    worker = programs.start("worker", *shared)
    await asyncio.to_thread(worker.wait_for, "working for")
    _, url = await asyncio.to_thread(programs.serve, "run", *shared, "--port", "0", *options)
    for mode in ("legacy", "auto"):  # the handshake of 2025, and 2026-07-28
        async with asyncio.timeout(100), Client(url, mode=mode) as client:
            for _ in range(2):
                (block,) = (await client.call_tool("pid")).content
                assert isinstance(block, TextContent)
                assert block.text == str(worker.pid)
