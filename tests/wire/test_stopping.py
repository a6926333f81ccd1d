"""Cancelling a call that has something to finish first, or somebody to tell."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.kit.peers import Modern, Session, Wire, draining, served
from tests.kit.waits import PATIENCE, until

from headway import Headway, on_cancel, report, shield

pytestmark = pytest.mark.anyio


class Ledger:
    """Tools that pay and note it, in a task or in a thread, and one that blocks a thread."""

    def __init__(self) -> None:
        self.mcp = Headway("ledger")
        self.mcp.add_tool(self.task)
        self.mcp.add_tool(self.thread)
        self.mcp.add_tool(self.query)
        self.began = threading.Event()
        self.paid = threading.Event()
        self.done: list[str] = []
        self.told: list[str] = []

    async def task(self) -> None:
        report(1)
        with shield():
            self.done.append("paid")
            self.began.set()
            await asyncio.to_thread(self.paid.wait, 10)
            self.done.append("noted")
        await anyio.sleep_forever()

    def thread(self) -> None:
        report(1)
        with shield():
            self.done.append("paid")
            self.began.set()
            self.paid.wait(PATIENCE)
            report(2)  # not refused in here
            self.done.append("noted")
        report(3)
        self.done.append("went on")

    def query(self) -> None:
        report(1)
        interrupted = threading.Event()

        async def tell() -> None:
            self.told.append("async")

        def fail() -> None:
            raise ValueError("told")

        with on_cancel(fail), on_cancel(tell), on_cancel(interrupted.set):
            self.began.set()
            if not interrupted.wait(PATIENCE):
                return
        self.done.append("interrupted")
        report(2)


async def cancelled(wire: Wire, tool: str, when: threading.Event) -> Any:
    session = await Session.open(wire)
    answer = await session.call(tool, id="c", token="t")
    await answer.message()
    await until(when.is_set)
    await session.notify("notifications/cancelled", {"requestId": "c", "reason": "enough"})
    return answer


@pytest.mark.parametrize("tool", ["task", "thread"])
async def test_a_shielded_part_is_finished_and_the_caller_waits_for_it(tool: str) -> None:
    ledger = Ledger()
    async with served(ledger.mcp) as wire:
        answer = await cancelled(wire, tool, ledger.began)
        (run,) = wire.app.engine.runs.values()
        await until(lambda: run.stop_event is not None)
        await wire.clock.advance(5)  # more than the patience with other code
        await asyncio.sleep(0)
        assert not run.ended
        ledger.paid.set()
        last = (await answer.rest())[-1]
    assert last["error"]["message"] == "Request cancelled: enough"
    assert ledger.done == ["paid", "noted"]


async def test_a_drain_waits_for_a_shielded_part() -> None:
    ledger = Ledger()
    async with served(ledger.mcp) as wire:
        answer = await Modern(wire).call("task", token=1)
        await answer.message()
        await until(ledger.began.is_set)
        drain = await draining(wire)
        drain.cancel()
        (run,) = wire.app.engine.runs.values()
        await wire.clock.advance(5)
        await asyncio.sleep(0)
        assert not run.ended
        ledger.paid.set()
        await asyncio.gather(drain, return_exceptions=True)
        assert "the server stopped" in (await answer.rest())[-1]["error"]["message"]
        await until(lambda: len(ledger.done) == 2)


async def test_the_on_cancel_hooks_of_a_blocked_thread_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Ledger()
    async with served(ledger.mcp) as wire:
        answer = await cancelled(wire, "query", ledger.began)
        last = (await answer.rest())[-1]
        assert last["error"]["message"] == "Request cancelled: enough"
        await until(lambda: ledger.done == ["interrupted"])
        await until(lambda: ledger.told == ["async"])
    assert "what on_cancel() was given failed" in caplog.text


async def test_an_on_cancel_hook_added_after_the_cancel_is_called_at_once_and_only_once() -> None:
    mcp, calls = Headway("m"), list[str]()
    began, go_on = threading.Event(), threading.Event()

    @mcp.tool()
    def late() -> None:
        report(1)
        began.set()
        go_on.wait(PATIENCE)
        told = threading.Event()

        def hook() -> None:
            calls.append("late")
            told.set()

        with on_cancel(hook):
            told.wait(PATIENCE)

    async with served(mcp) as wire:
        answer = await cancelled(wire, "late", began)
        (run,) = wire.app.engine.runs.values()
        await until(lambda: run.stop_event is not None)
        go_on.set()
        await until(lambda: calls == ["late"])
        await answer.rest()
    assert calls == ["late"]


@pytest.mark.parametrize("hook", [lambda: None, print])
def test_without_a_run_nothing_happens(hook: Callable[[], object]) -> None:
    with shield(), on_cancel(hook):
        pass
