"""A clock to turn by hand."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable

from headway.clock import Clock, Timer

TURNS = 16
"""Turns of the event loop that `FakeClock` grants to tasks that were woken, before time goes on."""

TURN_PAUSE = 0.001
"""Real seconds that a step of `FakeClock.advance` leaves to sockets and threads."""


class _FakeTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock(Clock):
    """Time that stands still until `advance` moves it: ten minutes pass in a moment."""

    def __init__(self, *, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._now = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _FakeTimer]] = []

    def now(self) -> float:
        """Return the seconds advanced so far."""
        return self._now

    def time(self) -> float:
        """Return the seconds since 1970: `start` plus the seconds advanced so far."""
        return self._start + self._now

    def set(self, seconds: float) -> None:
        """Set the wall clock, as an administrator may do; no time passes."""
        self._start += seconds

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` when `advance` gets there; at once, by the loop, without a delay."""
        if delay <= 0:
            return asyncio.get_running_loop().call_soon(callback)
        timer = _FakeTimer(callback)
        # Time moves on however short the delay is: who asks for what is left of a time asks again
        # where that is less than the clock can tell apart.
        due = max(self._now + delay, math.nextafter(self._now, math.inf))
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    async def advance(self, seconds: float, *, step: float | None = None) -> None:
        """Move time on, calling what falls due in order, each at its own time.

        Between two times the loop runs, so a task that was woken may set its next timer in
        time. That is enough for tasks alone. Where sockets, threads or processes take part,
        say `step`: after each step of so many seconds they get a moment of real time.
        """
        end = self._now + seconds
        await run_loop_turns()  # tasks just started set their timers
        while self._now < end:
            await self._advance_to(min(end, self._now + (step or seconds)))
            if step is not None:
                await asyncio.sleep(TURN_PAUSE)
                await run_loop_turns()

    async def _advance_to(self, end: float) -> None:
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._now = max(self._now, due)
            timer.callback()
            await run_loop_turns()
        self._now = end


async def run_loop_turns() -> None:
    """Run turns of the loop, so that every task that can go on does."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
