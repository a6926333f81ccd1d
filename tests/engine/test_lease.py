"""Leases: what becomes of the runs of a process that died, or was only paused."""

import asyncio
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from tests.engine.process import process
from tests.kit.waits import PATIENCE

from headway.engine import Engine, EngineOptions, Phase, Request, Run, RunContext, ToolOptions
from headway.errors import Conflict, JournalUnavailable, StreamEnded
from headway.events import (
    Entry,
    Interrupted,
    Part,
    Progress,
    RequestStored,
    Restarted,
    decode_json,
)
from headway.journal import Journal, open_journal
from headway.journal.sqlite.store import SqliteStore
from headway.run_state import State, fold
from headway.settings import Settings
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio


async def launch(engine: Engine, execute: Any, body: Any = None) -> Run:
    transport = TransportContext(kind="test", can_send_request=False)
    context = RunContext(1, transport, ServerMessageMetadata(), None, body or {})
    run = engine.start_run(Request("tools/call", "slow", "owner", context, execute))
    for _ in range(5):
        await asyncio.sleep(0)
    await engine.journal.wait_until_stored(run.stream)
    return run


async def entries(journal: Journal, stream: str) -> list[Entry]:
    async with asyncio.timeout(PATIENCE):
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
        async with asyncio.timeout(PATIENCE):
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
        assert run.events.state is State.WORKING
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
            context.run.output.report(1, 2, None)
            await context.run.journal.wait_until_stored(context.run.stream)
        except (Conflict, StreamEnded):
            context.run.output.report(2, 2, None)
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
            async with asyncio.timeout(PATIENCE):
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


async def test_a_run_that_waits_for_its_key_is_not_begun_by_another_process(tmp_path: Path):
    """Whose process dies while it claims a key: another call may have the key by then."""
    context = RunContext(
        1, TransportContext(kind="test", can_send_request=False), ServerMessageMetadata(), None, {}
    )
    async with AsyncExitStack() as stack:
        engines: list[Engine] = []
        stream = ""
        for start in (1_700_000_000.0, 1_700_000_030.0):
            clock = FakeClock(start=start)
            journal = open_journal(f"sqlite:///{tmp_path / 'j.db'}", clock=clock)
            await stack.enter_async_context(journal)
            options = ToolOptions(restart=True)
            engine = Engine(
                journal,
                Settings(),
                clock=clock,
                options=EngineOptions(lambda _, o=options: o, executor_for=lambda _: forever),
            )
            engines.append(engine)
            await engine.start()
            stack.push_async_callback(engine.stop)
            if len(engines) == 1:
                run = engine.accept_request(
                    Request("tools/call", "slow", "owner", context, forever)
                )
                stream = run.stream
                await journal.wait_until_stored(stream)
        assert engines[1].runs == {}
        told = await entries(engines[1].journal, stream)
    assert isinstance(told[-1].event, Interrupted)


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

            def again(kept: RequestStored, number: int = number) -> Any:
                async def execute(context: RunContext) -> dict[str, Any]:
                    asked = decode_json(kept.params)
                    begun.append(f"{number}: {kept.target} {asked}")
                    await anyio.sleep_forever()
                    return {}

                return execute

            options = EngineOptions(lambda _: ToolOptions(restart=True), executor_for=again)
            engine = Engine(journal, Settings(), clock=clock, options=options)
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
    assert [engine.counters.restarted for engine in engines] == [0, 1, 1, 0]
    assert engines[-1].counters.reached["max_attempts"] == 1


class Restarting:
    """Engines on one file, each with its own clock, whose tool is begun anew and never ends."""

    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self._url = f"sqlite:///{path}"
        self._stack = stack
        self.begun: list[str] = []

    async def start(self, name: str, clock: FakeClock) -> Engine:
        journal = await self._stack.enter_async_context(open_journal(self._url, clock=clock))
        may = ToolOptions(restart=True)

        def again(_kept: RequestStored) -> Any:
            self.begun.append(name)
            return forever

        options = EngineOptions(lambda _: may, executor_for=again)
        engine = Engine(journal, Settings(), clock=clock, options=options)
        await engine.start()
        self._stack.push_async_callback(engine.stop)
        return engine


