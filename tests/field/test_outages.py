"""How long a server may be away, by what clients are told and what the official ones make of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp.client.streamable_http import MAX_RECONNECTION_ATTEMPTS
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from tests.kit.peers import Session, served, text_of
from tests.kit.waits import until

from headway import Headway, Settings, report

pytestmark = pytest.mark.anyio

RESTART = 10.0
"""Seconds that a process may take to be started again."""


def test_the_official_client_tries_long_enough_for_a_restart_of_ten_seconds() -> None:
    """It waits as long as it was told before each attempt, and makes no more of them."""
    assert Settings().retry * MAX_RECONNECTION_ATTEMPTS > RESTART + 1


async def test_who_is_closed_early_by_a_server_that_goes_on_is_told_to_come_back_soon() -> None:
    mcp, go = MCPServer("s"), asyncio.Event()

    @mcp.tool()
    async def poll(ctx: Context[Any, Any]) -> str:
        await ctx.close_sse_stream()
        await go.wait()
        return "later"

    async with served(mcp) as wire:
        session = await Session.open(wire)
        answer = await session.call("poll", token="t")
        told: list[int] = []
        while (frame := await answer.frame()) is not None:
            told += [] if frame.retry is None else [frame.retry]
        assert told == [6000, 1000]  # the last one counts
        resumed = await session.get(answer.ids[-1])
        go.set()
        assert text_of((await resumed.rest())[-1]) == "later"


async def test_who_is_closed_by_a_server_that_stops_is_told_to_come_back_later(
    tmp_path: Path,
) -> None:
    mcp = Headway("s")

    @mcp.tool(restart=True)
    async def slow() -> str:
        report(1)
        await asyncio.Event().wait()
        return "never"

    async with served(mcp, journal=f"sqlite:///{tmp_path / 'journal.db'}") as wire:
        session = await Session.open(wire)
        streams = [await session.call("slow", token="t"), await session.get()]
        await streams[0].message()
        draining = asyncio.create_task(wire.app.drain())
        await until(lambda: wire.app.engine.services.lifecycle.is_draining)
        draining.cancel()
        for stream in streams:
            told: list[int] = []
            while (frame := await stream.frame()) is not None:
                told += [] if frame.retry is None else [frame.retry]
            assert told in ([6000], [])  # of the first one it was read above
