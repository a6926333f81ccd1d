"""What is bounded: slow readers, time, places, queues. And text that breaks other servers."""

import asyncio
import threading
from typing import Any

import pytest
from mcp.server.mcpserver import Context
from tests.kit.http import Answer
from tests.kit.peers import Session, begin, connect, each_era, progress_of, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import PATIENCE, until, within

from headway import Headway, Settings, log, part, report
from headway.clock import Clock

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

# Slow readers


class Shouting:
    """A tool that says far more than a connection takes."""

    REPORTS = 40_000
    LOGS = 12_000

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.mcp = Headway("shouting")
        self.mcp.add_tool(self.shout, name="shout")
        self.mcp.add_tool(self.whisper, name="whisper")

    async def shout(self, ctx: Context[Any, Any]) -> str:
        text = "x" * 2500
        for step in range(1, self.REPORTS + 1):
            await ctx.report_progress(step, self.REPORTS, text)
        for _ in range(self.LOGS):
            log(text)
        self.ended.set()
        return "y" * 1_000_000

    async def whisper(self) -> str:
        return "heard"


@each_era
async def test_a_client_that_does_not_read_blocks_nobody_and_costs_a_bounded_amount(
    era: str,
) -> None:
    shouting = Shouting()
    settings = Settings(progress_rate=0, log_rate=0)
    async with served(shouting.mcp, clock=Clock(), settings=settings) as wire:
        client = await connect(wire, era)
        connection = await begin(client, "shout", token="t", id=1, receive_buffer=4096)
        async with asyncio.timeout(PATIENCE):
            other = client.call("whisper", id=2)
            assert text_of(await (await other).outcome()) == "heard"
            await shouting.ended.wait()
        retention = wire.app.journal.retention
        for tail in wire.app.journal._buffers:
            assert len(tail.entries) <= retention.stream_entries
            assert tail.size <= retention.stream_bytes + 2_000_000
        outcome, said, dropped = await read_on(await connection.answer())
        assert text_of(outcome) == "y" * 1_000_000
        assert said < shouting.REPORTS / 2
        assert (dropped > 0) is (era == "2025")  # at 2026-07-28 only who asks for logs is told


async def read_on(answer: Answer) -> tuple[dict[str, Any], int, int]:
    """The outcome, how much progress was heard, and how many messages are said to be lost."""
    values: list[float] = []
    dropped = 0
    async with asyncio.timeout(PATIENCE):
        while "result" not in (message := await answer.message()):
            if message["method"] == "notifications/progress":
                values.append(message["params"]["progress"])
            elif message["params"].get("logger") == "headway":
                assert "too slow" in message["params"]["data"]
                dropped += int(message["params"]["data"].split()[0])
    assert values == sorted(set(values))
    assert await answer.frame() is None
    return message, len(values), dropped


async def test_a_listener_that_does_not_read_costs_the_others_nothing() -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def change(ctx: Context[Any, Any]) -> str:
        for _ in range(2000):
            await ctx.notify_resource_updated("x://" + "a" * 1000)
        return "changed"

    async with served(mcp) as wire:
        session, other = await Session.open(wire), await Session.open(wire)
        for each in (session, other):
            await each.request("resources/subscribe", {"uri": "x://" + "a" * 1000})
        headers = session.headers()
        await wire.send("GET", headers, receive_buffer=4096)
        own = await other.get()
        assert text_of(await (await session.call("change")).outcome()) == "changed"
        for _ in range(2000):
            assert (await own.message())["method"] == "notifications/resources/updated"


# Text

SEPARATORS = "a\u2028b\u2029c\u0085d\r\ne\0f😀"


@each_era
async def test_line_separators_arrive_escaped_and_whole(era: str) -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def speak(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2, SEPARATORS)
        log(SEPARATORS, logger=SEPARATORS)
        part({SEPARATORS: SEPARATORS})
        return SEPARATORS

    async with served(mcp) as wire:
        options: dict[str, Any] = {"level": "info"} if era == "2026" else {}
        answer = await (await connect(wire, era)).call("speak", token=SEPARATORS, **options)
        frames: list[Any] = []
        while (frame := await answer.frame()) is not None:
            for raw in ("\u2028", "\u2029", "\u0085"):
                assert raw.encode() not in frame.raw
            if frame.message is not None:
                frames.append(frame.message)
        progress, logged, parted, done, outcome = frames
        assert {m["params"]["progressToken"] for m in (progress, done)} == {SEPARATORS}
        assert [m["params"].get("message") for m in (progress, done)] == [SEPARATORS, None]
        assert (logged["params"]["data"], logged["params"]["logger"]) == (SEPARATORS, SEPARATORS)
        assert parted["params"]["data"] == {SEPARATORS: SEPARATORS}
        assert text_of(outcome) == SEPARATORS


