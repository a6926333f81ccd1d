"""Background tasks are kept until they end, are stopped in time, and do not fail in silence."""

import asyncio
import logging

import pytest

from headway.background import BackgroundTasks

pytestmark = pytest.mark.anyio


async def test_a_task_leaves_the_set_when_it_ends() -> None:
    tasks = BackgroundTasks("test")
    task = tasks.start(asyncio.sleep(0))
    assert list(tasks) == [task]
    await task
    assert not tasks


async def test_a_stop_waits_and_then_cancels() -> None:
    tasks = BackgroundTasks("test")
    quick, slow = tasks.start(asyncio.sleep(0.01)), tasks.start(asyncio.sleep(3600))
    await tasks.stop(0.05)
    await asyncio.wait([slow])
    assert not quick.cancelled()
    assert slow.cancelled()
    assert not tasks


async def test_what_a_task_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    tasks = BackgroundTasks("test")
    await asyncio.wait([tasks.start(fail())])
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "a task of test failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"


async def test_waiting_for_one_of_none_returns_at_once() -> None:
    await BackgroundTasks("test").wait_for_one(3600)
