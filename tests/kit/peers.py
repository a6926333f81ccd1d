"""MCP clients of both eras that do nothing by themselves, and the server they talk to."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from tests.kit.http import Answer, Connection, request_bytes

from headway import Settings, asgi
from headway.cli.server.http_server import serving
from headway.clock import Clock
from headway.server import HeadwayApp
from headway.testing import FakeClock
from headway.testing.fake_clock import run_loop_turns

JSON_AND_SSE = "application/json, text/event-stream"

VERSIONS = ["2025-03-26", "2025-06-18", "2025-11-25"]
META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"

Extra = Mapping[str, str | None]
"""Headers to add; None takes one away."""


def merge(headers: dict[str, str], extra: Extra) -> dict[str, str]:
    known = {name.lower(): name for name in headers}
    for name, value in extra.items():
        headers.pop(known.get(name.lower(), name), None)
        if value is not None:
            headers[name] = value
    return headers


class Wire:
    """A server under test, as seen from outside; `app` is a look inside."""

    def __init__(self, origin: str, app: HeadwayApp, clock: Clock) -> None:
        parts = urlsplit(origin)
        self.host, self.port = cast("str", parts.hostname), cast("int", parts.port)
        self.path = "/mcp"
        self.app = app
        self._clock = clock
        self._connections: list[Connection] = []

    @property
    def clock(self) -> FakeClock:
        assert isinstance(self._clock, FakeClock)
        return self._clock

    async def connect(self, *, receive_buffer: int | None = None) -> Connection:
        connection = await Connection.open(self.host, self.port, receive_buffer=receive_buffer)
        self._connections.append(connection)
        return connection

    async def send(
        self,
        method: str,
        headers: Extra,
        body: bytes = b"",
        *,
        path: str | None = None,
        receive_buffer: int | None = None,
    ) -> Connection:
        """Send a request and do not wait for its answer."""
        connection = await self.connect(receive_buffer=receive_buffer)
        head = merge({"Host": f"{self.host}:{self.port}"}, headers)
        connection.write(request_bytes(method, path or self.path, head, body))
        return connection

    async def ask(
        self, method: str, headers: Extra, body: bytes = b"", *, path: str | None = None
    ) -> Answer:
        """Send a request; returns with the head of its answer."""
        return await (await self.send(method, headers, body, path=path)).answer()

    async def raw(self, data: bytes) -> Answer:
        """Send bytes as they are."""
        connection = await self.connect()
        connection.write(data)
        return await connection.answer()

    def cut_all(self) -> None:
        for connection in self._connections:
            connection.cut()


@asynccontextmanager
async def served(
    server: object,
    *,
    clock: Clock | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> AsyncGenerator[Wire]:
    """`server` behind a real socket in this loop, with time that stands still unless told."""
    clock = clock or FakeClock()
    app = asgi(server, clock=clock, settings=settings, **options)
    async with serving(app, grace=0, settings=settings) as origin:
        wire = Wire(origin, app, clock)
        try:
            yield wire
        finally:
            wire.cut_all()


class Session:
    """A 2025 client after its handshake."""

    def __init__(self, wire: Wire, version: str, session_id: str, extra: Extra) -> None:
        self.wire = wire
        self.version = version
        self.id = session_id
        self._extra = extra
        self._ids = itertools.count(1)
        self.handshake: dict[str, Any] = {}

    @classmethod
    async def open(
        cls,
        wire: Wire,
        version: str = "2025-11-25",
        *,
        capabilities: dict[str, Any] | None = None,
        extra: Extra | None = None,
    ) -> "Session":
        session = cls(wire, version, "", extra or {})
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "wire", "version": "1"},
        }
        answer = await session.request("initialize", params, id=0)
        assert answer.status == 200, await answer.body()
        session.id = answer.headers["mcp-session-id"]
        session.handshake = await answer.outcome()
        session.version = session.handshake["result"]["protocolVersion"]
        await session.notify("notifications/initialized")
        return session

    def headers(self, **extra: str | None) -> dict[str, str]:
        basic = {"Accept": JSON_AND_SSE, "Content-Type": "application/json"}
        if self.id:
            basic |= {"Mcp-Session-Id": self.id, "MCP-Protocol-Version": self.version}
        return merge(basic, {**self._extra, **extra})

    async def post(self, message: object) -> Answer:
        return await self.wire.ask("POST", self.headers(), json.dumps(message).encode())

    async def send(self, message: object, *, receive_buffer: int | None = None) -> Connection:
        """Post without waiting for the answer."""
        body = json.dumps(message).encode()
        return await self.wire.send("POST", self.headers(), body, receive_buffer=receive_buffer)

    async def request(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        id: Any = None,
        token: Any = None,
    ) -> Answer:
        return await self.post(self.message(method, params, id=id, token=token))

    def message(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        id: Any = None,
        token: Any = None,
    ) -> dict[str, Any]:
        if token is not None:
            params = {**(params or {}), "_meta": {"progressToken": token}}
        message = {"jsonrpc": "2.0", "id": next(self._ids) if id is None else id, "method": method}
        return message if params is None else {**message, "params": params}

    def call_message(
        self,
        tool: str,
        arguments: dict[str, Any] | None = None,
        *,
        id: Any = None,
        token: Any = None,
    ) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments or {}}
        return self.message("tools/call", params, id=id, token=token)

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any] | None = None,
        *,
        id: Any = None,
        token: Any = None,
    ) -> Answer:
        return await self.post(self.call_message(tool, arguments, id=id, token=token))

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        answer = await self.post(message if params is None else {**message, "params": params})
        assert (answer.status, await answer.body()) == (202, b"")

    async def reply(self, question: dict[str, Any], result: dict[str, Any]) -> Answer:
        return await self.post({"jsonrpc": "2.0", "id": question["id"], "result": result})

    async def get(self, last: str | None = None) -> Answer:
        headers = self.headers(**{"Content-Type": None, "Last-Event-ID": last})
        return await self.wire.ask("GET", headers)

    async def delete(self) -> Answer:
        return await self.wire.ask("DELETE", self.headers())


class Modern:
    """A 2026-07-28 client."""

    def __init__(self, wire: Wire, capabilities: dict[str, Any] | None = None) -> None:
        self.wire = wire
        self._capabilities = capabilities or {}

    def body(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        id: Any = 1,
        token: Any = None,
        level: str | None = None,
    ) -> dict[str, Any]:
        meta: dict[str, Any] = {
            f"{META}protocolVersion": MODERN,
            f"{META}clientCapabilities": self._capabilities,
            f"{META}clientInfo": {"name": "wire", "version": "1"},
        }
        if token is not None:
            meta["progressToken"] = token
        if level is not None:
            meta[f"{META}logLevel"] = level
        return {
            "jsonrpc": "2.0",
            "id": id,
            "method": method,
            "params": {**(params or {}), "_meta": meta},
        }

    def headers(self, body: dict[str, Any], extra: Extra | None = None) -> dict[str, str]:
        basic = {
            "Accept": JSON_AND_SSE,
            "Content-Type": "application/json",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": str(body.get("method")),
        }
        params = body.get("params")
        name = params.get("name") or params.get("uri") if isinstance(params, dict) else None
        if isinstance(name, str):
            basic["Mcp-Name"] = name
        return merge(basic, extra or {})

    async def post(self, body: dict[str, Any], extra: Extra | None = None) -> Answer:
        data = json.dumps(body).encode()
        return await self.wire.ask("POST", self.headers(body, extra), data)

    async def send(
        self,
        body: dict[str, Any],
        extra: Extra | None = None,
        *,
        receive_buffer: int | None = None,
    ) -> Connection:
        """Post without waiting for the answer."""
        headers, data = self.headers(body, extra), json.dumps(body).encode()
        return await self.wire.send("POST", headers, data, receive_buffer=receive_buffer)

    async def request(
        self, method: str, params: dict[str, Any] | None = None, **options: Any
    ) -> Answer:
        return await self.post(self.body(method, params, **options))

    def call_message(
        self, tool: str, arguments: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments or {}}
        return self.body("tools/call", params, **options)

    async def call(
        self, tool: str, arguments: dict[str, Any] | None = None, **options: Any
    ) -> Answer:
        return await self.post(self.call_message(tool, arguments, **options))


Client = Session | Modern

each_era = pytest.mark.parametrize("era", ["2025", "2026"])


async def connect(wire: Wire, era: str) -> Client:
    """A client of the newest revision of an era."""
    return await Session.open(wire) if era == "2025" else Modern(wire)


async def begin(
    client: Client, tool: str, *, id: Any = 1, token: Any = None, receive_buffer: int | None = None
) -> Connection:
    """Call a tool without waiting for the answer; `receive_buffer` for who will not read."""
    if isinstance(client, Session):
        message = client.call_message(tool, id=id, token=token)
        return await client.send(message, receive_buffer=receive_buffer)
    params = {"name": tool, "arguments": {}}
    body = client.body("tools/call", params, id=id, token=token)
    return await client.send(body, receive_buffer=receive_buffer)


def text_of(outcome: dict[str, Any]) -> str:
    """The text of a tool's result."""
    return outcome["result"]["content"][0]["text"]


def progress_of(messages: list[dict[str, Any]]) -> list[float]:
    """The values of the progress notifications among messages."""
    return [m["params"]["progress"] for m in messages if m.get("method", "").endswith("/progress")]


def handle_of(outcome: dict[str, Any]) -> str:
    """The handle in an answer that came before its run had ended, for `continue_run`."""
    result = outcome["result"]
    assert result["isError"] is False, result
    assert result["structuredContent"]["state"] == "working"
    return result["structuredContent"]["run_id"]


async def draining(wire: Wire) -> "asyncio.Task[None]":
    """Tell a server to stop; the task ends when it has let its calls finish."""
    task = asyncio.create_task(wire.app.drain())
    await run_loop_turns()
    return task


async def no_more_grace(task: "asyncio.Task[None]") -> None:
    """Have a server that is told to stop wait for its calls no longer."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
