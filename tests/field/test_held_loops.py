"""Code that holds the event loop is named, and costs nobody his run."""

import asyncio
import inspect
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from tests.kit.peers import Modern, served, text_of
from tests.kit.waits import until, until_told, wait_until

from headway import Headway, Settings
from headway.engine import Engine, Request, RunContext, Watchdog
from headway.engine.author_frames import line_of
from headway.events import Alive, Completed, Interrupted, ProcessLeft
from headway.journal import open_journal
from headway.server import HeadwayApp, asgi
from headway.stream_names import process_stream, pulse_stream
from headway.testing import FakeClock, record

pytestmark = pytest.mark.anyio

NAMED = Settings(hold_warning=0.1)


def compute(seconds: float) -> None:
    time.sleep(seconds)  # as good as computing: the loop's thread does nothing else


def line_that_holds() -> str:
    lines, first = inspect.getsourcelines(compute)
    at = next(number for number, line in enumerate(lines) if "time.sleep" in line)
    return f"{Path(__file__).name}:{first + at}"


def holding() -> Any:
    mcp = Headway("holding")

    @mcp.tool()
    async def resize(seconds: float = 0.4) -> str:
        await asyncio.sleep(0)
        compute(seconds)
        await asyncio.sleep(0.01)
        return "done"

    @mcp.tool()
    async def in_a_task() -> str:
        async def work() -> None:
            compute(0.4)

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
        await asyncio.sleep(0.01)
        return "done"

    @mcp.tool()
    def in_a_thread() -> str:
        time.sleep(0.4)
        return "done"

    @mcp.resource("note://one")
    async def note() -> str:
        compute(0.4)
        await asyncio.sleep(0.01)
        return "one"

    return mcp


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "the event loop" in each.getMessage()]


