"""The pipeline of calls to a Redis, without one."""

import asyncio
from typing import Any, cast

import pytest
from tests.kit.waits import within

from headway.errors import JournalUnavailable
from headway.journal.redis.pipeline import Pipeline
from headway.journal.redis.scripts import READ

pytestmark = pytest.mark.anyio


class Answering:
    """A connection whose server answers each call with its number of words."""

    async def execute(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        return [len(command) for command in commands]

    async def reset(self) -> None:
        pass


async def test_calls_whose_task_is_cancelled_before_its_first_step_fail_and_later_ones_are_made():
    """As by a loop that ends, and cancels all tasks at once."""
    pipeline = Pipeline(cast("Any", Answering()), "redis://x")
    first = pipeline.submit(READ, "0", "a", 0, 1)
    assert pipeline._task is not None
    pipeline._task.cancel()
    with pytest.raises(JournalUnavailable):
        await within(first)
    assert await within(asyncio.shield(pipeline.submit(READ, "0", "a", 0, 1))) > 0
    await within(pipeline.close())


async def test_a_pipeline_whose_task_was_cancelled_can_be_closed():
    pipeline = Pipeline(cast("Any", Answering()), "redis://x")
    call = pipeline.submit(READ, "0", "a", 0, 1)
    assert pipeline._task is not None
    pipeline._task.cancel()
    await within(pipeline.close())
    with pytest.raises(JournalUnavailable):
        await within(call)


class CancelledForNothing:
    """A connection of a library that takes the cancel at the end of a limit for an error."""

    async def execute(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the connection was closed") from None
        return []

    async def reset(self) -> None:
        pass


async def test_a_limit_holds_whatever_a_library_makes_of_the_cancel_at_its_end():
    pipeline = Pipeline(cast("Any", CancelledForNothing()), "redis://x", round_trip_timeout=0.05)
    with pytest.raises(JournalUnavailable):
        await within(pipeline.submit(READ, "0", "a", 0, 1))
