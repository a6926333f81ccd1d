"""Checkpoints: what the next attempt at a run knows of those before it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from headway import Headway, attempt, checkpoint, earlier_parts, last_checkpoint, part, track
from headway.testing import Outcome, record, run_tool

pytestmark = pytest.mark.anyio


class Model(BaseModel):
    number: int


@dataclass
class Plain:
    number: int


class Opaque:
    pass


class TrackingTools:
    """Tools that track `items`, and raise in the first attempts at the ones in `hurdles`."""

    def __init__(self, items: list[Any], hurdles: list[Any], name: Any = True) -> None:
        self.items, self.hurdles, self.name = items, hurdles, name
        self.done: list[Any] = []
        self.mcp = Headway("work")
        self.mcp.add_tool(self.sync, name="sync", restart=True)
        self.mcp.add_tool(self.awaited, name="awaited", restart=True)
        self.mcp.add_tool(self.generator, name="generator", restart=True)
        self.mcp.add_tool(self.streamed, name="streamed", restart=True)
        self.mcp.add_tool(self.sync, name="once")

    def step(self, item: Any) -> None:
        if self.hurdles and item == self.hurdles[0]:
            self.hurdles.pop(0)
            raise ToolError("the process died")
        self.done.append(item)

    def sync(self) -> int:
        for item in track(self.items, checkpoint=self.name):
            self.step(item)
        return attempt()

    async def awaited(self) -> int:
        async for item in track(self.arriving(), checkpoint=self.name):
            self.step(item)
        return attempt()

    def generator(self) -> Iterator[str]:
        for item in track(self.items, checkpoint=self.name):
            yield str(item)
            self.step(item)

    async def streamed(self) -> AsyncIterator[str]:
        async for item in track(self.items, checkpoint=self.name):
            yield str(item)
            self.step(item)

    async def arriving(self) -> AsyncIterator[Any]:
        for item in self.items:
            yield item

    async def to_the_end(self, tool: str) -> Outcome:
        outcome = await run_tool(self.mcp, tool, raise_on_error=False)
        while outcome.is_error:
            assert "the process died" in (outcome.error or "")
            outcome = await run_tool(self.mcp, tool, after=outcome, raise_on_error=False)
        return outcome


@pytest.mark.parametrize("tool", ["sync", "awaited"])
@pytest.mark.parametrize(
    "items",
    [
        list(range(9)),
        [1, 1, 1, "1", 1, "1"],
        [Path("a"), Path("b\udc80"), Path("b\udc81")],
        [{"a": 1, "b": 2}, {"b": 3}],
        [Model(number=1), Plain(2)],
    ],
)
async def test_an_item_that_was_finished_is_not_done_again(tool: str, items: list[Any]) -> None:
    tools = TrackingTools(items, [items[0], items[-1], items[-1]])
    outcome = await tools.to_the_end(tool)
    assert (tools.done, outcome.result) == (items, 4)
    assert outcome.progress[-1][:2] == (len(items), len(items))


async def test_items_may_come_in_another_order_and_new_ones_between_them() -> None:
    tools = TrackingTools(["a", "c", "e"], ["e"])
    first = await run_tool(tools.mcp, "sync", raise_on_error=False)
    tools.items = ["e", "d", "c", "b", "a"]
    await run_tool(tools.mcp, "sync", after=first)
    assert tools.done == ["a", "c", "e", "d", "b"]


async def test_a_function_names_items_that_nothing_else_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = [Opaque(), Opaque()]
    assert (await run_tool(TrackingTools(items, []).mcp, "sync", raise_on_error=False)).is_error
    assert "checkpoint=lambda item" in caplog.text
    tools = TrackingTools(items, [items[1]], items.index)
    await tools.to_the_end("sync")
    assert tools.done == items


@pytest.mark.parametrize("tool", ["generator", "streamed"])
async def test_what_was_yielded_for_skipped_items_is_in_the_result_once(tool: str) -> None:
    outcome = await TrackingTools(["a", "b", "c", "d"], ["b", "d", "d"]).to_the_end(tool)
    assert outcome.result == ["a", "b", "c", "d"]


async def test_the_tool_that_may_not_restart_keeps_nothing() -> None:
    outcome = await run_tool(TrackingTools([1, 2], [2]).mcp, "once", raise_on_error=False)
    assert outcome.memory is None
    with pytest.raises(ValueError, match="restart=True"):
        await run_tool(TrackingTools([1, 2], []).mcp, "once", after=outcome)


async def test_the_newest_checkpoint_is_what_counts_and_parts_go_with_it() -> None:
    mcp = Headway("m")

    @mcp.tool(restart=True)
    async def sums() -> dict[str, Any]:
        start = last_checkpoint({"next": 0, "sum": 0})
        parts, total = earlier_parts(), start["sum"]
        for number in range(start["next"], 6):
            part(number)
            if number == 2 * attempt():
                raise ToolError("died")
            total += number
            checkpoint({"next": number + 1, "sum": total})
        return {"sum": total, "parts": parts}

    first = await run_tool(mcp, "sums", raise_on_error=False)
    assert first.checkpoint == {"next": 2, "sum": 1}
    second = await run_tool(mcp, "sums", after=first, raise_on_error=False)
    assert second.checkpoint == {"next": 4, "sum": 6}
    third = await run_tool(mcp, "sums", after=second)
    assert third.result == {"sum": 15, "parts": [0, 1, 2, 3]}


async def test_a_checkpoint_can_be_awaited_and_comes_from_threads() -> None:
    mcp = Headway("m")

    @mcp.tool(restart=True)
    async def work() -> int:
        await asyncio.to_thread(checkpoint, {"thread": threading.get_ident()})
        await checkpoint("here")
        return 1

    assert (await run_tool(mcp, "work")).checkpoint == "here"


async def test_what_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(TypeError, match="checkpoint\\(\\) cannot take this Opaque"):
        checkpoint(Opaque())
    with pytest.raises(ValueError, match="1048576 bytes"):
        checkpoint("x" * 2**20)


async def test_without_a_run_nothing_is_kept_and_nothing_fails() -> None:
    await checkpoint(1)
    with record():
        await checkpoint(1)
        assert list(track("ab", checkpoint=True)) == ["a", "b"]
        assert (attempt(), last_checkpoint(2), earlier_parts()) == (1, 2, [])