def runs_named(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without what else the system held up: on a busy machine that is anything."""
    return [said for said in named(caplog) if "(run " in said]


async def test_a_tool_that_holds_the_loop_is_named_with_its_run_and_its_line(
    caplog: pytest.LogCaptureFixture,
):
    async with served(holding(), settings=NAMED) as wire:
        assert text_of(await (await Modern(wire).call("resize")).outcome()) == "done"
        await until(lambda: runs_named(caplog))
    [said] = runs_named(caplog)
    assert said.startswith("tool 'resize' (run ")
    assert re.search(r"\) held the event loop for \d+\.\d+ s at ", said)
    assert said.endswith(f"at {line_that_holds()}")


async def test_a_task_of_a_tool_and_a_resource_are_named_as_well(caplog: pytest.LogCaptureFixture):
    async with served(holding(), settings=NAMED) as wire:
        await (await Modern(wire).call("in_a_task")).outcome()
        await until(lambda: len(runs_named(caplog)) == 1)
        await (await Modern(wire).request("resources/read", {"uri": "note://one"})).outcome()
        await until(lambda: len(runs_named(caplog)) == 2)
    task, resource = runs_named(caplog)
    assert task.startswith("tool 'in_a_task' (run ")
    assert resource.startswith("resources/read (run ")


async def test_the_same_line_is_named_once_in_a_while(caplog: pytest.LogCaptureFixture):
    watchdog = Watchdog(0.1)
    watchdog.start()
    for _ in range(3):
        compute(0.3)
        await asyncio.sleep(0.05)
    watchdog.stop()
    [said] = [each for each in named(caplog) if each.endswith(line_that_holds())]
    assert said.startswith("something held the event loop")


async def test_who_waits_or_works_in_a_thread_is_not_named(caplog: pytest.LogCaptureFixture):
    async with served(holding(), settings=NAMED) as wire:
        await (await Modern(wire).call("in_a_thread")).outcome()
        await asyncio.sleep(0.3)
    assert not runs_named(caplog)


async def test_a_test_that_records_and_holds_the_loop_is_no_run(caplog: pytest.LogCaptureFixture):
    async with served(holding(), settings=NAMED):
        with record():
            compute(0.4)
        await until(lambda: named(caplog))
    assert all(each.startswith("something held the event loop") for each in named(caplog))


def watching() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "headway-watchdog"]


def test_a_loop_that_stands_still_or_is_closed_is_not_held(caplog: pytest.LogCaptureFixture):
    """As in a notebook: between two cells the loop does not run."""
    before, loop = watching(), asyncio.new_event_loop()

    async def begin() -> Watchdog:
        watchdog = Watchdog(0.1)
        watchdog.start()
        return watchdog

    watchdog = loop.run_until_complete(begin())
    wait_until(lambda: watchdog.seconds_held() > 0.5)
    loop.run_until_complete(asyncio.sleep(0.2))
    assert not named(caplog)
    loop.close()
    wait_until(lambda: watching() == before)


async def test_it_can_be_turned_off(caplog: pytest.LogCaptureFixture):
    async with served(holding(), settings=Settings(hold_warning=0)) as wire:
        await (await Modern(wire).call("resize")).outcome()
    assert not named(caplog)


async def test_without_an_authors_frame_it_is_the_innermost_that_is_no_part_of_python():
    assert line_of(inspect.currentframe()).startswith("test_held_loops.py:")
    assert line_of(None) == "an unknown line"


# The lease


LEASE = 0.6
"""Of the process that is held, by the real clock; whoever looks at it has a clock of his own."""


class Held:
    """A process in a thread of its own, whose loop can be held."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.url = url
        self.settings = Settings(lease=LEASE, hold_warning=0, **settings)
        self.release = threading.Event()
        self.begun = threading.Event()
        self.over = threading.Event()
        self.stream = ""
        self.app: HeadwayApp | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.release.set()
        self.over.set()
        self._thread.join(60)

    @property
    def engine(self) -> Engine:
        assert self.app is not None
        return self.app.engine

    @property
    def signs(self) -> int:
        """How many a thread has given."""
        pulse = self.engine.lease._pulse
        return 0 if pulse is None else pulse.signs

    @property
    def is_signing(self) -> bool:
        """Whether a thread gives signs at the moment."""
        pulse = self.engine.lease._pulse
        return pulse is not None and pulse._thread is not None and pulse._thread.is_alive()

    async def _live(self) -> None:
        self.app = asgi(Headway("held"), journal=self.url, settings=self.settings)
        async with self.app.lifespan():
            transport = TransportContext(kind="test", can_send_request=False)
            context = RunContext(1, transport, ServerMessageMetadata(), None, {})
            run = self.engine.start_run(Request("tools/call", "hold", "owner", context, self._hold))
            self.stream = run.stream
            await until(self.over.is_set)

    async def _hold(self, _context: RunContext) -> dict[str, Any]:
        await self.engine.journal.wait_until_stored(self.stream)
        self.begun.set()
        self.release.wait(60)
        return {"content": [], "isError": False}


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        make: Callable[[], str] = request.getfixturevalue("new_redis_url")
        return make()
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture
def held(url: str) -> Iterator[Held]:
    process = Held(url)
    yield process
    process.end()


@asynccontextmanager
async def looking(url: str, clock: FakeClock) -> AsyncGenerator[Engine]:
    """Another process on the journal, which looks when its clock says so."""
    async with open_journal(url, clock=clock) as journal:
        engine = Engine(journal, Settings(lease=LEASE), clock=clock)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


async def test_a_run_whose_loop_is_held_is_not_taken_for_dead(held: Held):
    held.start()
    await until(held.begun.is_set)
    clock = FakeClock(start=time.time())
    async with looking(held.url, clock) as other:
        tag = held.engine.lease.tag
        for _ in range(5):  # two leases in all
            seen = held.signs
            await until(lambda seen=seen: held.signs > seen)
            assert await other.lease.is_alive(tag)
            await clock.advance(0.4 * LEASE)
        assert await other.journal.head(pulse_stream(tag)) is not None
        held.release.set()
        await until_ended(other, held.stream)
        kept = await other.journal.read_all_kept(held.stream)
        assert isinstance(kept[-1].event, Completed)
    assert held.engine.lease.tag == tag


async def test_one_that_is_held_for_too_long_is(url: str):
    held = Held(url, hold_timeout=1.0)
    held.start()
    try:
        await until(held.begun.is_set)
        clock = FakeClock(start=time.time())
        async with looking(url, clock) as other:
            tag = held.engine.lease.tag
            assert await other.lease.is_alive(tag)
            await until(lambda: held.signs and not held.is_signing)
            # Each of its two streams is looked at for half a lease before it is believed.
            for _ in range(20):
                if not await other.lease.is_alive(tag):
                    break
                await clock.advance(LEASE)
            else:
                raise AssertionError("the process counts as alive twenty leases later")
            await until_ended(other, held.stream, clock)
            kept = await other.journal.read_all_kept(held.stream)
            assert isinstance(kept[-1].event, Interrupted)
            await until_ended(other, process_stream(tag), clock)
            left = await other.journal.read_all_kept(process_stream(tag))
            assert isinstance(left[-1].event, ProcessLeft)
            left = await other.journal.read_all_kept(pulse_stream(tag))
            assert isinstance(left[-1].event, ProcessLeft)
    finally:
        held.end()


async def until_ended(engine: Engine, stream: str, clock: FakeClock | None = None) -> None:
    """Return when a stream has ended; with a clock, the engine's next look is brought about."""

    async def has_ended() -> bool:
        if clock is not None:
            await clock.advance(LEASE)
        head = await engine.journal.head(stream)
        return head is not None and head.ended

    await until_told(has_ended)


async def test_a_process_that_ends_in_order_leaves_no_stream_without_an_end(held: Held):
    held.start()
    await until(held.begun.is_set)
    await until(lambda: held.signs)
    tag = held.engine.lease.tag
    await asyncio.to_thread(held.end)
    async with open_journal(held.url) as journal:
        for stream in (process_stream(tag), pulse_stream(tag)):
            head = await journal.head(stream)
            assert head is not None
            assert head.ended


async def test_a_pulse_of_an_earlier_hold_proves_nothing(url: str):
    """Once the loop signs again only that counts."""
    clock = FakeClock(start=time.time())
    async with looking(url, clock) as other, open_journal(url, clock=clock) as journal:
        await journal.append(process_stream("deadbeef"), [Alive()], after=0)
        await clock.advance(0.1)
        await journal.append(pulse_stream("deadbeef"), [Alive()], after=0)
        await clock.advance(0.1)
        await journal.append(process_stream("deadbeef"), [Alive()], after=1)
        assert await other.lease.is_alive("deadbeef")
        await clock.advance(LEASE)
        assert not await other.lease.is_alive("deadbeef")
