"""2026-07-28: every POST stands for itself, and its stream is its life."""

import asyncio
from typing import Annotated, Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ToolsListChanged
from mcp_types import CallToolResult, InputRequiredResult
from tests.kit.peers import META, MODERN, Modern, Session, progress_of, served, text_of
from tests.kit.tools import Name
from tests.kit.waits import until, within
from tests.wire.echo import echo_server

from headway import Settings, log, part

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


@pytest.mark.requirement("http.post.json-or-stream", era="2026")
async def test_a_call_needs_no_session_and_is_answered_as_json() -> None:
    async with served(echo_server()) as wire:
        answer = await Modern(wire).call("echo", {"text": "ho"}, id="x")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert "mcp-session-id" not in answer.headers
        outcome = await answer.json()
        assert (outcome["id"], text_of(outcome)) == ("x", "ho")
        assert outcome["result"]["resultType"] == "complete"
        assert outcome["result"]["_meta"][f"{META}serverInfo"]["name"] == "echo"


async def test_the_server_is_discovered_without_a_handshake() -> None:
    async with served(echo_server()) as wire:
        outcome = await (await Modern(wire).request("server/discover")).json()
        assert MODERN in outcome["result"]["supportedVersions"]


@pytest.mark.requirement("http.post.json-or-stream", era="2026")
async def test_what_is_said_comes_as_a_stream_without_event_ids() -> None:
    mcp = MCPServer("s")

    @mcp.tool()
    async def work(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2, "half")
        return "done"

    async with served(mcp) as wire:
        answer = await Modern(wire).call("work", token=0)
        assert answer.is_stream
        messages = await answer.rest()
        assert messages[0]["params"] == {
            "progressToken": 0, "progress": 1, "total": 2, "message": "half",
        }  # fmt: skip
        assert progress_of(messages) == [1, 2]
        assert text_of(messages[-1]) == "done"
        assert answer.ids == []


# Late commit


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"name": "echo", "arguments": 7}, 400),
        ({"name": "refuse", "arguments": {}}, 400),
        ({"arguments": {}}, 400),
        ({"name": None}, 400),
    ],
)
async def test_an_early_error_keeps_its_status(params: dict[str, Any], status: int) -> None:
    async with served(echo_server()) as wire:
        answer = await Modern(wire).request("tools/call", params, token="t")
        assert (answer.status, (await answer.json())["error"]["code"]) == (status, -32602)


async def test_a_silent_call_becomes_a_stream_in_time_and_has_a_first_byte_then() -> None:
    go = asyncio.Event()
    mcp = MCPServer("s")

    @mcp.tool()
    async def silent() -> str:
        await go.wait()
        return "done"

    async with served(mcp, settings=Settings(commit_after=0.5)) as wire:
        modern = Modern(wire)
        body = modern.body("tools/call", {"name": "silent", "arguments": {}})
        connection = await modern.send(body)
        await until(lambda: len(wire.app.engine.runs) == 1)
        await wire.clock.advance(0.49)
        assert not connection.reader._buffer  # pyright: ignore[reportAttributeAccessIssue]
        await wire.clock.advance(0.02)
        answer = await connection.answer()
        assert answer.is_stream
        first = await answer.frame()
        assert first is not None
        assert first.comment is not None
        go.set()
        assert text_of((await answer.rest())[-1]) == "done"


# Logs


@pytest.mark.requirement("logging.asked", "logging.own-stream", era="2026")
async def test_logs_and_parts_come_only_to_a_request_that_asks_for_a_level() -> None:
    mcp = MCPServer("s")

    @mcp.tool()
    async def talk(ctx: Context[Any, Any]) -> str:
        await ctx.info("sdk")
        log("ours", "warning")
        log("detail", "debug")
        part({"n": 1})
        return "ok"

    async with served(mcp) as wire:
        modern = Modern(wire)
        silent = await modern.call("talk", token="t")
        assert text_of(await silent.json()) == "ok"
        for level, heard in {
            "debug": ["sdk", "ours", "detail", {"n": 1}],
            "info": ["sdk", "ours", {"n": 1}],
            "warning": ["ours"],
        }.items():
            messages = await (await modern.call("talk", level=level)).rest()
            assert [m["params"]["data"] for m in messages[:-1]] == heard


@pytest.mark.requirement("logging.invalid-level", era="2026")
async def test_a_level_that_does_not_exist_is_refused() -> None:
    async with served(echo_server()) as wire:
        answer = await Modern(wire).call("echo", level="loud")
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, -32602)
        assert "warning" in error["message"]


# Subscriptions


