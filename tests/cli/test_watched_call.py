"""A call that is watched to its end, whatever it makes of a cancel."""

import asyncio

import pytest
from tests.kit.waits import within

from headway.cli.commands import watched_call
from headway.cli.commands.watched_call import ending_with

pytestmark = pytest.mark.anyio


async def test_a_call_that_takes_a_cancel_for_something_else_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watched_call, "CANCEL_AGAIN", 0.01)
    cancels = list[str]()

    async def call() -> None:
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append("taken for a lost connection")
        await asyncio.Event().wait()

    work = asyncio.create_task(call())
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), ending_with(work):
            await within(asyncio.wait([work]))
    assert work.cancelled()
    assert len(cancels) == 3
