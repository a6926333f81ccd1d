"""Clients that take JSON alone, a stream alone, or do not say: each gets what it can read.

The specification has clients take both; many that people use do not, and a refusal helps no one.
"""

import asyncio
import json
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from tests.kit.http import Answer
from tests.kit.peers import VERSIONS, Modern, Session, connect, each_era, served, text_of
from tests.kit.tools import Name
from tests.kit.waits import until

from headway import Headway, Settings

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

JSON, SSE = "application/json", "text/event-stream"
SERVED = [
    None,
    "",
    "*/*",
    "text/html, */*;q=0.1",
    JSON,
    "application/*",
    SSE,
    "text/*",
    f"{JSON}, {SSE}",
]
FORM = {JSON: False, "application/*": False, SSE: True, "text/*": True}
"""Whether the answer is a stream, where only one form is taken."""


class Shop:
    """Tools that speak before they return; `open` lets `wait` go on."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.began = asyncio.Event()
        self.was_cancelled = False
        self.server = Headway("shop")
        for tool in (self.count, self.wait, self.ask):
            self.server.tool()(tool)

    async def count(self, ctx: Context[Any, Any]) -> str:
        for step in range(3):
            await ctx.report_progress(step + 1, 3)
            await ctx.info(f"step {step}")
        return "three"

    async def wait(self, ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2)
        self.began.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return "waited"

    async def ask(self, ctx: Context[Any, Any]) -> str:
        answer = await ctx.elicit("Who?", Name)
        return answer.action


async def call(
    wire: Any, era: str, accept: str | None, tool: str, *, token: str | None = None
) -> Answer:
    """Call a tool as a client that takes this and nothing else, from its handshake on."""
    if era == "2025":
        extra = {"Accept": accept}
        session = await Session.open(wire, extra=extra, capabilities={"elicitation": {}})
        return await session.call(tool, token=token)
    modern = Modern(wire)
    body = modern.call_message(tool, token=token, level="debug")
    return await modern.post(body, {"Accept": accept})


@each_era
@pytest.mark.parametrize("accept", SERVED)
async def test_a_call_is_answered_whatever_its_client_takes(era: str, accept: str | None) -> None:
    async with served(Shop().server) as wire:
        answer = await call(wire, era, accept, "count", token="t")
        assert answer.status == 200
        assert text_of(await answer.outcome()) == "three"
        assert answer.is_stream is FORM.get(accept or "", True)


@each_era
async def test_who_takes_json_alone_gets_the_result_however_long_the_work_takes(era: str) -> None:
    shop = Shop()
    async with served(shop.server) as wire:
        calling = asyncio.create_task(call(wire, era, JSON, "wait", token="t"))
        await shop.began.wait()
        await wire.clock.advance(3600)
        assert not calling.done()
        shop.opened.set()
        answer = await calling
        assert (answer.status, answer.headers["content-type"]) == (200, JSON)
        assert text_of(await answer.json()) == "waited"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("accept", [None, JSON, SSE])
async def test_a_handshake_and_all_that_follows_has_the_form_that_is_taken(
    version: str, accept: str | None
) -> None:
    async with served(Shop().server) as wire:
        session = await Session.open(wire, version, extra={"Accept": accept})
        assert session.version == version
        for method in ("ping", "tools/list"):
            answer = await session.request(method)
            assert answer.is_stream is (accept == SSE)
            assert "result" in await answer.outcome()


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_stream_of_a_handshake_carries_the_session_like_any_answer(stateless: bool) -> None:
    async with served(Shop().server, settings=Settings(stateless=stateless)) as wire:
        session = Session(wire, "2025-11-25", "", {"Accept": SSE})
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "wire", "version": "1"},
        }
        answer = await session.request("initialize", params)
        assert answer.is_stream
        assert ("mcp-session-id" in answer.headers) is not stateless
        (message,) = await answer.rest()
        assert message["result"]["protocolVersion"] == "2025-11-25"


@each_era
@pytest.mark.parametrize("accept", [JSON, SSE])
async def test_a_refusal_has_its_own_status_whatever_is_taken(era: str, accept: str) -> None:
    async with served(Shop().server) as wire:
        client = await connect(wire, era)
        body = b"{"
        headers = (
            client.headers({"method": "ping"}) if isinstance(client, Modern) else client.headers()
        )
        answer = await wire.ask("POST", {**headers, "Accept": accept}, body)
        assert (answer.status, answer.headers["content-type"]) == (400, JSON)


@each_era
async def test_a_failed_call_of_who_takes_json_alone_has_the_status_of_its_error(era: str) -> None:
    async with served(Shop().server) as wire:
        if era == "2025":
            session = await Session.open(wire, extra={"Accept": JSON})
            answer = await session.request("shop/unknown")
        else:
            modern = Modern(wire)
            answer = await modern.post(modern.body("shop/unknown"), {"Accept": JSON})
        assert answer.status == (200 if era == "2025" else 404)
        assert (await answer.json())["error"]["code"] == -32601


async def test_who_takes_json_alone_is_asked_nothing_and_told_at_once() -> None:
    async with served(Shop().server) as wire:
        error = (await (await call(wire, "2025", JSON, "ask")).json())["error"]
        assert "elicitation/create" in error["message"]


@each_era
async def test_who_takes_json_alone_gets_a_handle_at_the_end_of_a_window(era: str) -> None:
    shop = Shop()
    async with served(shop.server, settings=Settings(hand_over=5)) as wire:
        # A token keeps a call alive only where progress is heard.
        calling = asyncio.create_task(call(wire, era, JSON, "wait", token="t"))
        await shop.began.wait()
        await wire.clock.advance(5)
        result = (await (await calling).json())["result"]
        assert "continue_run" in json.dumps(result)
        shop.opened.set()


@each_era
async def test_who_takes_json_alone_and_leaves_is_treated_as_the_era_has_it(era: str) -> None:
    shop = Shop()
    async with served(shop.server) as wire:
        calling = asyncio.create_task(call(wire, era, JSON, "wait"))
        await shop.began.wait()
        calling.cancel()
        wire.cut_all()
        if era == "2026":
            await until(lambda: shop.was_cancelled)
        else:
            shop.opened.set()
            await until(lambda: not wire.app.engine.runs)
            assert not shop.was_cancelled


NEVER = ["text/html", "image/*", f"{JSON};q=0", "*/*;q=0"]


@each_era
@pytest.mark.parametrize("accept", NEVER)
async def test_who_takes_neither_form_is_told_which_there_are(era: str, accept: str) -> None:
    async with served(Shop().server) as wire:
        client = await connect(wire, era)
        if isinstance(client, Session):
            headers = client.headers(Accept=accept)
            body = client.message("tools/list")
        else:
            body = client.body("tools/list")
            headers = client.headers(body, {"Accept": accept})
        answer = await wire.ask("POST", headers, json.dumps(body).encode())
        error = (await answer.json())["error"]
        assert answer.status == 406
        assert f"{JSON}, {SSE}" in error["message"]


async def test_a_get_needs_a_client_that_takes_a_stream() -> None:
    async with served(Shop().server) as wire:
        session = await Session.open(wire)
        for accept, status in ((None, 200), ("*/*", 200), (SSE, 200), (JSON, 406)):
            answer = await wire.ask("GET", session.headers(Accept=accept))
            assert answer.status == status


async def test_a_listener_needs_a_client_that_takes_a_stream() -> None:
    async with served(MCPServer("x")) as wire:
        modern = Modern(wire)
        body = modern.body("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        assert (await modern.post(body, {"Accept": JSON})).status == 406
        assert (await modern.post(body, {"Accept": SSE})).is_stream


async def test_a_batch_needs_a_client_that_takes_a_stream() -> None:
    async with served(Shop().server) as wire:
        session = await Session.open(wire, "2025-03-26")
        batch = json.dumps([session.message("ping"), session.message("tools/list")]).encode()
        assert (await wire.ask("POST", session.headers(Accept=JSON), batch)).status == 406
        answer = await wire.ask("POST", session.headers(Accept=SSE), batch)
        assert len(await answer.rest()) == 2