@pytest.mark.requirement(
    "http.post.related", "subscriptions.requested", "subscriptions.acknowledged", era="2026"
)
async def test_a_listener_is_acknowledged_and_hears_what_it_asked_for() -> None:
    bus = InMemorySubscriptionBus()
    async with served(MCPServer("s", subscriptions=bus)) as wire:
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["x://a"]}
        answer = await Modern(wire).request(
            "subscriptions/listen", {"notifications": wanted}, id="sub"
        )
        assert answer.is_stream
        acknowledged = await answer.message()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == wanted
        await bus.publish(ResourceUpdated("x://b"))
        await bus.publish(ResourceUpdated("x://a"))
        await bus.publish(ToolsListChanged())
        heard = [await answer.message(), await answer.message()]
        assert [m["method"] for m in heard] == [
            "notifications/resources/updated", "notifications/tools/list_changed",
        ]  # fmt: skip
        for message in heard:
            assert message["params"]["_meta"][f"{META}subscriptionId"] == "sub"
        await wire.clock.advance(11)
        ping = await answer.frame()
        assert ping is not None
        assert ping.comment is not None
        await wire.app.drain()
        assert all("error" not in message for message in await answer.rest())


@pytest.mark.requirement("subscriptions.closure", era="2026")
async def test_a_listener_is_answered_when_the_server_stops() -> None:
    async with served(MCPServer("plain")) as wire:
        wanted = {"notifications": {"toolsListChanged": True}}
        ear = await Modern(wire).request("subscriptions/listen", wanted, id="ear")
        await ear.message()
        await wire.app.drain()
        (last,) = await ear.rest()
        assert (last["id"], last["result"]["resultType"]) == ("ear", "complete")


async def test_a_listener_that_goes_away_is_forgotten() -> None:
    async with served(MCPServer("s")) as wire:
        answer = await Modern(wire).request(
            "subscriptions/listen", {"notifications": {"toolsListChanged": True}}
        )
        await answer.message()
        assert len(wire.app.engine.runs) == 1
        answer.cut()
        await until(lambda: len(wire.app.engine.runs) == 0)


# Input in several rounds


async def ask_name() -> Elicit[Name]:
    return Elicit("Who?", Name)


@pytest.mark.requirement("http.post.no-requests", era="2026")
async def test_a_question_is_a_result_and_its_answer_a_new_request() -> None:
    mcp = MCPServer("s")

    @mcp.tool()
    async def greet(who: Annotated[Name, Resolve(ask_name)]) -> str:
        return f"Hello {who.name}"

    async with served(mcp) as wire:
        modern = Modern(wire, {"elicitation": {"form": {}}})
        result = (await (await modern.call("greet", token="t")).json())["result"]
        assert result["resultType"] == "input_required"
        ((key, question),) = result["inputRequests"].items()
        assert question["method"] == "elicitation/create"
        params = {
            "name": "greet",
            "arguments": {},
            "inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}},
            "requestState": result["requestState"],
        }
        outcome = await (await modern.request("tools/call", params, id=2)).json()
        assert text_of(outcome) == "Hello Ada"


async def test_a_client_that_cannot_be_asked_is_told_what_it_lacks() -> None:
    mcp = MCPServer("s")

    @mcp.tool()
    async def greet(who: Annotated[Name, Resolve(ask_name)]) -> str:
        return who.name

    async with served(mcp) as wire:
        answer = await Modern(wire).call("greet")
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, -32021)


async def test_a_tool_can_ask_by_hand() -> None:
    mcp = MCPServer("s")

    @mcp.tool()
    async def count(ctx: Context[Any, Any]) -> CallToolResult | InputRequiredResult:
        rounds = int(ctx.request_state or 0)
        await ctx.report_progress(rounds, 2)
        if rounds < 2:
            return InputRequiredResult(request_state=str(rounds + 1))
        return CallToolResult(content=[], structured_content={"rounds": rounds})

    async with served(mcp) as wire:
        modern = Modern(wire)
        params: dict[str, Any] = {"name": "count", "arguments": {}}
        for rounds in range(2):
            messages = await (await modern.request("tools/call", params, token="t")).rest()
            assert progress_of(messages) == [rounds]  # asking is not being done
            params["requestState"] = messages[-1]["result"]["requestState"]
        outcome = await (await modern.request("tools/call", params)).outcome()
        assert outcome["result"]["structuredContent"] == {"rounds": 2}


async def test_both_eras_are_served_side_by_side() -> None:
    async with served(echo_server()) as wire:
        session = await Session.open(wire)
        assert text_of(await (await session.call("echo")).json()) == "hi"
        assert text_of(await (await Modern(wire).call("echo")).json()) == "hi"


# Disconnect


@pytest.mark.requirement("http.cut.cancels", "cancel.stops", era="2026")
@pytest.mark.parametrize("speaks", [True, False], ids=["after a frame", "before any frame"])
async def test_a_lost_connection_cancels_the_call(speaks: bool) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()
    mcp = MCPServer("s")

    @mcp.tool()
    async def hang(ctx: Context[Any, Any]) -> None:
        if speaks:
            await ctx.report_progress(1)
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with served(mcp) as wire:
        modern = Modern(wire)
        body = modern.body("tools/call", {"name": "hang", "arguments": {}}, token="t")
        connection = await modern.send(body)
        await within(started.wait())
        if speaks:
            await (await connection.answer()).message()
        connection.cut()
        await within(stopped.wait())
        await until(lambda: len(wire.app.engine.runs) == 0)
        assert (await modern.request("tools/list")).status == 200
