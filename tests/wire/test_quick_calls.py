"""A call that ends without waiting: it is answered in the turn of the loop in which it was read."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from bench.by_hand import ByHand, Sent
from bench.wire import Era
from mcp.server.mcpserver import Context, MCPServer
from tests.kit.peers import connect, each_era, progress_of, served, text_of
from tests.kit.waits import within

from headway import Headway, Settings, asgi, log
from headway.clock import Clock
from headway.first_step import FirstStep

pytestmark = pytest.mark.anyio


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


@asynccontextmanager
async def by_hand(
    era: Era, journal: str = "memory:", server: object = None
) -> AsyncGenerator[ByHand]:
    app = asgi(server or quick_server(), journal=journal)
    async with app.lifespan():
        client = ByHand(app, era)
        await client.shake_hands()
        yield client


@each_era
async def test_it_is_answered_without_a_turn_of_the_loop(era: Era) -> None:
    async with by_hand(era) as client:
        step = FirstStep(client.call("echo", {"text": "hello"}))
        assert step.is_over, "the call has waited for something"
        start, body = step.result
        assert start["status"] == 200
        assert text_of(json.loads(body["body"])) == "hello"


@each_era
async def test_its_own_error_is_answered_likewise(era: Era) -> None:
    async with by_hand(era) as client:
        step = FirstStep(client.call("fail", {}))
        assert step.is_over
        result = json.loads(step.result[1]["body"])["result"]
        assert result["isError"] is True


@each_era
async def test_a_result_is_stored_before_it_is_sent(era: Era, tmp_path: Path) -> None:
    async with by_hand(era, f"sqlite:///{tmp_path}/journal.db") as client:
        step = FirstStep(client.call("echo", {"text": "hello"}))
        assert not step.is_over, "the answer did not wait for the storage"
        _, body = await within(step)
        assert text_of(json.loads(body["body"])) == "hello"


@each_era
async def test_a_storage_that_takes_its_time_makes_a_stream_of_it(era: str, tmp_path: Path) -> None:
    path, settings = tmp_path / "journal.db", Settings(commit_after=0.05)
    journal = f"sqlite:///{path}"
    async with served(quick_server(), journal=journal, settings=settings, clock=Clock()) as wire:
        client = await connect(wire, era)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else can write now
            answer = await within(client.call("echo", {"text": "hello"}))
            assert answer.is_stream, "its client was left without a sign of life"
            other.execute("ROLLBACK")
        assert text_of(await within(answer.outcome())) == "hello"


async def test_a_request_sent_again_in_the_moment_of_its_end_is_answered_once() -> None:
    mcp, go = MCPServer("waiting"), asyncio.Event()
    begun = asyncio.Event()

    @mcp.tool()
    async def wait() -> str:
        begun.set()
        await go.wait()
        return "done"

    async with by_hand("2025", server=mcp) as client:
        first = asyncio.create_task(client.call("wait", {}))
        await within(begun.wait())
        go.set()
        second = FirstStep(client.call("wait", {}))  # before the tool goes on

        async def rest_of_second() -> Sent:
            return await second

        answers = await within(asyncio.gather(first, rest_of_second()))
        assert sorted(start["status"] for start, *_ in answers) == [200, 409]


@each_era
async def test_what_comes_at_once_is_no_handle_whatever_the_window(era: str) -> None:
    mcp = Headway("handing")

    @mcp.tool(hand_over="at once")
    async def pause() -> str:
        await asyncio.sleep(0)
        return "done"

    async with served(mcp) as wire:
        client = await connect(wire, era)
        assert text_of(await (await client.call("pause", {})).outcome()) == "done"


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
