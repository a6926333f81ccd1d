"""Cooperative yielding: an async tool that reports in a loop and never waits blocks no others."""

import asyncio
from typing import Final

from headway.clock import Clock

REPORTS_PER_CLOCK_READ: Final = 16
"""Reports between two reads of the clock: reading it costs more than a report."""

HOLD: Final = 0.005
"""Seconds that a tool may hold the loop with reports before others are served."""


class CooperativeYield:
    """The time of the last yield of one run's tool."""

    __slots__ = ("_last", "_reports")

    def __init__(self) -> None:
        self._last = 0.0
        self._reports = 0

    async def yield_if_due(self, clock: Clock) -> None:
        """Count a report, and let the loop serve others when it has been held long enough."""
        self._reports += 1
        if self._reports % REPORTS_PER_CLOCK_READ == 0:
            now = clock.now()
            if now - self._last >= HOLD:
                await asyncio.sleep(0)
                self._last = clock.now()
