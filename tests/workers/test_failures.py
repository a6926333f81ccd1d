"""Processes that die, stop, pause and lose their Redis: nothing is lost, nothing is doubled."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from tests.kit.fixtures import StartRedis
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, served, text_of
from tests.kit.program import Program, Programs, programs_in
from tests.kit.redis_servers import Server
from tests.kit.waits import PATIENCE, until, until_told
from tests.workers.target import mcp

from headway import Settings
from headway.clock import Clock
from headway.events import Interrupted
from headway.journal import open_journal
from headway.stream_names import is_for_workers, process_of, process_stream

pytestmark = pytest.mark.anyio

TARGET = f"{Path(__file__).with_name('target.py')}:mcp"

LEASE = 6


class Fleet:
    """Processes on one Redis that keeps what it is told."""

    def __init__(self, programs: Programs, redis: Server, stack: AsyncExitStack) -> None:
        self._programs = programs
        self._stack = stack
        self.redis = redis
        self._shared = ("--journal", redis.url, "--set", f"lease={LEASE}s")
        self.wires: list[Wire] = []

    async def near_replica(self) -> Wire:
        """One in this process, for tests that do not kill it."""
        app = served(mcp, journal=self.redis.url, clock=Clock(), settings=Settings(lease=LEASE))
        return await self._stack.enter_async_context(app)

    async def replica(self) -> tuple[Program, Wire]:
        arguments = ("run", TARGET, "--port", "0", *self._shared, "--grace", "1s")
        program, url = await asyncio.to_thread(self._programs.serve, *arguments)
        wire = Wire(url.removesuffix("/mcp"), cast("Any", None), Clock())
        self.wires.append(wire)
        return program, wire

    async def worker(self, *, grace: str = "1s") -> Program:
        worker = self._programs.start("worker", TARGET, *self._shared, "--grace", grace)
        await asyncio.to_thread(worker.wait_for, "working for")
        return worker


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


@pytest.fixture
async def fleet(programs: Programs, start_redis: StartRedis) -> AsyncGenerator[Fleet]:
    redis = await asyncio.to_thread(start_redis, "--appendonly", "yes")
    async with AsyncExitStack() as stack:
        fleet = Fleet(programs, redis, stack)
        yield fleet
        for wire in fleet.wires:
            wire.cut_all()


async def stuck(fleet: Fleet, place: Path) -> tuple[Program, Session, Answer]:
    """A worker in the middle of `items`, its client, and the answer that is open."""
    wire = await fleet.near_replica()
    worker = await fleet.worker()
    session = await Session.open(wire)
    answer = await session.call("items", {"place": str(place)}, id="i", token="t")
    await until((place / "stuck").exists)
    return worker, session, answer


async def begun(fleet: Fleet, place: Path, tool: str, **options: Any) -> tuple[Program, Answer]:
    wire = await fleet.near_replica()
    worker = await fleet.worker(**options)
    session = await Session.open(wire)
    answer = await session.call(tool, {"place": str(place)}, token="t")
    await until((place / ("attempts" if tool == "once" else "begun")).exists)
    return worker, answer


async def test_a_run_that_may_restart_goes_on_in_another_worker_when_one_is_killed(
    fleet: Fleet, tmp_path: Path
) -> None:
    worker, _, answer = await stuck(fleet, tmp_path)
    await fleet.worker()
    worker.end()
    result = (await answer.rest())[-1]["result"]["structuredContent"]
    assert result["attempt"] == 2
    assert result["earlier"] == ["0", "1", "2", "3", "4"]
    assert (tmp_path / "done").read_text() == "0123456789"


async def test_a_run_that_may_not_restart_ends_as_interrupted_and_is_executed_once(
    fleet: Fleet, tmp_path: Path
) -> None:
    worker, answer = await begun(fleet, tmp_path, "once")
    await fleet.worker()
    worker.end()
    outcome = (await answer.rest())[-1]
    assert "the worker that executed it went away" in outcome["error"]["message"]
    (tmp_path / "go").touch()
    assert (tmp_path / "attempts").read_text().count("\n") == 1
    assert not (tmp_path / "finished").exists()


async def test_a_killed_replica_is_no_matter_for_the_run_and_a_2025_client_comes_back(
    fleet: Fleet, tmp_path: Path
) -> None:
    first, wire = await fleet.replica()
    _, other = await fleet.replica()
    await fleet.worker()
    session = await Session.open(wire)
    answer = await session.call("items", {"place": str(tmp_path)}, id="i", token="t")
    async with asyncio.timeout(PATIENCE):
        while "Number" not in str(await answer.message()) and not (tmp_path / "stuck").exists():
            pass
    first.end()
    session.wire = other
    (tmp_path / "go").touch()
    messages = await (await session.get(answer.ids[-1])).rest()
    assert messages[-1]["id"] == "i"
    assert messages[-1]["result"]["structuredContent"]["attempt"] == 1
    assert (tmp_path / "attempts").read_text() == "x"


async def test_a_replica_that_was_only_paused_lets_go_of_its_calls_and_stops_none(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Its client is not told of an end, for the call goes on, and finds it with the other one."""
    paused, wire = await fleet.replica()
    other = await fleet.near_replica()
    await fleet.worker()
    session = await Session.open(wire)
    answer = await session.call("items", {"place": str(tmp_path)}, id="i", token="t")
    await until((tmp_path / "stuck").exists)
    while not answer.ids:
        await answer.frame()
    paused.interrupt(signal.SIGSTOP)
    await until(lambda: other.app.engine.runs)  # it has taken the call over
    (taken,) = other.app.engine.runs.values()
    await until_told(partial(_has_no_lease, other, process_of(taken.stream)))
    paused.interrupt(signal.SIGCONT)
    await asyncio.to_thread(paused.wait_for, "found gone by another one")
    assert [message for message in await answer.rest() if "id" in message] == []
    session.wire = other
    (tmp_path / "go").touch()
    last = (await (await session.get(answer.ids[-1])).rest())[-1]
    assert (last["id"], last["result"]["structuredContent"]["attempt"]) == ("i", 1)
    assert (tmp_path / "attempts").read_text() == "x"


