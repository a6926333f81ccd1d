"""Other processes' writes: noticed by looking, while somebody waits for them.

A notice is a hint. It may come for nothing, and it is not told what changed; who gets it reads.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from headway.clock import Clock, Timer
from headway.errors import JournalError

logger = logging.getLogger(__name__)

POLL = 0.05
"""Seconds between looks."""


class Changes:
    """Wakes those who wait for entries that another process may write.

    `look` says whether there may be any since it was last asked.
    """

    def __init__(self, look: Callable[[], Awaitable[bool]] | None, clock: Clock) -> None:
        self.version = 0
        """Grows whenever another process may have written."""
        self._look = look
        self._clock = clock
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def watch(self, waiter: "asyncio.Future[None]", seen: int) -> None:
        """Resolve `waiter` when another process may have written since `version` was `seen`.

        `seen` is taken before the entries are read: a change may fall in between.
        """
        if seen != self.version or self._closed:
            waiter.set_result(None)
            return
        self._waiters.append(waiter)
        self._arm()

    def close(self) -> None:
        """Wake everybody and look no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._wake()

    def _arm(self) -> None:
        if self._timer is None and self._waiters and not self._closed:
            self._timer = self._clock.call_later(POLL, self._start_look)

    def _start_look(self) -> None:
        self._task = asyncio.create_task(self._look_once())

    async def _look_once(self) -> None:
        changed = True
        try:
            changed = self._look is None or await self._look()
        except JournalError as error:
            logger.warning("other processes' entries cannot be seen: %s", error)
        finally:
            self._timer = None
        self._waiters = [waiter for waiter in self._waiters if not waiter.done()]
        if changed:
            self._wake()
        self._arm()

    def _wake(self) -> None:
        self.version += 1
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
