"""Gates: who executes, who waits, and what they are told."""

import asyncio

import pytest
from tests.kit.waits import PATIENCE

from headway.engine.limits.semaphore import FairSemaphore

pytestmark = pytest.mark.anyio


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_given_in_order_and_waiting_runs_know_their_place():
    gate, order, told = FairSemaphore(1), [], {}

    async def work(name: str) -> None:
        await gate.enter(lambda ahead: told.setdefault(name, []).append(ahead))
        order.append(name)

    await gate.enter(lambda ahead: None)
    waiting = [asyncio.create_task(work(name)) for name in "abc"]
    await settle()
    assert gate.queued == 3
    assert told == {"a": [0], "b": [1], "c": [2]}
    gate.leave()
    await settle()
    gate.announce_positions()
    assert told["c"] == [2, 1]
    gate.leave()
    gate.leave()
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]


async def test_a_cancelled_waiter_leaves_the_queue_and_takes_no_place():
    gate = FairSemaphore(1)
    await gate.enter(lambda ahead: None)
    given_up = asyncio.create_task(gate.enter(lambda ahead: None))
    patient = asyncio.create_task(gate.enter(lambda ahead: None))
    await settle()
    given_up.cancel()
    await settle()
    assert gate.queued == 1
    gate.leave()
    async with asyncio.timeout(PATIENCE):
        await patient
    gate.leave()
    assert gate.taken == 0
    assert gate.enter_at_once()


async def test_a_place_given_to_a_run_cancelled_meanwhile_goes_to_the_next():
    gate = FairSemaphore(1)
    await gate.enter(lambda ahead: None)
    first = asyncio.create_task(gate.enter(lambda ahead: None))
    second = asyncio.create_task(gate.enter(lambda ahead: None))
    await settle()
    gate.leave()  # the place is first's, which has not run yet
    first.cancel()
    async with asyncio.timeout(PATIENCE):
        await second
    assert gate.taken == 1
