"""Generator functions as tools: what they yield is a part at once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from typing import Any

import pytest
from mcp.server.mcpserver import Context, Image
from pydantic import BaseModel
from tests.kit.waits import PATIENCE

from headway import Headway, stage, track
from headway.engine import Run, executing_run
from headway.testing import run_tool

pytestmark = pytest.mark.anyio


class Hit(BaseModel):
    title: str


async def schema(mcp: Headway) -> dict[str, Any] | None:
    (tool,) = await mcp.list_tools()
    return tool.output_schema


async def test_what_a_generator_yields_is_a_part_and_what_it_returns_is_the_result():
    mcp = Headway()

    @mcp.tool()
    def count(upto: int) -> Generator[dict[str, int], None, str]:
        for number in range(upto):
            yield {"number": number}
        return f"counted to {upto}"

    outcome = await run_tool(mcp, "count", {"upto": 3})
    assert outcome.parts == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert outcome.result == "counted to 3"
    assert (await schema(mcp) or {})["properties"]["result"]["type"] == "string"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_generator_that_returns_nothing_has_the_list_of_its_parts_as_result(kind: str):
    mcp = Headway()

    async def found() -> AsyncIterator[Hit]:
        yield Hit(title="a")
        yield Hit(title="b")

    def found_sync() -> Iterator[Hit]:
        yield Hit(title="a")
        yield Hit(title="b")

    mcp.tool("find")(found if kind == "async" else found_sync)
    outcome = await run_tool(mcp, "find")
    assert outcome.parts == outcome.result == [{"title": "a"}, {"title": "b"}]
    assert (await schema(mcp) or {})["properties"]["result"]["type"] == "array"
    assert "Hit" in (await schema(mcp) or {})["$defs"]


@pytest.mark.parametrize("returned", [None, "all"])
async def test_without_annotations_what_is_returned_counts_if_there_is_something(returned):
    mcp = Headway()

    @mcp.tool()
    def work():
        yield "half"
        return returned

    outcome = await run_tool(mcp, "work")
    assert outcome.parts == ["half"]
    assert outcome.result == (returned or "half")
    assert await schema(mcp) is None


async def test_what_yields_anything_may_yield_images_too():
    mcp = Headway()

    @mcp.tool()
    def draw() -> Iterator[Any]:
        yield "sketch"
        yield Image(data=b"PNG", format="png")

    outcome = await run_tool(mcp, "draw")
    image = {"type": "image", "data": "UE5H", "mimeType": "image/png"}
    assert outcome.parts == ["sketch", image]
    assert outcome.result == [{"type": "text", "text": "sketch"}, image]
    assert await schema(mcp) is None


async def test_a_declared_result_of_none_is_not_replaced_by_the_parts():
    mcp = Headway()

    @mcp.tool()
    def work() -> Generator[str, None, str | None]:
        yield "half"
        return None

    assert (await run_tool(mcp, "work")).result is None


async def test_a_sync_generator_runs_in_a_thread_and_its_progress_is_the_run_s():
    mcp, threads = Headway(), []

    @mcp.tool()
    def work() -> Iterator[int]:
        with stage("Copy"):
            for item in track([1, 2]):
                threads.append(threading.current_thread())
                yield item

    outcome = await run_tool(mcp, "work")
    assert outcome.parts == [1, 2]
    assert outcome.progress[-1][:2] == (1, 1)
    assert threading.main_thread() not in threads


async def test_a_bare_yield_gives_out_nothing():
    mcp = Headway()

    @mcp.tool()
    def work() -> Iterator[str | None]:
        yield
        yield "one"
        yield

    outcome = await run_tool(mcp, "work")
    assert outcome.parts == outcome.result == ["one"]


async def test_context_defaults_and_descriptions_are_those_of_the_function():
    mcp = Headway()

    @mcp.tool()
    async def work(ctx: Context, times: int = 2) -> AsyncIterator[str]:
        """Work a little."""
        await ctx.report_progress(1, 2, "half")
        for _ in range(times):
            yield ctx.mcp_server.name

    (tool,) = await mcp.list_tools()
    assert tool.description == "Work a little."
    assert tool.input_schema["properties"].keys() == {"times"}
    outcome = await run_tool(mcp, "work")
    assert outcome.result == [mcp.name, mcp.name]
    assert outcome.progress[0] == (1, 2, "half")


async def test_generators_behind_partials_and_objects_are_generators_too():
    mcp = Headway()

    def numbers(start: int, upto: int) -> Iterator[int]:
        yield from range(start, upto)

    class Letters:
        async def __call__(self) -> AsyncIterator[str]:
            yield "a"

    mcp.add_tool(partial(numbers, 1), "numbers")
    mcp.add_tool(Letters(), "letters")
    assert (await run_tool(mcp, "numbers", {"upto": 3})).parts == [1, 2]
    assert (await run_tool(mcp, "letters")).parts == ["a"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_a_generator_raises_is_the_tool_s_error_and_its_parts_stay(kind: str):
    mcp, closed = Headway(), []

    def broken() -> Iterator[str]:
        try:
            yield "one"
            raise ValueError("no more")
        finally:
            closed.append(True)

    async def broken_async() -> AsyncIterator[str]:
        for value in broken():
            yield value

    mcp.tool("broken")(broken if kind == "sync" else broken_async)
    outcome = await run_tool(mcp, "broken", raise_on_error=False)
    assert outcome.is_error
    assert outcome.parts == ["one"]
    assert closed == [True]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_part_that_cannot_be_sent_closes_the_generator(kind: str):
    mcp, closed = Headway(), []

    def work() -> Iterator[object]:
        try:
            yield object()
        finally:
            closed.append(True)

    async def work_async() -> AsyncIterator[object]:
        try:
            yield object()
        finally:
            closed.append(True)

    mcp.tool("work", structured_output=False)(work if kind == "sync" else work_async)
    assert (await run_tool(mcp, "work", raise_on_error=False)).is_error
    assert closed == [True]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("value", ["more", None])
async def test_a_cancelled_generator_is_closed(kind: str, value: str | None):
    mcp, closed = Headway(), threading.Event()
    begun: asyncio.Queue[Run | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def endless() -> Iterator[str | None]:
        loop.call_soon_threadsafe(begun.put_nowait, executing_run())
        try:
            while True:
                yield value
        finally:
            closed.set()

    async def endless_async() -> AsyncIterator[str | None]:
        for item in endless():
            yield item
            await asyncio.sleep(0)

    mcp.tool("endless")(endless if kind == "sync" else endless_async)
    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(run_tool(mcp, "endless", raise_on_error=False))
        run = await begun.get()
        assert run is not None
        run.cancel("client", "enough")
        assert (await call).error == "enough"
    assert await asyncio.to_thread(closed.wait, 5)
