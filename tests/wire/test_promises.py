"""What is promised of progress and of a quiet wire, in both eras."""

import asyncio
import math
import threading
from itertools import pairwise
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from tests.kit.http import Answer
from tests.kit.peers import (
    Client,
    Session,
    Wire,
    begin,
    connect,
    each_era,
    progress_of,
    served,
    text_of,
)
from tests.kit.waits import until

from headway import Headway, Settings, report, track
from headway.clock import Clock

pytestmark = pytest.mark.anyio


def strictly_increasing(values: list[float]) -> bool:
    return all(math.isfinite(v) for v in values) and all(a < b for a, b in pairwise(values))


# Honest progress

NONSENSE: list[Any] = [
    math.nan, math.inf, -math.inf, 10**400, -(10**400), -5, "many", None, 1e308, -1e308,
]  # fmt: skip


def flood(start: int, total: int) -> None:
    """A third of the steps, each reported many times over, with nonsense in between."""
    for step in range(start, total + 1, 3):
        for _ in range(10):
            report(step, total)
            report(step - 1, total)
        report(NONSENSE[step % len(NONSENSE)], math.nan)
        report(step, math.inf)


@pytest.mark.requirement("http.post.response", "progress.increases", "progress.stops")
@each_era
async def test_a_flood_from_three_threads_becomes_a_handful_of_true_reports(era: str) -> None:
    mcp = Headway("flood")
    total = 4500

    @mcp.tool()
    def storm() -> str:
        from contextvars import copy_context

        threads = [
            threading.Thread(target=copy_context().run, args=(flood, start, total))
            for start in (1, 2, 3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "right"

    async with served(mcp, clock=Clock()) as wire:
        answer = await (await connect(wire, era)).call("storm", token="t")
        messages = await answer.rest()
        values = progress_of(messages)
        assert strictly_increasing(values)
        assert 2 <= len(values) <= 40
        last = messages[-2]["params"]
        assert last["progress"] == last["total"]
        assert {m["params"]["progressToken"] for m in messages[:-1]} == {"t"}
        assert text_of(messages[-1]) == "right"


@pytest.mark.requirement("progress.token")
@each_era
async def test_without_a_token_progress_is_on_no_stream(era: str) -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def work(ctx: Context[Any, Any]) -> str:
        for step in range(1000):
            await ctx.report_progress(step, 1000, "busy")
        return "ok"

    async with served(mcp, settings=Settings(progress_rate=0)) as wire:
        client = await connect(wire, era)
        own = await client.get() if isinstance(client, Session) else None
        answer = await client.call("work")
        assert text_of(await answer.json()) == "ok"
        if own is not None and isinstance(client, Session):
            await client.delete()
            assert await own.rest() == []


@each_era
@pytest.mark.parametrize("value", [10**30, 2**53 + 1, 1e300, 5e-324, 0.1])
async def test_extreme_values_arrive_and_leave_room_for_a_heartbeat(era: str, value: float) -> None:
    go = asyncio.Event()
    mcp = Headway("s")

    @mcp.tool()
    async def work(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(value)
        await go.wait()
        return "ok"

    async with served(mcp) as wire:
        answer = await (await connect(wire, era)).call("work", token="t")
        first = await answer.message()
        assert first["params"]["progress"] == value
        await wire.clock.advance(25, step=1)
        go.set()
        messages = await answer.rest()
        assert strictly_increasing(progress_of([first, *messages]))
        assert text_of(messages[-1]) == "ok"


@pytest.mark.requirement("progress.message", "progress.rate")
@each_era
async def test_the_pace_is_kept_and_the_newest_value_wins(era: str) -> None:
    step = asyncio.Event()
    mcp = Headway("s")

    @mcp.tool()
    async def work(ctx: Context[Any, Any]) -> str:
        for value in range(1, 50):
            await ctx.report_progress(value, 100)
        await step.wait()
        await ctx.report_progress(60, 100)
        return "ok"

    async with served(mcp, settings=Settings(progress_rate=4)) as wire:
        answer = await (await connect(wire, era)).call("work", token="t")
        assert progress_of([await answer.message()]) == [1]
        await wire.clock.advance(0.3)
        assert progress_of([await answer.message()]) == [49]
        step.set()
        messages = await answer.rest()
        assert progress_of(messages) == [100]
        assert messages[0]["params"]["total"] == 100


async def test_an_error_is_not_reported_as_done() -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def fail(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 10)
        await ctx.report_progress(2, 10)
        raise ValueError("broken")

    async with served(mcp) as wire:
        answer = await (await Session.open(wire)).call("fail", token="t")
        messages = await answer.rest()
        assert progress_of(messages) == [1, 2]
        assert messages[-1]["result"]["isError"]


@each_era
@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
async def test_a_label_that_fails_does_not_take_the_call_with_it(era: str, threaded: bool) -> None:
    """The message of a report that waited is made when the report is written, at the end."""
    mcp = Headway("s")

    def label(item: int) -> str:
        return str(1 / (2 - item))

    def in_a_thread() -> str:
        for item in track([1, 2], message=label):
            if item == 2:
                break
        return "ok"

    async def on_the_loop() -> str:
        return in_a_thread()

    mcp.add_tool(in_a_thread if threaded else on_the_loop, name="work")
    async with served(mcp) as wire:
        answer = await (await connect(wire, era)).call("work", token="t")
        messages = await answer.rest()
        assert progress_of(messages) == [0, 2]
        assert text_of(messages[-1]) == "ok"


async def test_a_label_may_report_something_itself() -> None:
    mcp = Headway("s")

    def label(item: int) -> str:
        report(item * 10)
        return f"item {item}"

    @mcp.tool()
    async def work() -> str:
        return str([item async for item in track([1, 2], message=label)])

    async with served(mcp) as wire:
        answer = await (await Session.open(wire)).call("work", token="t")
        assert text_of((await answer.rest())[-1]) == "[1, 2]"


@each_era
async def test_a_message_that_is_no_text_does_not_break_the_stream(era: str) -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def work(ctx: Context[Any, Any]) -> str:
        odd: Any = 7
        await ctx.report_progress(1, 2, odd)
        return "ok"

    async with served(mcp) as wire:
        answer = await (await connect(wire, era)).call("work", token="t")
        messages = await answer.rest()
        assert isinstance(messages[0]["params"].get("message", ""), str)
        assert text_of(messages[-1]) == "ok"


# A wire that is never silent


def silent_server() -> tuple[Headway, asyncio.Event]:
    go = asyncio.Event()
    mcp = Headway("silent")

    @mcp.tool()
    async def silent(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(3, 10)
        await go.wait()
        await ctx.report_progress(4, 10)
        await ctx.report_progress(10, 10)
        return "awake"

    return mcp, go


@each_era
async def test_a_silent_call_with_a_token_beats_for_ten_minutes(era: str) -> None:
    mcp, go = silent_server()
    async with served(mcp, settings=Settings(progress_rate=0)) as wire:
        answer = await (await connect(wire, era)).call("silent", token="t")
        beats = [await answer.message()]
        for _ in range(60):
            await wire.clock.advance(10, step=5)
            beats.append(await answer.message())
        values = progress_of(beats)
        assert strictly_increasing(values)
        assert (values[0], max(values) < 4) == (3, True)
        go.set()
        messages = await answer.rest()
        assert progress_of(messages) == [4, 10]
        assert text_of(messages[-1]) == "awake"


@each_era
async def test_a_silent_call_without_a_token_pings_for_ten_minutes(era: str) -> None:
    mcp, go = silent_server()
    async with served(mcp) as wire:
        client = await connect(wire, era)
        answer = await begin_streaming(wire, client, "silent")
        for _ in range(60):
            await wire.clock.advance(10, step=5)
            ping = await answer.frame()
            assert ping is not None
            assert ping.raw == b": ping"
        go.set()
        messages = await answer.rest()
        assert progress_of(messages) == []
        assert text_of(messages[-1]) == "awake"


async def begin_streaming(wire: Wire, client: Client, tool: str) -> Answer:
    """A silent call as a stream, after its first frame."""
    connection = await begin(client, tool)
    await until(lambda: wire.app.engine.runs)
    await wire.clock.advance(1)
    answer = await connection.answer()
    assert answer.is_stream
    await answer.frame()
    return answer


async def test_an_idle_get_stream_pings() -> None:
    mcp, _ = silent_server()
    async with served(mcp) as wire:
        own = await (await Session.open(wire)).get()
        await own.frame()
        for _ in range(6):
            await wire.clock.advance(10)
            ping = await own.frame()
            assert ping is not None
            assert ping.raw == b": ping"


async def test_a_heartbeat_never_passes_the_next_real_value_by_a_count() -> None:
    """Steps far smaller than the beat's own are still delivered, and still in order."""
    steps = asyncio.Semaphore(0)
    values = [0, 1e-12, 2e-12, 1]
    mcp = Headway("s")

    @mcp.tool()
    async def crawl(ctx: Context[Any, Any]) -> str:
        for value in values:
            await steps.acquire()
            await ctx.report_progress(value, 1, f"at {value}")
        return "ok"

    async with served(mcp, settings=Settings(progress_rate=0)) as wire:
        answer = await (await Session.open(wire)).call("crawl", token="t")
        heard: list[dict[str, Any]] = []
        for _ in values[:-1]:
            steps.release()
            heard.append(await answer.message())
            await wire.clock.advance(10.5, step=5)
            heard.append(await answer.message())
        steps.release()
        heard += await answer.rest()
        assert strictly_increasing(progress_of(heard))
        messages = [m["params"]["message"] for m in heard[:-1]]
        assert list(dict.fromkeys(messages)) == [f"at {value}" for value in values]
        assert progress_of(heard)[-1] == 1


async def test_a_server_that_is_no_headway_has_all_of_it_too() -> None:
    go = asyncio.Event()
    mcp = MCPServer("plain")

    @mcp.tool()
    async def plain() -> str:
        await go.wait()
        return "ok"

    async with served(mcp) as wire:
        answer = await (await Session.open(wire)).call("plain", token="t")
        await answer.frame()
        await wire.clock.advance(10)
        first = await answer.message()
        await wire.clock.advance(10)
        second = await answer.message()
        assert strictly_increasing(progress_of([first, second]))
        assert "total" not in first["params"]
        go.set()
        assert text_of((await answer.rest())[-1]) == "ok"
