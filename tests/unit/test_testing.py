"""The fake clock tells every timer its own time."""

import asyncio

import pytest
from tests.kit.waits import PATIENCE

from headway.testing import FakeClock

pytestmark = pytest.mark.anyio


async def test_timers_are_called_in_order_each_at_its_time() -> None:
    clock, seen = FakeClock(start=1000), list[tuple[str, float, float]]()
    for name, delay in (("b", 2), ("a", 1), ("c", 2), ("late", 5)):
        clock.call_later(delay, lambda name=name: seen.append((name, clock.now(), clock.time())))
    clock.call_later(1.5, lambda: seen.append(("never", 0, 0))).cancel()
    await clock.advance(4)
    assert seen == [("a", 1, 1001), ("b", 2, 1002), ("c", 2, 1002)]
    assert clock.now() == 4


async def test_a_task_that_sleeps_again_wakes_every_time() -> None:
    clock, times = FakeClock(), list[float]()

    async def tick() -> None:
        while True:
            await clock.sleep(10)
            times.append(clock.now())

    task = asyncio.create_task(tick())
    await clock.advance(35)
    assert times == [10, 20, 30]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await clock.advance(35)
    assert times == [10, 20, 30]


async def test_no_delay_needs_no_advance() -> None:
    async with asyncio.timeout(PATIENCE):
        await FakeClock().sleep(0)


async def test_steps_let_sockets_and_threads_take_part() -> None:
    clock, answers = FakeClock(), list[float]()

    async def tick() -> None:
        while True:
            await asyncio.to_thread(lambda: None)
            await clock.sleep(1)
            answers.append(clock.now())

    task = asyncio.create_task(tick())
    async with asyncio.timeout(PATIENCE):
        while len(answers) < 3:
            await clock.advance(1, step=0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_time_passes_however_little_is_asked_for():
    """Less than the clock can tell apart, as what is left of a time may be."""
    clock = FakeClock()
    seen: list[float] = []

    def look_again() -> None:
        seen.append(clock.now())
        if len(seen) < 3:
            clock.call_later(1e-20, look_again)

    clock.call_later(17, look_again)
    await clock.advance(18)
    assert seen == sorted(set(seen))
    assert len(seen) == 3