async def _has_no_lease(wire: Wire, process: str) -> bool:
    head = await wire.app.engine.journal.head(process_stream(process))
    return head is None or head.ended


async def test_a_2026_call_whose_replica_is_killed_is_stopped(fleet: Fleet, tmp_path: Path) -> None:
    first, wire = await fleet.replica()
    await fleet.replica()
    await fleet.worker()
    client = Modern(wire)
    await client.send(client.call_message("sleep", {"place": str(tmp_path)}))
    await until((tmp_path / "begun").exists)
    first.end()
    await until((tmp_path / "stopped").exists)


async def test_a_worker_that_is_told_to_stop_gives_back_what_may_restart(
    fleet: Fleet, tmp_path: Path
) -> None:
    worker, _, answer = await stuck(fleet, tmp_path)
    worker.interrupt(signal.SIGTERM)
    assert (await asyncio.to_thread(worker.finish)).code == 0
    await fleet.worker()
    result = (await answer.rest())[-1]["result"]["structuredContent"]
    assert result["attempt"] == 2
    assert (tmp_path / "done").read_text() == "0123456789"


async def test_a_worker_that_is_told_to_stop_lets_runs_finish(fleet: Fleet, tmp_path: Path) -> None:
    worker, answer = await begun(fleet, tmp_path, "once", grace="60s")
    worker.interrupt(signal.SIGTERM)
    await asyncio.to_thread(worker.wait_for, "finishing what runs")
    (tmp_path / "go").touch()
    assert text_of((await answer.rest())[-1]) == "done once"
    assert (await asyncio.to_thread(worker.finish)).code == 0


async def test_what_does_not_finish_in_time_and_may_not_restart_ends_as_interrupted(
    fleet: Fleet, tmp_path: Path
) -> None:
    worker, answer = await begun(fleet, tmp_path, "sleep")
    worker.interrupt(signal.SIGTERM)
    outcome = (await answer.rest())[-1]
    assert "stopped before the run was done" in outcome["error"]["message"]
    assert (await asyncio.to_thread(worker.finish)).code == 0
    assert (tmp_path / "stopped").exists()


async def test_a_worker_that_was_only_paused_finds_its_run_taken_and_stops(
    fleet: Fleet, tmp_path: Path
) -> None:
    worker, _, answer = await stuck(fleet, tmp_path)
    await fleet.worker()
    worker.interrupt(signal.SIGSTOP)
    result = (await answer.rest())[-1]["result"]["structuredContent"]
    assert result["attempt"] == 2
    worker.interrupt(signal.SIGCONT)
    # Its tool is still in the sixth item; it must not come to the next one.
    await asyncio.to_thread(worker.wait_for, "not this process's any more")
    assert (tmp_path / "done").read_text() == "0123456789"


async def test_a_paused_worker_cannot_end_a_run_that_was_given_up(
    fleet: Fleet, tmp_path: Path
) -> None:
    worker, answer = await begun(fleet, tmp_path, "sleep")
    worker.interrupt(signal.SIGSTOP)
    outcome = (await answer.rest())[-1]
    assert "went away" in outcome["error"]["message"]
    worker.interrupt(signal.SIGCONT)
    await until((tmp_path / "stopped").exists)
    async with open_journal(fleet.redis.url) as journal:
        (stream,) = [name for name in await journal.streams("run/") if is_for_workers(name)]
        assert isinstance((await journal.read_all_kept(stream))[-1].event, Interrupted)


async def test_a_stop_reaches_the_worker_behind_an_outage(fleet: Fleet, tmp_path: Path) -> None:
    wire = await fleet.near_replica()
    await fleet.worker()
    session = await Session.open(wire)
    await session.send(session.call_message("sleep", {"place": str(tmp_path)}, id="s"))
    await until((tmp_path / "begun").exists)
    await asyncio.to_thread(fleet.redis.kill)
    await asyncio.to_thread(fleet.redis.start)
    async with asyncio.timeout(100):
        while (await session.request("ping")).status != 200:
            pass
    await session.notify("notifications/cancelled", {"requestId": "s"})
    await until((tmp_path / "stopped").exists)


async def test_a_redis_that_is_away_for_a_while_loses_and_doubles_nothing(
    fleet: Fleet, tmp_path: Path
) -> None:
    _, session, answer = await stuck(fleet, tmp_path)
    await asyncio.to_thread(fleet.redis.kill)
    (tmp_path / "go").touch()
    await until(lambda: (tmp_path / "done").read_text() == "0123456789")
    await asyncio.to_thread(fleet.redis.start)
    messages = await answer.rest()
    assert messages[-1]["result"]["structuredContent"]["attempt"] == 1
    again = await session.call("count", {"upto": 2}, token="next")
    assert (await again.rest())[-1]["result"]["structuredContent"]["upto"] == 2
    assert (tmp_path / "done").read_text() == "0123456789"
