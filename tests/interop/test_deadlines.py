"""Calls that are longer than their client's deadline, with the official Python client.

Times are compressed: a deadline of a second stands for one of a minute.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from headway import Headway, Settings, asgi, part
from headway.cli.server.http_server import serving
from headway.client_profiles import Profile

pytestmark = pytest.mark.anyio

DEADLINE = 1.0
MODES = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])


class Scan:
    """A tool that takes several deadlines, and counts its executions."""

    def __init__(self) -> None:
        self.runs = 0
        self.mcp = Headway("scan")
        self.mcp.add_tool(self.scan)

    async def scan(self) -> str:
        self.runs += 1
        for step in range(5):
            part(step)
            await asyncio.sleep(DEADLINE / 2)
        return "scanned"


@asynccontextmanager
async def connected(scan: Scan, mode: str, settings: Settings | None) -> AsyncGenerator[Client]:
    async with serving(asgi(scan.mcp, settings=settings), grace=5) as origin:
        transport = streamable_http_client(f"{origin}/mcp")
        async with Client(transport, mode=mode) as client:
            yield client


STRICT = Profile("mcp", deadline=DEADLINE, resets=False)


@MODES
async def test_the_client_alone_gives_up(mode: str) -> None:
    scan = Scan()
    async with connected(scan, mode, None) as client:
        with pytest.raises(MCPError):
            await client.call_tool("scan", read_timeout_seconds=DEADLINE)


@MODES
async def test_with_a_window_it_never_sees_its_deadline(mode: str) -> None:
    scan = Scan()
    settings = Settings(hand_over=45.0, profiles=(STRICT,))
    async with connected(scan, mode, settings) as client:
        result = await client.call_tool("scan", read_timeout_seconds=DEADLINE)
        parts: list[Any] = []
        for _ in range(10):
            content: dict[str, Any] = result.structured_content or {}
            if content.get("state") != "working":
                break
            parts += content.get("parts", [])
            rest = {"run_id": content["run_id"]}
            result = await client.call_tool("continue_run", rest, read_timeout_seconds=DEADLINE)
        assert result.structured_content == {"result": "scanned"}
        told = [block.text for block in result.content if block.type == "text"]
        assert [*map(str, parts), *told] == ["0", "1", "2", "3", "4", "scanned"]
    assert scan.runs == 1
