"""`track`: what it does to its items, whatever they are, and what it leaves behind."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from typing import Any

import pytest
from tests.kit.waits import PATIENCE

from headway import Headway, Settings, report, stage, track
from headway.engine import executing_run
from headway.engine.run.run import Run
from headway.testing import FakeClock, record, run_tool

pytestmark = pytest.mark.anyio


class Unsized:
    """Has a length, and does not know it."""

    def __len__(self) -> int:
        raise TypeError("no length")

    def __iter__(self) -> Iterator[str]:
        return iter("ab")


class Indexed:
    """Can be iterated by index alone, as in old times."""

    def __getitem__(self, index: int) -> str:
        return "ab"[index]


class Color(Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("items", "expected", "known"),
    [
        ([], [], True),
        ({"a": 1, "b": 2}, ["a", "b"], True),
        (range(2), [0, 1], True),
        (Color, [Color.RED, Color.BLUE], True),
        (Unsized(), ["a", "b"], False),
        (Indexed(), ["a", "b"], False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_items_are_the_same_whatever_they_are_in(
    items: Any, expected: list[Any], known: bool
) -> None:
    assert list(track(items)) == expected
    with record() as said:
        assert list(track(items)) == expected
    if expected:
        assert said.progress[0].total == (len(expected) if known else None)
        assert said.progress[-1][:2] == (len(expected), len(expected))


def test_asynchronous_items_need_an_asynchronous_loop() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    with record(), pytest.raises(TypeError, match="use async for"):
        list(track(numbers()))


def test_one_track_can_be_gone_through_twice() -> None:
    twice = track([1, 2])
    with record() as said:
        assert [*twice, *twice] == [1, 2, 1, 2]
    assert said.progress[-1][:2] == (4, 4)


def test_an_item_may_report_how_far_it_is() -> None:
    with record() as said:
        for item in track(["a", "b"], message="Reading {item}"):
            report(1, 4, f"a quarter of {item}")
    assert (0.25, 2) in [told[:2] for told in said.progress]
    assert (1.25, 2) in [told[:2] for told in said.progress]
    assert said.progress[-1] == (2, 2, "2 done")


def test_what_was_reported_before_the_first_track_or_stage_still_counts() -> None:
    with record() as said:
        report(100, message="100 found")
        for _ in track(range(2), message="Item {item}"):
            pass
    assert said.progress == [
        (100, None, "100 found"),
        (said.progress[1].progress, None, "Item 0"),
        (101, None, "Item 1"),
        (102, None, "2 done"),
    ]
    with record() as said:
        report(5, 10)
        with stage("Rest", weight=5):
            pass
        report(10, 10)
    assert said.progress[-1][:2] == (15, 15)


@pytest.mark.parametrize(
    "label",
    ["{item.nothing}", "{", lambda _item: 1 / 0, 5],
    ids=["attribute", "brace", "raises", "number"],
)
def test_a_label_that_fails_spoils_nothing(label: Any, caplog: pytest.LogCaptureFixture) -> None:
    with record() as said:
        assert list(track([1], message=label)) == [1]
    assert [told.message for told in said.progress] == [None, "1 done"]
    assert "label of track() failed" in caplog.text


def test_a_name_that_is_no_text_spoils_nothing() -> None:
    name: Any = 7
    message: Any = ["half"]
    with record() as said, stage(name):
        report(1, 2, message)
    assert said.progress[1] == (0.5, 1, "7 · ['half']")


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_is_a_number_above_zero(weight: float) -> None:
    for make in (lambda: stage("x", weight=weight), lambda: track([], weight=weight)):
        with pytest.raises(ValueError, match="weight must be a number above zero"):
            make()


@pytest.mark.parametrize("total", [0, -3, float("nan"), float("inf"), 1e300, 1e-300])
def test_odd_totals_spoil_nothing(total: float) -> None:
    with record() as said:
        with stage("A", total=total):
            report(1, total)
            assert list(track([1, 2], total=total)) == [1, 2]
        with stage("B"):
            pass
    values = [told.progress for told in said.progress]
    assert values == sorted(set(values))
    assert said.progress[-1][:2] == (2, 2)


async def test_the_last_item_is_let_go() -> None:
    class Large:
        pass

    with record():
        kept = [weakref.ref(item) for item in track([Large()])]
        kept += [weakref.ref(item) async for item in track([Large()])]
        assert [item() for item in kept] == [None, None]


async def test_between_two_items_the_one_that_is_done_counts_once() -> None:
    mcp, clock = Headway(), FakeClock()
    reached, goes_on = asyncio.Event(), asyncio.Event()

    async def pages() -> AsyncIterator[int]:
        yield 1
        reached.set()
        await goes_on.wait()
        yield 2

    @mcp.tool()
    async def work() -> str:
        async for _ in track(pages(), total=3):
            with stage("Page"):
                report(1, 2)
        return "ok"

    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(
            run_tool(mcp, "work", raise_on_error=False, settings=Settings(), clock=clock)
        )
        await reached.wait()
        await clock.advance(0.3)
        goes_on.set()
        outcome = await call
    assert [told.progress for told in outcome.progress] == [0, 1, 3]


async def test_a_slow_item_is_told_when_its_time_comes_and_a_fast_one_costs_nothing() -> None:
    mcp, clock = Headway(), FakeClock()
    labelled: list[int] = []
    reached, goes_on = asyncio.Event(), asyncio.Event()

    def label(item: int) -> str:
        labelled.append(item)
        return f"item {item}"

    @mcp.tool()
    async def work() -> str:
        for item in track(range(1000), message=label):
            if item == 700:
                reached.set()
                await goes_on.wait()
        return "ok"

    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(
            run_tool(mcp, "work", raise_on_error=False, settings=Settings(), clock=clock)
        )
        await reached.wait()
        await clock.advance(0.3)  # the interval is a quarter of a second
        goes_on.set()
        outcome = await call
    assert [told[:2] for told in outcome.progress] == [(0, 1000), (700, 1000), (1000, 1000)]
    assert [told.message for told in outcome.progress] == ["item 0", "item 700", "1000 done"]
    assert len(labelled) < 10


async def test_a_cancelled_thread_stops_at_its_next_item_also_when_nothing_is_due() -> None:
    mcp, stopped = Headway(), threading.Event()
    loop, begun = asyncio.get_running_loop(), asyncio.Queue[Run | None]()

    def endless() -> Iterator[int]:
        while True:
            yield 1

    @mcp.tool()
    def work() -> str:
        loop.call_soon_threadsafe(begun.put_nowait, executing_run())
        try:
            for _ in track(endless(), total=10):
                pass
        finally:
            stopped.set()
        return "never"

    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(
            run_tool(mcp, "work", raise_on_error=False, settings=Settings(), clock=FakeClock())
        )
        run = await begun.get()
        assert run is not None
        run.cancel("client", "enough")
        assert (await call).error == "enough"
    assert stopped.is_set()


async def test_a_break_or_an_error_leaves_nothing_open_for_what_comes_next() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(4):
            yield number

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise KeyError("broken")

    with record() as said:
        async for number in track(numbers(), total=4):
            if number == 1:
                break
        for number in track(range(4)):
            if number == 2:
                break
        with pytest.raises(KeyError):
            async for _ in track(broken(), total=4):
                pass
        kept: list[Exception] = []
        try:
            for number in track(range(4)):
                raise ValueError(number)
        except ValueError as error:
            kept.append(error)
        report(2, 2)
    assert said.progress[-1][:2] == (1 + 2 + 1 + 0 + 2, 18)
