"""The served objects: each kind behind a real socket, on the loop of the tests."""

from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.interop import serve_fastmcp, serve_headway, serve_lowlevel, serve_mcpserver
from tests.interop.witness import Witness

from headway import HeadwayApp, Settings, asgi
from headway.cli.server.http_server import Receive, Scope, Send, serving

KINDS: dict[str, Callable[[Witness], Any]] = {
    "MCPServer": serve_mcpserver.build,
    "Server": serve_lowlevel.build,
    "FastMCP": serve_fastmcp.build,
    "Headway": serve_headway.build,
}

PUBLISHING = ("MCPServer", "Headway")
"""Kinds whose published changes reach everybody who subscribed. Authors of the others tell one
session themselves, whether it subscribed or not."""

SETTINGS = Settings(progress_rate=0, retry=0.01, retry_closed=0.01)
"""No pacing, so that every report of a tool can be accounted for; a quick reconnect."""


@dataclass
class Tap:
    """Notes every byte that an app answers, for what a client does not tell."""

    app: HeadwayApp
    heard: bytearray = field(default_factory=bytearray)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: MutableMapping[str, Any]) -> None:
            self.heard += message.get("body", b"")
            await send(message)

        await self.app(scope, receive, noted if scope["type"] == "http" else send)

    async def drain(self) -> None:
        await self.app.drain()


@dataclass(frozen=True)
class House:
    """One served object."""

    kind: str
    url: str
    witness: Witness
    tap: Tap


@asynccontextmanager
async def open_house(kind: str, settings: Settings = SETTINGS) -> AsyncGenerator[House]:
    """Serve an object of this kind."""
    witness = Witness()
    tap = Tap(asgi(KINDS[kind](witness), settings=settings))
    async with serving(tap, grace=5) as origin:
        yield House(kind, f"{origin}/mcp", witness, tap)


class Native:
    """A framework's own app, which cannot be drained."""

    def __init__(self, server: Any) -> None:
        own = getattr(server, "http_app", None) or server.streamable_http_app
        self._app = own()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def drain(self) -> None:
        pass


@asynccontextmanager
async def side_by_side(build: Callable[[], Any]) -> AsyncGenerator[tuple[str, str]]:
    """The URLs of one object behind its own app, and of one behind Headway."""
    ours = asgi(build(), settings=SETTINGS)
    async with serving(Native(build()), grace=5) as native, serving(ours, grace=5) as origin:
        yield f"{native}/mcp", f"{origin}/mcp"


class Street:
    """Opens each house when it is first asked for, and keeps it for the tests that follow."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._houses: dict[str, House] = {}

    async def house(self, kind: str) -> House:
        if kind not in self._houses:
            self._houses[kind] = await self._stack.enter_async_context(open_house(kind))
        house = self._houses[kind]
        house.tap.heard.clear()
        return house
