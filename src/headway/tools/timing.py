"""Time for the tools, as an argument: a test sets it and need not wait."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol


class Clock(Protocol):
    """The clock that the tools use."""

    def now(self) -> float:
        """Return seconds that only grow; for intervals."""
        ...

    def time(self) -> float:
        """Return seconds since 1970, UTC; for what is kept."""
        ...

    async def sleep(self, delay: float) -> None:
        """Wait so many seconds."""
        ...


class SystemClock:
    """The time of the machine."""

    def now(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    async def sleep(self, delay: float) -> None:
        """Wait so many seconds."""
        await asyncio.sleep(delay)


@asynccontextmanager
async def within(clock: Clock, seconds: float) -> AsyncGenerator[None]:
    """Cancel what is inside after so many seconds.

    Raises:
        TimeoutError: It took longer.
    """
    async with asyncio.timeout(None) as scope:

        async def expire() -> None:
            await clock.sleep(seconds)
            scope.reschedule(0)  # long past: at once

        waiting = asyncio.create_task(expire())
        try:
            yield
        finally:
            waiting.cancel()
