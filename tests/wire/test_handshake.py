"""2025 eras: the handshake, sessions, their streams and what is said on them."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    SubscriptionBus,
    ToolsListChanged,
)
from tests.kit.peers import VERSIONS, Session, served, text_of
from tests.kit.waits import within

from headway import Headway, log, part

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

each_version = pytest.mark.parametrize("version", VERSIONS)


def echo_server(bus: SubscriptionBus | None = None) -> Headway:
    mcp = Headway("echo", subscriptions=bus or InMemorySubscriptionBus())

    @mcp.tool()
    async def echo(text: str) -> str:
        return text

    @mcp.tool()
    async def speak(ctx: Context[Any, Any]) -> str:
        await ctx.info("one")
        return "said"

    return mcp


@pytest.mark.requirement("http.session.id", era="2025")
@each_version
async def test_the_handshake_gives_a_session_and_the_version_asked_for(version: str) -> None:
    async with served(echo_server()) as wire:
        session = await Session.open(wire, version)
        assert len(session.id) >= 32
        assert session.id.isascii()
        result = session.handshake["result"]
        assert result["protocolVersion"] == version
        assert result["serverInfo"]["name"] == "echo"
        assert "logging" in result["capabilities"]
        assert result["capabilities"]["resources"]["subscribe"] is True


async def test_an_unknown_version_is_negotiated_down_to_one_that_is_served() -> None:
    async with served(echo_server()) as wire:
        session = await Session.open(wire, "1999-01-01")
        assert session.handshake["result"]["protocolVersion"] == "2025-11-25"


@pytest.mark.requirement("http.post.json-or-stream", era="2025")
@each_version
async def test_an_answer_is_json_when_nothing_was_said_before_it(version: str) -> None:
    async with served(echo_server()) as wire:
        session = await Session.open(wire, version)
        answer = await session.call("echo", {"text": "hi"}, id="a")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["mcp-session-id"] == session.id
        outcome = await answer.json()
        assert (outcome["id"], text_of(outcome)) == ("a", "hi")


@pytest.mark.requirement("http.post.json-or-stream", era="2025")
@each_version
async def test_an_answer_is_a_stream_when_something_was_said(version: str) -> None:
    async with served(echo_server()) as wire:
        answer = await (await Session.open(wire, version)).call("speak", id=7)
        assert answer.is_stream
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        said, outcome = await answer.rest()
        assert said["method"] == "notifications/message"
        assert said["params"] == {"level": "info", "data": "one"}
        assert (outcome["id"], text_of(outcome)) == (7, "said")


@pytest.mark.requirement("http.post.primed", era="2025")
@each_version
async def test_only_2025_11_25_streams_are_primed(version: str) -> None:
    """Clients of older revisions take an event without data for a broken message."""
    async with served(echo_server()) as wire:
        session = await Session.open(wire, version)
        for answer in (await session.call("speak", token="t"), await session.get()):
            first = await answer.frame()
            assert first is not None
            primed = first.id is not None and first.retry == 6000 and first.data == ""
            assert primed is (version == "2025-11-25")
            if not primed:
                assert first.retry is None
                assert first.data != ""


@pytest.mark.requirement("http.session.gone", era="2025")
@each_version
async def test_a_deleted_session_is_unknown_and_its_streams_end(version: str) -> None:
    async with served(echo_server()) as wire:
        session = await Session.open(wire, version)
        own = await session.get()
        deleted = await session.delete()
        assert deleted.status == 200
        assert await own.rest() == []
        for answer in (await session.call("echo"), await session.get(), await session.delete()):
            assert answer.status == 404
            assert "initialize" in (await answer.json())["error"]["message"]


async def test_a_deleted_session_is_unknown_before_its_end_is_stored(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    async with served(echo_server(), journal=f"sqlite:///{file}") as wire:
        session = await Session.open(wire)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else can write until the rollback
            assert (await session.delete()).status == 200
            for answer in (await session.call("echo"), await session.get()):
                assert answer.status == 404
            other.execute("ROLLBACK")


async def test_deleting_a_session_stops_its_calls() -> None:
    started, stopped = asyncio.Event(), asyncio.Event()
    mcp = MCPServer("s")

    @mcp.tool()
    async def hang(ctx: Context[Any, Any]) -> None:
        await ctx.info("here")
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with served(mcp) as wire:
        session = await Session.open(wire)
        answer = await session.call("hang", id=1)
        await within(started.wait())
        await session.delete()
        await within(stopped.wait())
        assert (await answer.rest())[-1]["error"]["code"] == -32800


@pytest.mark.requirement("http.one-stream", era="2025")
async def test_of_two_get_streams_the_newer_is_sent_what_comes() -> None:
    bus = InMemorySubscriptionBus()
    async with served(echo_server(bus)) as wire:
        session = await Session.open(wire)
        first = await session.get()
        second = await session.get()
        await bus.publish(ToolsListChanged())
        assert (await second.message())["method"] == "notifications/tools/list_changed"
        await session.delete()
        assert await first.rest() == []


@pytest.mark.requirement("http.get", era="2025")
async def test_list_changes_reach_the_get_stream_of_every_session() -> None:
    bus = InMemorySubscriptionBus()
    async with served(echo_server(bus)) as wire:
        streams = [await (await Session.open(wire, version)).get() for version in VERSIONS]
        await bus.publish(ToolsListChanged())
        await bus.publish(PromptsListChanged())
        await bus.publish(ResourcesListChanged())
        for stream in streams:
            heard = [(await stream.message())["method"] for _ in range(3)]
            assert heard == [
                f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")
            ]


@each_version
async def test_only_a_subscriber_hears_of_a_changed_resource(version: str) -> None:
    bus = InMemorySubscriptionBus()
    async with served(echo_server(bus)) as wire:
        here, there = await Session.open(wire, version), await Session.open(wire, version)
        streams = [await here.get(), await there.get()]
        subscribed = await here.request("resources/subscribe", {"uri": "x://a"})
        assert (await subscribed.json())["result"] == {}
        await bus.publish(ResourceUpdated("x://a"))
        await bus.publish(ResourceUpdated("x://b"))
        await here.request("resources/unsubscribe", {"uri": "x://a"})
        await bus.publish(ResourceUpdated("x://a"))
        await bus.publish(ToolsListChanged())
        heard = await streams[0].message()
        assert heard["method"] == "notifications/resources/updated"
        assert heard["params"] == {"uri": "x://a"}
        for stream in streams:
            assert (await stream.message())["method"] == "notifications/tools/list_changed"


@pytest.mark.requirement("logging.level", era="2025")
async def test_the_level_filters_logs_and_parts() -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def talk(ctx: Context[Any, Any]) -> str:
        await ctx.debug("d")
        log("i", "info", logger="mine")
        part({"n": 1})
        await ctx.error("e")
        return "ok"

    async with served(mcp) as wire:
        session = await Session.open(wire)
        messages = await (await session.call("talk")).rest()
        assert [m["params"]["data"] for m in messages[:-1]] == ["d", "i", {"n": 1}, "e"]
        assert messages[1]["params"] == {"level": "info", "data": "i", "logger": "mine"}
        assert messages[2]["params"]["logger"] == "headway.part"
        set_level = await session.request("logging/setLevel", {"level": "warning"})
        assert (await set_level.json())["result"] == {}
        messages = await (await session.call("talk")).rest()
        assert [m["params"]["data"] for m in messages[:-1]] == ["e"]
        other = await Session.open(wire)
        assert len(await (await other.call("talk")).rest()) == 5


async def test_the_level_filters_what_is_logged_without_a_request_too() -> None:
    mcp = MCPServer("s")

    @mcp.tool()
    async def talk(ctx: Context[Any, Any]) -> str:
        for level in ("debug", "error"):
            await ctx.session.send_log_message(level, level)
        return "ok"

    async with served(mcp) as wire:
        session = await Session.open(wire)
        await session.request("logging/setLevel", {"level": "warning"})
        own = await session.get()
        answer = await session.call("talk")
        assert text_of(await answer.json()) == "ok"
        heard = await own.message()
        assert heard["params"] == {"level": "error", "data": "error"}


@each_version
async def test_a_ping_is_answered(version: str) -> None:
    async with served(echo_server()) as wire:
        answer = await (await Session.open(wire, version)).request("ping", id="p")
        assert await answer.json() == {"jsonrpc": "2.0", "id": "p", "result": {}}


@pytest.mark.requirement("http.version.unknown", era="2025")
async def test_a_version_that_nobody_serves_is_refused_by_name() -> None:
    async with served(echo_server()) as wire:
        session = await Session.open(wire)
        headers = session.headers(**{"MCP-Protocol-Version": "2024-01-01"})
        body = json.dumps(session.message("ping", id=3)).encode()
        for method in ("POST", "GET", "DELETE"):
            answer = await wire.ask(method, headers, body if method == "POST" else b"")
            assert answer.status == 400
            assert "2025-11-25" in (await answer.body()).decode()


@pytest.mark.requirement("http.get.unrelated", "http.get.no-response", era="2025")
async def test_a_get_stream_is_no_place_for_a_calls_progress() -> None:
    mcp = MCPServer("s")

    @mcp.tool()
    async def work(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2)
        await ctx.session.send_progress_notification("mine", 1, 2)
        await ctx.session.send_tool_list_changed()
        return "ok"

    async with served(mcp) as wire:
        session = await Session.open(wire)
        own = await session.get()
        assert text_of(await (await session.call("work")).json()) == "ok"
        assert (await own.message())["method"] == "notifications/tools/list_changed"
