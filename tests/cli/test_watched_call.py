"""A call that is watched to its end, whatever it makes of a cancel."""

import asyncio
from typing import Any, cast

import pytest
from tests.kit.waits import within

from headway.cli.commands import watched_call
from headway.cli.commands.watched_call import View, WatchedCall
from headway.cli.display.call_display import Silence
from headway.cli.display.ctrl_c_question import InterruptHandler
from headway.cli.exit_codes import ToolFailed

pytestmark = pytest.mark.anyio


class Deaf:
    """A call that takes the first cancels for a connection that was lost."""

    is_cancelled = False
    is_sent = True
    task_id = ""

    def __init__(self) -> None:
        self.cancels = 0

    async def result(self) -> Any:
        while self.cancels < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancels += 1
        await asyncio.Event().wait()


async def test_a_call_that_takes_a_cancel_for_something_else_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watched_call, "CANCEL_AGAIN", 0.01)
    call, screen = Deaf(), Silence()
    view = View(
        place="http://127.0.0.1/mcp", era=None, headers={}, given_headers=(), timeout=0.01,
        retry_for=0, quiet=True, parts=None, files=cast("Any", (None, None)),
    )  # fmt: skip
    person = InterruptHandler(screen, asyncio.Lock())
    with pytest.raises(ToolFailed, match="wait did not finish"):
        await within(WatchedCall(cast("Any", call), view, person, screen).result("wait"))
    assert call.cancels == 3
