"""Time, as an argument: the one module that reads a clock.

Everything in Headway that waits or stamps asks a `Clock`, so a test can put ten minutes
into a second (`headway.testing.FakeClock`).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A pending call, as `Clock.call_later` returns it."""

    def cancel(self) -> None:
        """Forget the call; harmless once it has happened."""
        ...


class Clock:
    """The real clock, on the running asyncio loop."""

    # Not methods of our own: they are asked several times for each event.
    now: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds that only grow; for intervals."""

    time: Callable[[], float] = staticmethod(time.time)
    """Seconds since 1970, UTC; for what is stored or shown."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` on the running loop in `delay` seconds."""
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        """Wait `delay` seconds of this clock."""
        done = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay, lambda: done.done() or done.set_result(None))
        try:
            await done
        finally:
            timer.cancel()
