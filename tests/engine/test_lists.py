"""Lists of all runs: who asks for them, and how often."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.engine.process import process
from tests.kit.waits import PATIENCE, until

from headway.engine import Engine
from headway.events import Accepted, Alive, Interrupted
from headway.journal import open_journal
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio


async def test_one_process_lists_the_runs_at_each_sign_of_life_and_the_others_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A list of all runs, asked for by every process, would be what limits a fleet first."""
    monkeypatch.setattr(
        "headway.engine.recovery.lost_runs.LISTING_SHARE", 1.0
    )  # the disk does not know this clock
    clock, lists = FakeClock(), list[Engine]()
    path = tmp_path / "j.db"
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(process(path, clock)) for _ in range(4)]
        await _advance(clock, engines, 30)  # all have seen all
        for engine in engines:
            _count_lists(engine, partial(lists.append, engine))
        await _advance(clock, engines, 120)
        signs = 120 / engines[0].settings.lease * 3
        first = min(engines, key=lambda engine: engine.lease.tag)
        assert lists.count(first) >= signs * 0.9
        for engine in engines:
            if engine is not first:
                assert signs / 4 * 0.7 <= lists.count(engine) <= signs / 4 * 1.3


async def test_a_list_that_takes_long_is_asked_for_less_often_until_a_process_is_gone(
    tmp_path: Path,
):
    clock, path, asked = FakeClock(), tmp_path / "j.db", list[float]()
    async with process(path, clock) as engine:
        await clock.advance(30, step=1)
        _count_lists(engine, lambda: asked.append(clock.now()), takes=2.0)
        await clock.advance(200, step=1)
        assert 5 <= len(asked) <= 11  # of 60; the disk does not know this clock
        run = "run/owner/deadbeef" + "x" * 32
        many = len(asked)
        async with (
            open_journal(f"sqlite:///{path}", clock=clock) as journal,
            asyncio.timeout(PATIENCE),
        ):
            while len(asked) == many:
                await clock.advance(0.5)
            await journal.append("process/deadbeef", [Alive()], after=0)
            await journal.append(run, [Accepted("tools/call", "slow", "owner")], after=0)
            while not (await engine.journal.read_all_kept(run))[1:]:
                await clock.advance(0.5)
            assert isinstance((await engine.journal.read_all_kept(run))[-1].event, Interrupted)
        assert asked[many + 1] - asked[many] < 19


async def _advance(clock: FakeClock, engines: list[Engine], seconds: int) -> None:
    """Turn the clock on, and wait for what each second has begun."""
    for _ in range(seconds):
        await clock.advance(1)
        looking = [engine.lease._looking for engine in engines]
        await asyncio.gather(*filter(None, looking))


def _count_lists(engine: Engine, count: Callable[[], None], *, takes: float = 0.0) -> None:
    streams = engine.journal.streams

    async def counted(prefix: str = "", *, unfinished: bool = False) -> list[str]:
        if prefix == "run/":
            count()
            if takes:
                await engine.clock.sleep(takes)
        return await streams(prefix, unfinished=unfinished)

    engine.journal.streams = counted


async def test_a_run_that_is_left_in_order_is_found_at_once(tmp_path: Path):
    """The process that left it has its end, as one that died does not."""
    clock, path = FakeClock(), tmp_path / "j.db"
    async with process(path, clock) as one, process(path, clock) as two:
        await _advance(clock, [one, two], 30)
        lists = list[Engine]()
        _count_lists(one, partial(lists.append, one))
        _count_lists(two, partial(lists.append, two))
        async with process(path, clock):
            await _advance(clock, [one, two], 4)
            del lists[:]
        await _advance(clock, [one, two], 4)
        # No time passes any more: what looks now was due within these seconds.
        await until(lambda: {one, two} <= set(lists))