async def test_a_process_that_stood_still_does_not_take_its_own_runs_for_those_of_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still while it looks at runs that it has taken over: its last sign is old then."""
    async with AsyncExitStack() as stack:
        processes = Restarting(tmp_path / "j.db", stack)
        dead = await processes.start("dead", FakeClock())
        for _ in range(2):
            await launch(dead, forever, {"params": {"name": "slow"}})
        clock = FakeClock(start=1_700_000_030.0)
        engine = await processes.start("next", clock)
        assert processes.begun == ["next", "next"]
        kept, looked = engine.journal.read_all_kept, asyncio.Event()

        async def stand_still(stream: str) -> list[Entry]:
            clock._now += 30  # and no timer was called
            looked.set()
            return await kept(stream)

        monkeypatch.setattr(engine.journal, "read_all_kept", stand_still)
        await clock.advance(10, step=1)
        async with asyncio.timeout(PATIENCE):
            await looked.wait()
        await clock.advance(10, step=1)
        assert processes.begun == ["next", "next"]


async def test_a_process_that_has_much_to_take_over_serves_and_shows_that_it_lives_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.engine.recovery.lease.RECOVERY_START_TIMEOUT", 0.05)
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        processes = Restarting(tmp_path / "j.db", stack)
        dead = await processes.start("dead", FakeClock())
        runs = [await launch(dead, forever, {"params": {"name": "slow"}}) for _ in range(3)]
        go, kept = asyncio.Event(), Journal.read_all_kept
        reached = asyncio.Semaphore(0)

        async def slow(journal: Journal, stream: str) -> list[Entry]:
            if journal is not dead.journal:
                reached.release()
                await go.wait()
            return await kept(journal, stream)

        monkeypatch.setattr(Journal, "read_all_kept", slow)
        clock = FakeClock(start=1_700_000_030.0)
        next_one = await processes.start("next", clock)
        for _ in runs:  # none of them waits for another one
            await reached.acquire()
        await clock.advance(30, step=1)
        lives = await dead.journal.streams("process/", unfinished=True)
        while not any([await _has_signed(dead.journal, name) for name in lives]):
            pass
        assert processes.begun == []
        go.set()
        while len(next_one.runs) < len(runs):
            await clock.advance(1, step=1)
        assert processes.begun == ["next"] * len(runs)


async def _has_signed(journal: Journal, process: str) -> bool:
    head = await journal.head(process)
    return head is not None and head.last >= 9  # three in a lease of ten seconds


async def test_a_run_whose_process_died_as_it_ended_it_is_not_begun_anew_and_ends(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        processes = Restarting(tmp_path / "j.db", stack)
        dead = await processes.start("dead", FakeClock())
        run = await launch(dead, forever, {"params": {"name": "slow"}})
        assert run.checkpoints is not None
        run.checkpoints.end()  # and its end was not stored
        await run.checkpoints.wait_until_stored()
        next_one = await processes.start("next", FakeClock(start=1_700_000_030.0))
        told = await entries(next_one.journal, run.stream)
        assert isinstance(told[-1].event, Interrupted)
        assert processes.begun == []


async def test_a_process_that_is_about_to_stop_takes_over_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        processes = Restarting(tmp_path / "j.db", stack)
        clock = FakeClock(start=1_700_000_030.0)
        stopping = await processes.start("stopping", clock)
        stopping.services.lifecycle.move_to(Phase.DRAINING)
        dead = await processes.start("dead", FakeClock())
        run = await launch(dead, forever, {"params": {"name": "slow"}})
        await clock.advance(60, step=1)
        assert await stopping.journal.streams("run/", unfinished=True) == [run.stream]
        assert processes.begun == []
        await processes.start("next", FakeClock(start=1_700_000_120.0))
        assert processes.begun == ["next"]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_is_set_kills_nobody(tmp_path: Path, jump: float) -> None:
    """Two processes of one machine, whose clock is corrected by an hour."""
    clock = FakeClock()
    async with process(tmp_path / "j.db", clock) as one, process(tmp_path / "j.db", clock) as two:
        run = await launch(one, forever)
        await clock.advance(5, step=0.5)
        clock.set(jump)
        await clock.advance(60, step=0.5)
        assert run.events.state is State.WORKING
        assert await two.journal.streams("run/", unfinished=True) == [run.stream]


async def test_a_storage_that_was_away_for_long_kills_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could show a sign of life, and nobody could see one."""

    async def away(*_args: object, **_more: object) -> None:
        raise JournalUnavailable("it is away")

    clock = FakeClock()
    async with process(tmp_path / "j.db", clock) as one, process(tmp_path / "j.db", clock) as two:
        run = await launch(one, forever)
        await clock.advance(5, step=0.5)
        with monkeypatch.context() as patch:
            for name in ("write", "read", "head", "streams"):
                patch.setattr(SqliteStore, name, away)
            await clock.advance(30, step=0.5)
        await clock.advance(60, step=0.5)
        assert run.events.state is State.WORKING
        assert await two.journal.streams("run/", unfinished=True) == [run.stream]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_process_that_died_before_the_clock_was_set_is_found(
    tmp_path: Path, jump: float
) -> None:
    one, two = FakeClock(), FakeClock()
    async with process(tmp_path / "j.db", one) as dead, process(tmp_path / "j.db", two) as other:
        run = await launch(dead, forever)
        await two.advance(5, step=0.5)
        two.set(jump)
        await two.advance(30, step=0.5)
        assert isinstance((await entries(other.journal, run.stream))[-1].event, Interrupted)
