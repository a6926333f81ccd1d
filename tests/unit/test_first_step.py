"""First steps: a task that begins at once, and an awaitable whose first step is taken at once."""

import asyncio
import contextvars
import os
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest

from headway.first_step import FirstStep, start_at_once
from headway.stream_names import new_call_id

pytestmark = pytest.mark.anyio

SAID: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="nothing")


async def test_what_does_not_wait_is_over_when_the_task_is_returned() -> None:
    seen: list[object] = []

    async def work() -> None:
        SAID.set("something")
        seen.append(asyncio.current_task())

    mine = asyncio.current_task()
    task = start_at_once(work(), contextvars.copy_context())
    assert task.done()
    assert seen == [task]
    assert asyncio.current_task() is mine
    assert SAID.get() == "nothing"


async def test_what_waits_goes_on_in_its_own_task() -> None:
    gate, seen = asyncio.Event(), list[object]()

    async def work() -> None:
        SAID.set("mine")
        seen.append(asyncio.current_task())
        await gate.wait()
        seen.append(asyncio.current_task())
        seen.append(SAID.get())

    task = start_at_once(work(), contextvars.copy_context())
    assert not task.done()
    assert task in asyncio.all_tasks()
    gate.set()
    await task
    assert seen == [task, task, "mine"]


async def test_a_cancel_and_a_scope_reach_it_where_it_waits() -> None:
    seen: list[str] = []

    async def work() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        seen.append(f"scope {scope.cancelled_caught}")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = start_at_once(work(), contextvars.copy_context())
    while seen != ["scope True"]:  # noqa: ASYNC110 - a turn of the loop at a time
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["scope True", "cancelled"]


async def test_its_error_is_that_of_the_task_and_an_exit_that_of_the_caller() -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def leave() -> None:
        raise SystemExit(3)

    mine = asyncio.current_task()
    task = start_at_once(fail(), contextvars.copy_context())
    assert str(task.exception()) == "no"
    with pytest.raises(SystemExit):
        start_at_once(leave(), contextvars.copy_context())
    assert asyncio.current_task() is mine


async def test_it_begins_in_a_callback_of_the_loop_as_well() -> None:
    done = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await asyncio.sleep(0)
        done.set_result(asyncio.current_task())

    started: list[asyncio.Task[None]] = []
    context = contextvars.copy_context()
    asyncio.get_running_loop().call_soon(lambda: started.append(start_at_once(work(), context)))
    assert await done is started[0]


async def test_an_awaitable_that_does_not_wait_is_over_at_once() -> None:
    async def answer() -> int:
        return 7

    step = FirstStep(answer())
    assert step.is_over
    assert step.result == 7


@pytest.mark.parametrize("turns", [1, 3])
async def test_an_awaitable_that_waits_is_awaited_to_its_end(turns: int) -> None:
    async def answer() -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    step = FirstStep(answer())
    assert not step.is_over
    assert await step == turns


async def test_the_rest_of_an_awaitable_is_limited_in_time_and_cancelled() -> None:
    seen: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    step = FirstStep(wait())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await step
    assert seen == ["cancelled"]


async def test_the_first_step_raises_what_it_raises() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        FirstStep(fail())


def test_threads_have_no_id_in_common() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = [each for ids in pool.map(lambda _: make_ids(), range(8)) for each in ids]
    assert len(found) == len(set(found)) == 8 * 4000


def make_ids() -> list[str]:
    return [new_call_id() for _ in range(4000)]


def test_a_forked_process_gives_ids_of_its_own() -> None:
    new_call_id()  # so that random bytes are kept
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_call_id().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    assert len(theirs) == 32
    assert theirs != new_call_id()