@each_era
async def test_line_separators_are_escaped_in_plain_json_too(era: str) -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def speak() -> str:
        return SEPARATORS

    async with served(mcp) as wire:
        answer = await (await connect(wire, era)).call("speak")
        assert not answer.is_stream
        raw = await answer.body()
        assert not any(c.encode() in raw for c in "\u2028\u2029\u0085")
        assert b"\\u2028" in raw


@pytest.mark.requirement("json.utf-8")
@each_era
async def test_lone_surrogates_do_not_break_a_stream(era: str) -> None:
    name = "caf\udce9"
    mcp = Headway("s")

    @mcp.tool()
    async def speak(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2, name)
        log(name, logger=name)
        part({"file": name})
        return name

    async with served(mcp) as wire:
        options: dict[str, Any] = {"level": "info"} if era == "2026" else {}
        answer = await (await connect(wire, era)).call("speak", token="t", **options)
        messages = await answer.rest()
        assert progress_of(messages) == [1, 2]
        assert messages[0]["params"]["message"] == "caf\ufffd"
        assert messages[1]["params"]["data"] == "caf\ufffd"
        assert messages[2]["params"]["data"] == {"file": "caf\ufffd"}
        assert text_of(messages[-1]) == "caf\ufffd"


@each_era
async def test_numbers_that_json_cannot_hold_do_not_lose_a_result(era: str) -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def count() -> dict[str, Any]:
        return {"big": 2**100, "negative": -(2**70), "nan": float("nan")}

    async with served(mcp) as wire:
        outcome = await (await (await connect(wire, era)).call("count")).outcome()
        found = outcome["result"]["structuredContent"]
        assert (found["big"], found["negative"], found["nan"]) == (2**100, -(2**70), None)


# Time


@each_era
@pytest.mark.parametrize("by", ["tool", "server"])
async def test_a_call_over_its_time_ends_with_an_error_and_stops(era: str, by: str) -> None:
    stopped = asyncio.Event()
    mcp = Headway("s")

    @mcp.tool(timeout="30s" if by == "tool" else None)
    async def hang(ctx: Context[Any, Any]) -> None:
        await ctx.report_progress(1, 2)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    settings = Settings(timeout=100 if by == "tool" else 30)
    async with served(mcp, settings=settings) as wire:
        answer = await (await connect(wire, era)).call("hang", token="t", id="slow")
        await answer.message()
        await wire.clock.advance(29)
        assert not stopped.is_set()
        await wire.clock.advance(2)
        await within(stopped.wait())
        messages = await answer.rest()
        end = messages[-1]
        assert (end["id"], end["error"]["code"]) == ("slow", -32001)
        assert "30 s" in end["error"]["message"]
        assert 2 not in progress_of(messages)


@each_era
async def test_a_thread_over_its_time_is_stopped_at_its_next_report(era: str) -> None:
    started, go, stopped = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    mcp = Headway("s")

    @mcp.tool(timeout=30)
    def hang() -> None:
        loop.call_soon_threadsafe(started.set)
        try:
            assert go.wait(PATIENCE)
            report(1)
            go.clear()
            go.wait(PATIENCE)
        finally:
            stopped.set()

    async with served(mcp) as wire:
        connection = await begin(await connect(wire, era), "hang")
        await within(started.wait())
        await wire.clock.advance(31)
        go.set()
        assert (await (await connection.answer()).outcome())["error"]["code"] == -32001
        assert stopped.wait(PATIENCE)


@each_era
async def test_a_silent_thread_over_its_time_does_not_keep_its_caller_waiting(era: str) -> None:
    started, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    mcp = Headway("s")

    @mcp.tool(timeout=30)
    def hang() -> None:
        loop.call_soon_threadsafe(started.set)
        go.wait(PATIENCE)

    async with served(mcp) as wire:
        connection = await begin(await connect(wire, era), "hang")
        try:
            await within(started.wait())
            await wire.clock.advance(31, step=0.5)
            outcome = await within((await connection.answer()).outcome())
            assert outcome["error"]["code"] == -32001
        finally:
            go.set()


# Places


