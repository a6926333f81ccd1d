"""A call that ends without waiting: it is answered in the turn of the loop in which it was read."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import Context, MCPServer
from tests.kit.peers import connect, each_era, progress_of, served, text_of
from tests.kit.waits import within

from headway import Headway, Settings, asgi, log
from headway.app import HeadwayApp
from headway.first_step import FirstStep

pytestmark = pytest.mark.anyio

VERSIONS = {"2025": "2025-11-25", "2026": "2026-07-28"}
INTRODUCTION = {"name": "by hand", "version": "1"}


def quick_server() -> MCPServer[Any]:
    mcp = MCPServer("quick")

    @mcp.tool()
    async def echo(text: str) -> str:
        return text

    @mcp.tool()
    async def count(ctx: Context[Any, Any]) -> str:
        for step in range(3):
            await ctx.report_progress(step + 1, 3, f"step {step + 1}")
        return "counted"

    @mcp.tool()
    async def fail() -> str:
        raise ValueError("no such thing")

    return mcp


class ByHand:
    """A client without a connection: it hands the app its requests and looks at the messages."""

    def __init__(self, app: HeadwayApp, era: str) -> None:
        self._app = app
        self._era = era
        self._session: str | None = None

    async def shake_hands(self) -> None:
        """Open a session, where the era has any."""
        if self._era == "2025":
            params = {
                "protocolVersion": VERSIONS["2025"], "capabilities": {}, "clientInfo": INTRODUCTION,
            }  # fmt: skip
            start, _ = await self._request({"id": 0, "method": "initialize", "params": params})
            self._session = dict(start["headers"])[b"mcp-session-id"].decode()
            await self._request({"method": "notifications/initialized"})

    def call(self, tool: str, arguments: dict[str, Any]) -> FirstStep[list[dict[str, Any]]]:
        """The first step of a call."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if self._era == "2026":
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": VERSIONS["2026"],
                "io.modelcontextprotocol/clientInfo": INTRODUCTION,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        return FirstStep(self._request({"id": 1, "method": "tools/call", "params": params}, tool))

    async def _request(self, message: dict[str, Any], name: str = "") -> list[dict[str, Any]]:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        headers = {
            "host": "localhost",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "mcp-protocol-version": VERSIONS[self._era],
        }
        if self._session is not None:
            headers["mcp-session-id"] = self._session
        if self._era == "2026":
            headers |= {"mcp-method": message["method"], "mcp-name": name}
        scope: dict[str, Any] = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/mcp",
            "raw_path": b"/mcp", "query_string": b"", "root_path": "", "scheme": "http",
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return left.pop() if left else await asyncio.get_running_loop().create_future()

        async def send(answer: Any) -> None:
            sent.append(answer)

        await self._app(scope, receive, send)
        return sent


@asynccontextmanager
async def by_hand(era: str, journal: str = "memory:") -> AsyncGenerator[ByHand]:
    app = asgi(quick_server(), journal=journal)
    async with app.lifespan():
        client = ByHand(app, era)
        await client.shake_hands()
        yield client


@each_era
async def test_it_is_answered_without_a_turn_of_the_loop(era: str) -> None:
    async with by_hand(era) as client:
        step = client.call("echo", {"text": "hello"})
        assert step.is_over, "the call has waited for something"
        start, body = step.result
        assert start["status"] == 200
        assert text_of(json.loads(body["body"])) == "hello"


@each_era
async def test_its_own_error_is_answered_likewise(era: str) -> None:
    async with by_hand(era) as client:
        step = client.call("fail", {})
        assert step.is_over
        result = json.loads(step.result[1]["body"])["result"]
        assert result["isError"] is True


@each_era
async def test_a_result_is_stored_before_it_is_sent(era: str, tmp_path: Path) -> None:
    async with by_hand(era, f"sqlite:///{tmp_path}/journal.db") as client:
        step = client.call("echo", {"text": "hello"})
        assert not step.is_over, "the answer did not wait for the storage"
        _, body = await within(step)
        assert text_of(json.loads(body["body"])) == "hello"


@each_era
async def test_all_that_it_has_said_is_told_and_the_last_progress_is_the_total(era: str) -> None:
    async with served(quick_server(), settings=Settings(progress_rate=0)) as wire:
        client = await connect(wire, era)
        answer = await client.call("count", {}, token="t")
        messages = await answer.rest()
        assert progress_of(messages) == [1, 2, 3]
        assert text_of(messages[-1]) == "counted"


@each_era
async def test_what_its_client_does_not_want_to_hear_makes_no_stream_of_it(era: str) -> None:
    mcp = Headway("silent")

    @mcp.tool()
    async def talk() -> str:
        log("details", level="debug")
        return "said"

    async with served(mcp) as wire:
        client = await connect(wire, era)
        if era == "2025":
            await (await client.request("logging/setLevel", {"level": "warning"})).outcome()
        answer = await client.call("talk", {})
        assert not answer.is_stream
        assert text_of(await answer.outcome()) == "said"
