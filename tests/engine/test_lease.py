"""Leases: what becomes of the runs of a process that died, or was only paused."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext

from headway.engine import Engine, Request, Run, RunContext, ToolOptions
from headway.errors import Conflict, StreamEnded
from headway.events import (
    Accepted,
    Entry,
    Interrupted,
    Part,
    Progress,
    Restarted,
    decode_json,
)
from headway.journal import Journal, open_journal
from headway.runs import State, fold
from headway.settings import Settings
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def process(path: Path, clock: FakeClock) -> AsyncGenerator[Engine]:
    """An engine on the file, as one of several processes would have it."""
    async with open_journal(f"sqlite:///{path}", clock=clock) as journal:
        engine = Engine(journal, Settings(progress_rate=0), clock=clock)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


async def launch(engine: Engine, execute: Any, body: Any = None) -> Run:
    transport = TransportContext(kind="test", can_send_request=False)
    context = RunContext(1, transport, ServerMessageMetadata(), None, body or {})
    run = engine.launch(Request("tools/call", "slow", "owner", context, execute))
    for _ in range(5):
        await asyncio.sleep(0)
    await engine.journal.settle(run.stream)
    return run


async def entries(journal: Journal, stream: str) -> list[Entry]:
    async with asyncio.timeout(5):
        return [entry async for entry in journal.follow(stream)]


async def forever(context: RunContext) -> dict[str, Any]:
    await anyio.sleep_forever()
    return {}


def start_child(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("child.py")), str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_the_runs_of_a_killed_process_end_as_interrupted_with_what_was_done(tmp_path: Path):
    file = tmp_path / "journal.db"
    with start_child(file) as child:
        assert child.stdout is not None
        async with asyncio.timeout(20):
            stream = (await asyncio.to_thread(child.stdout.readline)).strip()
        child.kill()
    clock = FakeClock(start=time.time() + 11)
    async with process(file, clock) as engine:
        told = await entries(engine.journal, stream)
        assert isinstance(told[-1].event, Interrupted)
        assert "went away" in told[-1].event.reason
        assert any(isinstance(entry.event, Part) for entry in told)
        assert fold(told).state is State.INTERRUPTED


async def test_a_process_that_shows_signs_of_life_keeps_its_runs(tmp_path: Path):
    clock = FakeClock()
    async with process(tmp_path / "j.db", clock) as one, process(tmp_path / "j.db", clock) as two:
        run = await launch(one, forever)
        await clock.advance(60, step=1)
        assert run.state is State.WORKING
        assert await two.journal.streams("run/", unfinished=True) == [run.stream]


async def test_a_process_that_stops_in_order_leaves_nothing_to_find(tmp_path: Path):
    clock = FakeClock()
    async with process(tmp_path / "j.db", clock) as one:
        await launch(one, forever)
    async with open_journal(f"sqlite:///{tmp_path / 'j.db'}", clock=clock) as journal:
        assert await journal.streams("", unfinished=True) == []


async def test_a_paused_process_that_comes_back_cannot_write_and_stops_its_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    wake, stopped = asyncio.Event(), asyncio.Event()

    async def paused(context: RunContext) -> dict[str, Any]:
        assert context.run is not None
        try:
            await wake.wait()
            context.run.report(1, 2, None)
            await context.run.journal.settle(context.run.stream)
        except (Conflict, StreamEnded):
            context.run.report(2, 2, None)
            await anyio.sleep_forever()
        finally:
            stopped.set()
        return {}

    slow, fast = FakeClock(), FakeClock(start=1_700_000_000.0 + 30)
    file = tmp_path / "j.db"
    async with process(file, slow) as asleep:
        run = await launch(asleep, paused)
        async with process(file, fast) as awake:
            told = await entries(awake.journal, run.stream)
            assert isinstance(told[-1].event, Interrupted)
            wake.set()
            async with asyncio.timeout(5):
                await stopped.wait()
            after = await entries(awake.journal, run.stream)
            assert after == told
            assert not any(isinstance(entry.event, Progress) for entry in after)
    assert "not this process's any more" in caplog.text


async def test_a_process_found_gone_begins_anew_and_works_on(tmp_path: Path):
    slow, fast = FakeClock(), FakeClock(start=1_700_000_000.0 + 30)
    file = tmp_path / "j.db"
    async with process(file, slow) as asleep:
        before = await launch(asleep, forever)
        async with process(file, fast):
            pass
        await slow.advance(8, step=0.5)  # two signs of life: the first one is refused

        async def quick(context: RunContext) -> dict[str, Any]:
            return {"content": []}

        run = await launch(asleep, quick)
        assert run.id[:8] != before.id[:8]
        assert fold(await entries(asleep.journal, run.stream)).state is State.COMPLETED
        assert before.ended


async def test_a_run_is_begun_anew_by_one_process_after_another_and_not_for_ever(tmp_path: Path):
    """Nobody stops here: to the next process the one before it only looks dead."""
    begun: list[str] = []

    async with AsyncExitStack() as stack:
        clocks = [FakeClock(start=1_700_000_000.0 + 30 * number) for number in range(4)]
        engines: list[Engine] = []
        stream = ""
        for number, clock in enumerate(clocks):
            journal = open_journal(f"sqlite:///{tmp_path / 'j.db'}", clock=clock)
            await stack.enter_async_context(journal)
            engine = Engine(
                journal, Settings(), clock=clock, options=lambda _: ToolOptions(restart=True)
            )

            def again(accepted: Accepted, number: int = number) -> Any:
                async def execute(context: RunContext) -> dict[str, Any]:
                    asked = decode_json(accepted.params or b"null")
                    begun.append(f"{number}: {accepted.target} {asked}")
                    await anyio.sleep_forever()
                    return {}

                return execute

            engine.reopen = again
            await engine.start()
            stack.push_async_callback(engine.stop)
            engines.append(engine)
            if number == 0:
                run = await launch(engine, forever, {"params": {"name": "slow"}})
                stream = run.stream
            for _ in range(5):
                await asyncio.sleep(0)
        told = await entries(engines[-1].journal, stream)
    assert begun == ["1: slow {'name': 'slow'}", "2: slow {'name': 'slow'}"]
    assert [e.event.attempt for e in told if isinstance(e.event, Restarted)] == [2, 3]
    assert isinstance(told[-1].event, Interrupted)
