"""Stages and tracks: shares of the whole, whoever works on them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import pytest
from tests.kit.waits import PATIENCE

from headway import Headway, report, stage, track
from headway.testing import Outcome, Reported, record, run_tool

pytestmark = pytest.mark.anyio


async def call(tool: Any, **arguments: Any) -> Outcome:
    mcp = Headway("s")
    mcp.add_tool(tool, name="tool")
    return await run_tool(mcp, "tool", arguments)


def amounts(outcome: Any) -> list[tuple[float, float | None]]:
    return [(p.progress, p.total) for p in outcome.progress]


def messages(outcome: Any) -> list[str | None]:
    return [p.message for p in outcome.progress]


def test_a_track_alone_counts_its_items() -> None:
    with record() as said:
        assert list(track("ab", message="Reading {item}")) == ["a", "b"]
    assert said.progress == [(0, 2, "Reading a"), (1, 2, "Reading b"), (2, 2, "2 done")]


def test_a_stage_takes_its_weight_and_a_track_inside_fills_it() -> None:
    with record() as said:
        with stage("Fetch", weight=1):
            report(1, 2)
        with stage("Upload", weight=3):
            for _ in track(range(3)):
                pass
    assert amounts(said)[-1] == (4, 4)
    assert (0.5, 1) in amounts(said)
    assert [p for p in said.progress if p.message == "Upload · 1 of 3"] == [
        Reported(2, 4, "Upload · 1 of 3")
    ]


def test_stages_inside_share_the_span_of_the_one_around() -> None:
    with record() as said, stage("All", weight=10, total=4):
        with stage("One", weight=1):
            pass
        with stage("Three", weight=3):
            report(1, 3, "a third")
    assert amounts(said)[-1] == (10, 10)
    assert (2.5, 10) in amounts(said)
    assert Reported(5, 10, "All · Three · a third") in said.progress


def test_inside_a_track_each_item_is_one_unit_for_what_is_opened_meanwhile() -> None:
    with record() as said:
        for _ in track(range(2)):
            for _ in track(range(4)):
                pass
    # News without growth, such as the first message, is carried by a nudge.
    values = [p.progress for p in said.progress if p.progress == round(p.progress, 3)]
    assert values == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert {p.total for p in said.progress} == {2}


def test_tracks_one_after_the_other_add_up() -> None:
    with record() as said:
        for _ in track(range(2)):
            pass
        for _ in track(range(3)):
            pass
    assert amounts(said)[-1] == (5, 5)


def test_a_track_of_unknown_length_counts_and_takes_the_total_back() -> None:
    def endless() -> Iterator[int]:
        yield from range(3)

    with record() as said:
        for _ in track(range(2)):
            pass
        for _ in track(endless()):
            pass
    totals = [total for _, total in amounts(said)]
    assert totals[:3] == [2, 2, 2]
    assert None in totals
    assert amounts(said)[-1] == (5, 5)


def test_a_total_may_be_too_small() -> None:
    with record() as said:
        for _ in track(range(4), total=2):
            pass
    assert all(p.total is not None and p.progress <= p.total for p in said.progress)
    assert amounts(said)[-1] == (4, 4)


def test_progress_stays_where_a_break_or_an_exception_left_it() -> None:
    with record() as said:
        with stage("A"):
            for item in track(range(10)):
                if item == 5:
                    break
        with suppress(ZeroDivisionError), stage("B"):
            report(1, 4)
            _ = 1 / 0
        with stage("C"):
            pass
    assert amounts(said)[-1] == (2.25, 3)


def test_an_exception_of_the_items_passes_through_untouched() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    with record() as said, pytest.raises(KeyError, match="broken"):
        list(track(failing(), total=10))
    assert said.progress[-1].progress == 1


def test_a_share_never_falls_when_the_whole_grows() -> None:
    with record() as said, stage("Outer"):
        with stage("a"):
            pass
        with stage("b"):
            report(0, 1)
    values = [p.progress for p in said.progress]
    assert values == sorted(values)


def test_a_report_outside_of_a_track_counts_for_its_stage() -> None:
    with record() as said, stage("Import", total=4) as stage_:
        thread = threading.Thread(target=stage_.report, args=(2, 4, "half"))
        thread.start()
        thread.join()
    assert Reported(0.5, 1, "Import · half") in said.progress


def test_without_a_run_everything_is_a_plain_call() -> None:
    with stage("x") as outer:
        outer.report(1, 2)
        report(1, 2)
        assert list(track([1, 2])) == [1, 2]


@pytest.mark.parametrize("weight", [0, -1, float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        stage("x", weight=weight)
    with pytest.raises(ValueError, match="weight"):
        track([], weight=weight)


async def test_concurrent_stages_in_tasks_and_threads_add_up() -> None:
    async def work(both: asyncio.Barrier) -> str:
        async def part_of(name: str) -> None:
            async with stage(name):
                await both.wait()
                report(1, 2)
                await both.wait()

        def in_a_thread() -> None:
            with stage("thread", weight=2):
                for _ in track(range(4)):
                    pass

        async with stage("Everything"), asyncio.TaskGroup() as group:
            group.create_task(part_of("one"))
            group.create_task(part_of("two"))
            group.create_task(asyncio.to_thread(in_a_thread))
        return "done"

    async def tool() -> str:
        return await work(asyncio.Barrier(2))

    outcome = await call(tool)
    values = [p.progress for p in outcome.progress]
    assert values == sorted(set(values))
    assert outcome.progress[-1].progress == outcome.progress[-1].total
    assert outcome.result == "done"


async def test_async_items_and_async_stages() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def tool() -> list[int]:
        async with stage("Read"):
            return [number async for number in track(numbers(), total=3, message="Item {item}")]

    outcome = await call(tool)
    assert outcome.result == [0, 1, 2]
    assert "Read · Item 2" in messages(outcome)
    assert amounts(outcome)[-1] == (1, 1)


async def test_a_break_from_async_items_closes_them_at_once() -> None:
    async def tool() -> str:
        async for number in track(range(10)):
            if number == 3:
                break
        report(1, 10)
        return "left"

    outcome = await call(tool)
    assert outcome.result == "left"
    values = [p.progress for p in outcome.progress]
    assert values[-1] == outcome.progress[-1].total


async def test_the_sdk_s_context_reports_into_the_stage_it_is_called_in() -> None:
    from mcp.server.mcpserver import Context

    async def tool(ctx: Context[Any, Any]) -> str:
        with stage("Inner", weight=4):
            await ctx.report_progress(1, 2, "half")
        return "ok"

    outcome = await call(tool)
    assert Reported(2, 4, "Inner · half") in outcome.progress


async def test_a_stage_left_open_does_not_keep_a_run_from_its_end() -> None:
    async def tool() -> str:
        stage("forgotten").__enter__()
        report(1, 4)
        return "ok"

    outcome = await call(tool)
    assert outcome.result == "ok"
    assert outcome.progress[-1].progress == outcome.progress[-1].total


async def test_a_report_of_a_thread_that_outlives_its_run_is_dropped() -> None:
    late = threading.Event()
    spoken = threading.Event()

    async def tool() -> str:
        def later() -> None:
            with stage("late"):
                late.wait(PATIENCE)
                report(1, 2)
            for _ in track(range(3)):
                pass
            spoken.set()

        threading.Thread(target=copy_context().run, args=(later,)).start()
        return "ok"

    outcome = await call(tool)
    late.set()
    assert await asyncio.to_thread(spoken.wait, 10)
    assert outcome.result == "ok"
