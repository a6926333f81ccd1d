"""What a server opens for a client is closed when the client is gone, however it left."""

import asyncio
from collections.abc import Callable
from typing import Any

import mcp_types as types
import pytest
from fastmcp import FastMCP
from fastmcp.server.middleware.ping import PingMiddleware
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from tests.kit.peers import Modern, Session, Wire, served
from tests.kit.waits import until

from headway import Settings

pytestmark = pytest.mark.anyio


class Doors:
    """A server whose middleware opens something for each connection; a tool waits for `opened`."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.is_welcome = True
        self._known: set[int] = set()
        self.server: Server[Any] = Server("doors", on_call_tool=self._call)
        self.server.middleware.append(self._open)

    async def _open(self, ctx: Any, call_next: Any) -> Any:
        connection: Any = ctx.session._connection
        if id(connection) not in self._known:
            self._known.add(id(connection))
            self.opened += 1
            connection.exit_stack.push_async_callback(self._close)
        if not self.is_welcome:
            raise MCPError(-32000, "We are closed")
        return await call_next(ctx)

    async def _close(self) -> None:
        self.closed += 1

    async def _call(self, _context: Any, _params: Any) -> types.CallToolResult:
        return types.CallToolResult(content=[])

    @property
    def is_all_closed(self) -> bool:
        return self.opened > 0 and self.closed == self.opened


async def delete(wire: Wire, session: Session) -> None:
    assert (await session.delete()).status == 200


async def expire(wire: Wire, _session: Session) -> None:
    await wire.clock.advance(4000)


@pytest.mark.parametrize("leave", [delete, expire])
async def test_it_is_closed_when_the_session_is_over(leave: Callable[..., Any]) -> None:
    doors = Doors()
    async with served(doors.server) as wire:
        session = await Session.open(wire)
        await session.call("any")
        assert (doors.opened, doors.closed) == (1, 0)
        await leave(wire, session)
        await until(lambda: doors.is_all_closed)


async def test_it_is_closed_when_the_server_stops() -> None:
    doors = Doors()
    async with served(doors.server) as wire:
        await Session.open(wire)
        await Session.open(wire)
        assert (doors.opened, doors.closed) == (2, 0)
    assert doors.is_all_closed


async def test_it_is_closed_when_the_client_is_refused() -> None:
    doors = Doors()
    doors.is_welcome = False
    async with served(doors.server) as wire:
        answer = await Session(wire, "2025-11-25", "", {}).request(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a"}},
        )
        assert "error" in await answer.outcome()
        await until(lambda: doors.is_all_closed)


@pytest.mark.parametrize("stateless", [False, True])
async def test_it_is_closed_behind_each_request_that_stands_for_itself(stateless: bool) -> None:
    doors = Doors()
    async with served(doors.server, settings=Settings(stateless=stateless)) as wire:
        client = Session(wire, "2025-11-25", "", {}) if stateless else Modern(wire)
        for _ in range(3):
            await client.call("any")
        if isinstance(client, Session):
            await client.notify("notifications/initialized")
        await until(lambda: doors.is_all_closed)


async def test_what_a_run_uses_stays_open_until_it_ends() -> None:
    doors, settings = Doors(), Settings(on_delete="finish")
    gate = asyncio.Event()

    async def call(_context: Any, _params: Any) -> types.CallToolResult:
        await gate.wait()
        return types.CallToolResult(content=[])

    doors.server.add_request_handler("tools/call", types.CallToolRequestParams, call)
    async with served(doors.server, settings=settings) as wire:
        session = await Session.open(wire)
        await session.send(session.call_message("any"))
        await until(lambda: wire.app.engine.runs)
        await session.delete()
        assert doors.closed == 0
        gate.set()
        await until(lambda: doors.is_all_closed)


@pytest.mark.parametrize("stateless", [False, True])
async def test_no_ping_task_of_fastmcp_stays_behind_its_client(stateless: bool) -> None:
    ping = PingMiddleware(interval_ms=3_600_000)
    server: FastMCP[Any] = FastMCP("pinging", middleware=[ping])

    @server.tool
    async def hello() -> str:
        return "hello"

    async with served(server, settings=Settings(stateless=stateless)) as wire:
        session = Session(wire, "2025-11-25", "", {}) if stateless else await Session.open(wire)
        await session.call("hello")
        assert len(active(ping)) == (0 if stateless else 1)
        if not stateless:
            await session.delete()
        await until(lambda: not active(ping))


def active(ping: PingMiddleware) -> set[int]:
    return vars(ping)["_active_sessions"]