@each_era
@pytest.mark.parametrize(
    ("options", "settings"),
    [({"concurrency": 1}, Settings()), ({}, Settings(max_runs=1))],
    ids=["per tool", "per server"],
)
async def test_a_call_in_the_queue_reports_its_position(
    era: str, options: dict[str, Any], settings: Settings
) -> None:
    tools = GatedTools(wait=options)
    async with served(tools.mcp, settings=settings) as wire:
        client = await connect(wire, era)
        first = await begin(client, "wait", id=1)
        await until(lambda: tools.at_once == 1)
        second = await client.call("wait", id=2, token=2)
        third = await client.call("wait", id=3, token=3)
        assert (await second.message())["params"]["message"] == "Queued, 0 ahead"
        assert (await third.message())["params"]["message"] == "Queued, 1 ahead"
        tools.gate.let_pass()
        assert text_of(await (await first.answer()).outcome()) == "run 1"
        await until(lambda: tools.at_once == 1)
        await wire.clock.advance(1.5)
        assert (await third.message())["params"]["message"] == "Queued, 0 ahead"
        for answer, end in ((second, "run 2"), (third, "run 3")):
            tools.gate.let_pass()
            messages = await answer.rest()
            values = progress_of(messages)
            assert values == sorted(set(values))
            assert text_of(messages[-1]) == end
        assert tools.most_at_once == 1


@each_era
async def test_eight_blocked_threads_block_nobody_else(era: str) -> None:
    """Scenario 18: sync tools that sleep, while lists are answered and the wire stays alive."""
    go, working = threading.Event(), threading.Semaphore(0)
    mcp = Headway("s")

    @mcp.tool(concurrency=8)
    def block() -> str:
        working.release()
        go.wait(PATIENCE)
        return "woken"

    async with served(mcp) as wire:
        client = await connect(wire, era)
        try:
            calls = [await begin(client, "block", id=n, token=n) for n in range(1, 9)]
            for _ in calls:
                assert await asyncio.to_thread(working.acquire, timeout=PATIENCE)
            ninth = await client.call("block", id=9, token=9)
            assert (await ninth.message())["params"]["message"] == "Queued, 0 ahead"
            for number in range(20):
                listed = await (await client.request("tools/list", id=100 + number)).json()
                assert listed["result"]["tools"][0]["name"] == "block"
            await wire.clock.advance(10.5, step=0.5)
            for call in calls:
                assert progress_of([await (await call.answer()).message()])
        finally:
            go.set()
        assert text_of((await ninth.rest())[-1]) == "woken"


@each_era
async def test_a_call_cancelled_in_the_queue_leaves_it(era: str) -> None:
    tools = GatedTools(wait={"concurrency": 1})
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        await begin(client, "wait", id=1)
        await until(lambda: tools.at_once == 1)
        waiting = await client.call("wait", id=2, token=2)
        await waiting.message()
        if isinstance(client, Session):
            await client.notify("notifications/cancelled", {"requestId": 2})
            assert (await waiting.rest())[-1]["error"]["code"] == -32800
        else:
            waiting.cut()
        await until(lambda: len(wire.app.engine.runs) == 1)
        tools.gate.open()
        assert text_of(await (await client.call("wait", id=3)).outcome()) == "run 2"


@each_era
async def test_a_full_queue_refuses_with_503_and_when_to_come_back(era: str) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=Settings(max_runs=1, max_queue=1)) as wire:
        client = await connect(wire, era)
        connections = [await begin(client, "wait", id=id) for id in (1, 2)]
        await until(lambda: len(wire.app.engine.runs) == 2 and tools.at_once == 1)
        refused = await client.call("wait", id=3)
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        error = await refused.json()
        assert (error["id"], error["error"]["code"]) == (3, -32000)
        assert "busy" in error["error"]["message"]
        tools.gate.open()
        answers = [await connection.answer() for connection in connections]
        assert [text_of(await answer.outcome()) for answer in answers] == ["run 1", "run 2"]


async def test_a_batch_does_not_get_more_places_than_there_are() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=Settings(max_runs=1, max_queue=2)) as wire:
        session = await Session.open(wire, "2025-03-26")
        refused = await session.post([session.call_message("wait") for _ in range(9)])
        assert refused.status == 503
        await until(lambda: not wire.app.engine.runs)
        assert tools.most_at_once == 0


async def test_a_session_above_the_limit_is_refused() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=Settings(max_sessions=2)) as wire:
        first = await Session.open(wire)
        # Who has a stream open makes no room.
        streams = [await session.get() for session in (first, await Session.open(wire))]
        assert [stream.status for stream in streams] == [200, 200]
        refused = await Session(wire, "2025-11-25", "", {}).request(
            "initialize",
            {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "x", "version": "1"},
            },
        )
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert "DELETE" in (await refused.json())["error"]["message"]
        await first.delete()
        await Session.open(wire)
