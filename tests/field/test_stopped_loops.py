"""A process whose event loop is stopped by somebody's code goes on; one that is to end does."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from tests.field import troubles
from tests.kit.floor import floor
from tests.kit.peers import Session, Wire, connect, text_of
from tests.kit.program import Program, Programs, programs_in
from tests.kit.stdio import program
from tests.kit.waits import until, within

from headway.cli.server import event_loop
from headway.cli.server.process_end import Deadline
from headway.cli.server.signals import stop_on_signals
from headway.clock import Clock

TARGET = f"{Path(troubles.__file__)}:mcp"

STOPPERS = {
    "leave_in_a_task": "the tool ended with SystemExit(5)",
    "leave_in_a_task_of_its_own": "on its way",
    "leave_in_a_callback": "on its way",
    "stop_the_loop": "on its way",
}
"""Tools that end or stop the loop, and what their callers are told."""


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as programs:
        yield programs


@asynccontextmanager
async def reached(url: str) -> AsyncGenerator[Wire]:
    """A wire to a process."""
    parts = urlsplit(url)
    wire = Wire(f"{parts.scheme}://{parts.netloc}", cast("Any", None), Clock())
    try:
        yield wire
    finally:
        wire.cut_all()


async def serve(programs: Programs, *options: str) -> tuple[Program, str]:
    arguments = ("run", TARGET, "--port", "0", *options)
    return await asyncio.to_thread(programs.serve, *arguments)


# The loop itself


async def leave() -> None:
    sys.exit(3)


async def stop_in_every_way() -> list[str]:
    seen: list[str] = []
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(leave())
    except SystemExit as error:
        seen.append(f"left with {error.code}")
    task = loop.create_task(leave())
    await asyncio.wait([task])
    assert isinstance(task.exception(), SystemExit)
    for stop in (lambda: loop.call_soon(sys.exit, 4), loop.stop, loop.stop):
        stop()
        await asyncio.sleep(0.001)
        seen.append("goes on")
    return seen


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_loop_that_is_stopped_goes_on_where_it_was(
    kind: event_loop.LoopName, caplog: pytest.LogCaptureFixture
):
    seen = event_loop.run_until_done(stop_in_every_way, loop=kind)
    assert seen == ["left with 3", "goes on", "goes on", "goes on"]
    assert caplog.text.count("which stopped the event loop; it goes on") == 3
    # Where the machine is busy, the second stop may come before the loop has obeyed the first.
    assert caplog.text.count("was stopped from inside") in (1, 2)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_result_is_not_lost_when_the_loop_is_stopped_in_the_same_moment(
    kind: event_loop.LoopName,
):
    async def end_after(stop: Callable[[asyncio.AbstractEventLoop], object]) -> str:
        stop(asyncio.get_running_loop())
        return "done"

    def leave_soon(loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon(sys.exit, 4)

    for stop in (lambda loop: loop.stop(), leave_soon):
        assert event_loop.run_until_done(partial(end_after, stop), loop=kind) == "done"


def test_what_the_main_task_raises_ends_it():
    async def fail() -> None:
        raise ValueError("really")

    with pytest.raises(ValueError, match="really"):
        event_loop.run_until_done(fail)
    with pytest.raises(SystemExit):
        event_loop.run_until_done(leave)


def test_tasks_that_are_left_are_cancelled():
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("in order")

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        return task

    event_loop.run_until_done(main)
    assert ended == ["in order"]


def test_a_deadline_takes_its_steps_unless_it_is_cancelled():
    taken: list[str] = []
    deadline = Deadline((0.0, lambda: taken.append("one")), (0.01, lambda: taken.append("two")))
    deadline.begin()
    deadline.begin()
    limit = time.monotonic() + 30
    while len(taken) < 2 and time.monotonic() < limit:
        time.sleep(0.01)
    assert taken == ["one", "two"]
    other = Deadline((0.0, lambda: taken.append("three")))
    other.cancel()
    other.begin()
    assert taken == ["one", "two"]


# Signals


@pytest.fixture
def _handlers() -> Iterator[None]:
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def told_of(*numbers: int, late: bool = False) -> list[str]:
    """What a process is told that is sent these signals."""
    told: list[str] = []
    stop_on_signals(
        lambda number: told.append(f"stop {signal.Signals(number).name}"),
        lambda number: told.append(f"hurry {signal.Signals(number).name}"),
    )
    for number in numbers:
        signal.raise_signal(number)
        if late:
            await until(lambda: told)
    await until(lambda: told)
    return told


@pytest.mark.anyio
@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
async def test_each_signal_to_end_is_the_beginning_of_an_orderly_end(name: str):
    assert await told_of(signal.Signals[name]) == [f"stop {name}"]


@pytest.mark.anyio
@pytest.mark.usefixtures("_handlers")
async def test_a_second_signal_hurries_and_a_terminal_that_closes_does_not():
    assert await told_of(signal.SIGHUP, signal.SIGHUP, late=True) == ["stop SIGHUP"]
    assert await told_of(signal.SIGTERM, signal.SIGHUP, late=True) == ["stop SIGTERM"]
    both = await told_of(signal.SIGTERM, signal.SIGTERM, late=True)
    assert both == ["stop SIGTERM", "hurry SIGTERM"]


@pytest.mark.anyio
@pytest.mark.usefixtures("_handlers")
async def test_a_signal_that_comes_twice_at_once_is_one():
    """As `timeout` sends it: to its child, and to the group that is in."""
    assert await told_of(signal.SIGTERM, signal.SIGTERM) == ["stop SIGTERM"]


@pytest.mark.anyio
@pytest.mark.usefixtures("_handlers")
async def test_a_signal_that_is_ignored_or_the_targets_own_is_left_so():
    def reload(_number: int, _frame: object) -> None:
        pass

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    signal.signal(signal.SIGQUIT, reload)
    assert await told_of(signal.SIGTERM) == ["stop SIGTERM"]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGQUIT) is reload


# Processes


@pytest.mark.anyio
async def test_over_http_the_same_process_serves_on_and_a_hangup_ends_it(programs: Programs):
    server, url = await serve(programs, "--journal", "sqlite:///j.db")
    async with reached(url) as wire:
        for era in ("2025", "2026"):
            client = await connect(wire, era)
            for tool, words in STOPPERS.items():
                assert words in text_of(await (await client.call(tool)).outcome())
            outcome = await (await client.call("fail_deliberately")).outcome()
            assert "there is no such city" in text_of(outcome)
    server.interrupt(signal.SIGHUP)
    finished = await asyncio.to_thread(server.finish)
    assert finished.code == 0
    assert "stop_the_loop stopped the event loop" in finished.err


@pytest.mark.anyio
async def test_over_stdio_the_same_process_serves_on():
    async with program("run", TARGET, "--stdio") as client:
        for tool, words in STOPPERS.items():
            assert words in text_of(await client.call(tool, era="2026"))
        client.close()
        assert await client.gone() == 0


@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_a_worker_takes_more(programs: Programs, new_redis_url: Callable[[], str]):
    url = new_redis_url()
    worker = programs.start("worker", TARGET, "--journal", url)
    await asyncio.to_thread(worker.wait_for, "working for troubles")
    async with floor(url) as site:
        wire = await site.replica(troubles.mcp, where="worker")
        session = await Session.open(wire)
        for tool, words in (STOPPERS | {"fail_deliberately": "no such city"}).items():
            assert words in text_of(await (await session.call(tool)).outcome())
        trouble = {"trouble": "leave"}
        outcome = await (await session.call("fail_in_a_thread", trouble)).outcome()
        assert "ended with SystemExit(2)" in text_of(outcome)
    worker.interrupt(signal.SIGQUIT)
    assert (await asyncio.to_thread(worker.finish)).code == 0


@pytest.mark.anyio
async def test_a_loop_that_is_held_hears_signals_all_the_same(programs: Programs):
    server, url = await serve(programs, "--journal", "memory:")
    async with reached(url) as wire:
        client = await Session.open(wire)
        answer = await client.post(client.call_message("hold", {"seconds": 60}, token=1))
        await answer.message()  # it holds the loop
        server.interrupt(signal.SIGTERM)
        await asyncio.sleep(0.3)  # as a person who waits in vain
        server.interrupt(signal.SIGTERM)
        assert (await asyncio.to_thread(server.finish)).code == 128 + signal.SIGTERM


@pytest.mark.anyio
@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
async def test_a_server_of_workers_whose_loop_is_held_is_replaced(programs: Programs):
    options = ("--journal", "sqlite:///j.db", "--workers", "2", "--set", "hold_timeout=8s")
    server, url = await serve(programs, *options)
    async with reached(url) as wire:
        client = await Session.open(wire)
        answer = await client.post(client.call_message("hold", {"seconds": 600}, token=1))
        await answer.message()
        line = await asyncio.to_thread(server.wait_for, "is killed")
        assert "its event loop was held for 8 s (hold_timeout)" in line
        await asyncio.to_thread(server.wait_for, "another one is started")
        outcome = await within(_answered(lambda: connect(wire, "2026")))
        assert "there is no such city" in text_of(outcome)
    server.interrupt(signal.SIGHUP)
    assert (await asyncio.to_thread(server.finish)).code == 0


async def _answered(connecting: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    while True:
        try:
            client = await connecting()
            return await (await client.call("fail_deliberately")).outcome()
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.05)


LIFESPAN = """
import asyncio
from contextlib import asynccontextmanager
from headway import Headway

async def watch():
    await asyncio.sleep({after})
    raise {what}

@asynccontextmanager
async def lifespan(_server):
    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        yield

mcp = Headway("watching", lifespan=lifespan)
"""


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("SystemExit(4)", "the server's own lifespan ended with SystemExit(4)"),
        ("OSError('gone')", "the server's own lifespan raised OSError: gone"),
    ],
)
def test_a_server_whose_lifespan_ends_does_not_serve_without_it(
    programs: Programs, tmp_path: Path, what: str, says: str
):
    (tmp_path / "watching.py").write_text(LIFESPAN.format(after=0.2, what=what))
    finished = programs.run("run", "watching.py:mcp", "--port", "0", "--journal", "memory:")
    assert finished.code == 1
    assert says in finished.err.splitlines()[-1]
