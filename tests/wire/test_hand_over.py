"""Calls that outlast their window, from clients that know no tasks."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel
from tests.kit.http import Answer
from tests.kit.peers import (
    Client,
    Modern,
    Session,
    connect,
    each_era,
    handle_of,
    progress_of,
    served,
    text_of,
)
from tests.kit.tools import Name
from tests.kit.waits import until

from headway import Headway, Settings, part, report
from headway.client_profiles import Profile
from headway.testing import FakeClock
from headway.testing.fake_clock import run_loop_turns

pytestmark = pytest.mark.anyio

WINDOW = Settings(hand_over=20.0)
STEP = 0.5


class Summary(BaseModel):
    files: int


class ScanTools:
    """Tools that give out the names of files that a test says, until it says None."""

    def __init__(self, **options: Any) -> None:
        self.next: asyncio.Queue[str | None] = asyncio.Queue()
        self.runs = 0
        self.stopped = 0
        self.mcp = Headway("scan")
        self.mcp.add_tool(self.scan, **options)
        self.mcp.add_tool(self.listed, **options)
        self.mcp.add_tool(self.loose, **options)
        self.mcp.add_tool(self.asks, **options)
        self.mcp.add_tool(self.quick)

    async def scan(self) -> Summary:
        self.runs += 1
        count = 0
        try:
            while (name := await self.next.get()) is not None:
                count += 1
                report(count, 4, f"Hashing {name}")
                part({"file": name})
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return Summary(files=count)

    async def listed(self) -> AsyncIterator[str]:
        while (name := await self.next.get()) is not None:
            yield name

    async def loose(self) -> Any:
        while (name := await self.next.get()) is not None:
            yield {"file": name}

    async def asks(self, ctx: Context[Any, Any]) -> str:
        await self.next.get()
        answer = await ctx.elicit("Who are you?", Name)
        return f"Hello {answer.data.name}" if answer.action == "accept" else answer.action

    async def quick(self) -> str:
        return "at once"

    def say(self, *names: str | None) -> None:
        for name in names:
            self.next.put_nowait(name)


async def over(answer_to: "asyncio.Task[Answer]", clock: FakeClock, seconds: float) -> Any:
    """The outcome of a call, time going on meanwhile."""
    await clock.advance(seconds, step=STEP)
    return await (await answer_to).outcome()


def calling(client: Client, tool: str, arguments: Any = None, **options: Any) -> Any:
    return asyncio.create_task(client.call(tool, arguments, **options))


async def tools_of(client: Client) -> dict[str, Any]:
    listing = (await (await client.request("tools/list")).outcome())["result"]
    return {tool["name"]: tool for tool in listing["tools"]}


@each_era
async def test_a_long_call_is_answered_in_time_and_the_rest_is_fetched(era: str) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        call = calling(client, "scan")
        scan.say("a", "b")
        first = await over(call, wire.clock, 21)
        handle = handle_of(first)
        result = first["result"]
        assert [block["text"] for block in result["content"][:2]] == [
            '{"file":"a"}', '{"file":"b"}',
        ]  # fmt: skip
        assert "2 of 4 \u00b7 Hashing b" in result["content"][2]["text"]
        assert handle in result["content"][2]["text"]
        assert result["structuredContent"]["parts"] == [{"file": "a"}, {"file": "b"}]
        assert (result["structuredContent"]["progress"], result.get("resultType")) == (
            2, "complete" if era == "2026" else None,
        )  # fmt: skip

        again = calling(client, "continue_run", {"run_id": handle}, id=2)
        scan.say("c")
        second = await over(again, wire.clock, 21)
        assert second["result"]["structuredContent"]["parts"] == [{"file": "c"}]

        last = calling(client, "continue_run", {"run_id": handle_of(second)}, id=3)
        scan.say("d", None)
        rest = (await over(last, wire.clock, 1))["result"]
        assert [block["text"] for block in rest["content"]][:1] == ['{"file":"d"}']
        assert rest["structuredContent"] == {"files": 4}
        assert scan.runs == 1


@each_era
async def test_the_handle_can_be_used_again_and_from_another_connection(era: str) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        handle = handle_of(await over(calling(client, "scan"), wire.clock, 21))
        if isinstance(client, Session):
            await (await client.delete()).body()
        scan.say("a", None)
        other = await connect(wire, era)
        for number in (5, 6):
            outcome = await (
                await other.call("continue_run", {"run_id": handle}, id=number)
            ).outcome()
            assert outcome["result"]["structuredContent"] == {"files": 1}
            assert outcome["result"]["content"][0]["text"] == '{"file":"a"}'
        assert (scan.runs, scan.stopped) == (1, 0)


@each_era
async def test_a_continue_run_reports_the_progress_of_the_run(era: str) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        scan.say("a")
        handle = handle_of(await over(calling(client, "scan"), wire.clock, 21))
        answer = await client.call("continue_run", {"run_id": handle}, id=2, token="t")
        first = await answer.message()
        scan.say("b", "c", "d", None)
        rest = await answer.rest()
        values = progress_of([first, *rest])
        assert (values[0], values[-1], values) == (1, 4, sorted(set(values)))
        assert rest[-1]["result"]["structuredContent"] == {"files": 4}


@each_era
async def test_a_call_with_a_token_is_not_handed_over_and_a_quick_one_pays_nothing(
    era: str,
) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        quick = await client.call("quick")
        assert quick.headers["content-type"] == "application/json"
        assert text_of(await quick.json()) == "at once"
        call = calling(client, "scan", id=2, token="t")
        await wire.clock.advance(60, step=STEP)
        scan.say("a", None)
        outcome = await (await call).outcome()
        assert outcome["result"]["structuredContent"] == {"files": 1}
        assert await wire.app.journal.streams("inbox/") == []


@each_era
@pytest.mark.parametrize("tool", ["listed", "loose"])
async def test_a_generators_result_is_not_told_twice(era: str, tool: str) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        call = calling(client, tool)
        scan.say("a")
        handle = handle_of(await over(call, wire.clock, 21))
        scan.say("b", None)
        outcome = await (await client.call("continue_run", {"run_id": handle}, id=2)).outcome()
        texts = [block["text"] for block in outcome["result"]["content"]]
        if tool == "listed":
            assert outcome["result"]["structuredContent"] == {"result": ["a", "b"]}
            assert texts == ["a", "b"]
        else:
            assert [json.loads(text) for text in texts] == [{"file": "a"}, {"file": "b"}]


@each_era
async def test_the_tool_is_listed_where_somebody_set_a_window_and_only_there(era: str) -> None:
    for server, settings, expected in (
        (MCPServer("plain"), None, False),
        (MCPServer("plain"), Settings(hand_over=float("inf")), False),
        (MCPServer("plain"), WINDOW, True),
        (ScanTools().mcp, None, False),
        (ScanTools(hand_over="30s").mcp, None, True),
        (ScanTools(hand_over="never").mcp, None, False),
    ):
        async with served(server, settings=settings) as wire:
            tools = await tools_of(await connect(wire, era))
            assert ("continue_run" in tools) is expected


@each_era
async def test_results_and_handles_both_keep_to_the_listed_schema(era: str) -> None:
    scan = ScanTools(hand_over="20s")
    async with served(scan.mcp) as wire:
        client = await connect(wire, era)
        tools = await tools_of(client)
        first = await over(calling(client, "scan"), wire.clock, 21)
        scan.say(None)
        handle = handle_of(first)
        last = await (await client.call("continue_run", {"run_id": handle}, id=2)).outcome()
        for outcome in (first, last):
            content = outcome["result"]["structuredContent"]
            jsonschema.validate(content, tools["scan"]["outputSchema"])
        assert "anyOf" not in tools["quick"]["outputSchema"]
        assert "outputSchema" not in tools["continue_run"]


@each_era
async def test_a_call_can_be_stopped(era: str) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        handle = handle_of(await over(calling(client, "scan"), wire.clock, 21))
        stop = {"run_id": handle, "stop": True}
        outcome = await (await client.call("continue_run", stop, id=2)).outcome()
        assert "stopped with continue_run" in text_of(outcome)
        assert scan.stopped == 1


@each_era
async def test_a_cancelled_continue_run_does_not_stop_the_run(era: str) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        handle = handle_of(await over(calling(client, "scan"), wire.clock, 21))
        scan.say("a")
        waiting = await client.call("continue_run", {"run_id": handle}, id=2, token="t")
        await waiting.message()
        if isinstance(client, Session):
            await client.notify("notifications/cancelled", {"requestId": 2})
        else:
            waiting.cut()
        await until(lambda: len(wire.app.engine.runs) == 1)
        scan.say(None)
        outcome = await (await client.call("continue_run", {"run_id": handle}, id=3)).outcome()
        assert outcome["result"]["structuredContent"] == {"files": 1}


@each_era
@pytest.mark.parametrize("run_id", ["", "x", "x.7", "../secret", "a/b", "."])
async def test_an_unknown_run_is_an_error_for_the_model(era: str, run_id: str) -> None:
    async with served(ScanTools().mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        outcome = await (await client.call("continue_run", {"run_id": run_id})).outcome()
        assert outcome["result"]["isError"] is True
        assert text_of(outcome).startswith("No such run")


@each_era
@pytest.mark.parametrize("arguments", [{}, {"run_id": 5}, {"run_id": "x", "stop": "yes"}])
async def test_wrong_arguments_are_told(era: str, arguments: dict[str, Any]) -> None:
    async with served(ScanTools().mcp, settings=WINDOW) as wire:
        client = await connect(wire, era)
        outcome = await (await client.call("continue_run", arguments)).outcome()
        assert outcome["result"]["isError"] is True
        assert "Give run_id as the earlier answer has it" in text_of(outcome)


async def test_a_question_is_asked_on_the_continue_run() -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        session = await Session.open(wire, capabilities={"elicitation": {}})
        handle = handle_of(await over(calling(session, "asks"), wire.clock, 21))
        waiting = asyncio.create_task(session.call("continue_run", {"run_id": handle}, id=9))
        await run_loop_turns()
        scan.say("go")
        answer = await waiting
        question = await answer.message()
        assert question["method"] == "elicitation/create"
        reply = {"action": "accept", "content": {"name": "Ada"}}
        assert (await session.reply(question, reply)).status == 202
        assert text_of((await answer.rest())[-1]) == "Hello Ada"


async def test_a_request_id_is_free_when_its_call_was_answered_with_a_handle() -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW) as wire:
        session = await Session.open(wire)
        handle = handle_of(await over(calling(session, "scan", id=7), wire.clock, 21))
        await session.notify("notifications/cancelled", {"requestId": 7})  # too late
        quick = await session.call("quick", id=7)
        assert text_of(await quick.outcome()) == "at once"
        scan.say(None)
        last = await (await session.call("continue_run", {"run_id": handle}, id=8)).outcome()
        assert last["result"]["structuredContent"] == {"files": 0}


async def test_a_servers_own_tool_of_that_name_is_the_one_that_is_called() -> None:
    mcp = MCPServer("own")

    @mcp.tool()
    def continue_run(run_id: str) -> str:
        return f"mine: {run_id}"

    async with served(mcp, settings=WINDOW) as wire:
        client = Modern(wire)
        assert list(await tools_of(client)) == ["continue_run"]
        outcome = await (await client.call("continue_run", {"run_id": "x"})).outcome()
        assert text_of(outcome) == "mine: x"


async def test_a_known_deadline_comes_before_the_window() -> None:
    scan = ScanTools()
    strict = Profile("wire", deadline=8.0)
    settings = Settings(hand_over=60.0, profiles=(strict,))
    async with served(scan.mcp, settings=settings) as wire:
        session = await Session.open(wire)
        handle_of(await over(calling(session, "scan"), wire.clock, 7))


async def test_a_handle_outlives_its_server(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    scan = ScanTools()
    async with served(scan.mcp, settings=WINDOW, journal=journal) as wire:
        session = await Session.open(wire)
        handle = handle_of(await over(calling(session, "scan"), wire.clock, 21))
        scan.say("a", None)
        await (await session.call("continue_run", {"run_id": handle}, id=2)).outcome()
    async with served(scan.mcp, settings=WINDOW, journal=journal) as wire:
        for client in (await Session.open(wire), Modern(wire)):
            outcome = await (await client.call("continue_run", {"run_id": handle})).outcome()
            assert outcome["result"]["structuredContent"] == {"files": 1}
    assert scan.runs == 1


RESUMES = Settings(profiles=(Profile("wire", resumes=True),))


@pytest.mark.requirement("http.post.retry", era="2025")
async def test_a_stream_is_closed_early_for_a_client_that_resumes() -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=RESUMES) as wire:
        session = await Session.open(wire)
        call = calling(session, "scan", id="w")
        await wire.clock.advance(46, step=STEP)
        answer = await call
        assert await answer.rest() == []  # the stream has ended, and without an answer
        scan.say("a")
        again = asyncio.create_task(session.get(answer.ids[-1]))
        await wire.clock.advance(46, step=STEP)
        resumed = await again
        frames = await resumed.rest()
        assert [m["params"]["data"] for m in frames] == [{"file": "a"}]
        scan.say(None)
        last = (await (await session.get(resumed.ids[-1])).rest())[-1]
        assert (last["id"], last["result"]["structuredContent"]) == ("w", {"files": 1})
        assert scan.runs == 1


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18"])
async def test_earlier_revisions_have_no_early_end(version: str) -> None:
    scan = ScanTools()
    async with served(scan.mcp, settings=RESUMES) as wire:
        session = await Session.open(wire, version)
        call = calling(session, "scan")
        await wire.clock.advance(100, step=STEP)
        scan.say(None)
        outcome = await (await call).outcome()
        assert outcome["result"]["structuredContent"] == {"files": 0}
