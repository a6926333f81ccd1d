"""Polling: notices for storages that can say cheaply whether anything was written."""

import asyncio
from collections.abc import Awaitable, Callable

from headway.clock import Clock, Timer
from headway.errors import JournalError
from headway.journal.store import OnChange, Watch
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

POLL_INTERVAL = 0.05
"""Seconds between two looks at the storage."""


class Polling:
    """A `Watch` that asks a storage at intervals, while any stream is watched.

    `look` returns whether another process may have written since it was last asked. It does not
    say to which stream, so the notice is for all of them.
    """

    def __init__(self, look: Callable[[], Awaitable[bool]], notice: OnChange, clock: Clock) -> None:
        self._look = look
        self._notice = notice
        self._clock = clock
        self._streams: set[str] = set()
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, stream: str) -> None:
        """See `Watch.add`."""
        self._streams.add(stream)
        self._start_timer()

    def discard(self, stream: str) -> None:
        """See `Watch.discard`."""
        self._streams.discard(stream)

    def close(self) -> None:
        """See `Watch.close`."""
        self._streams.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start_timer(self) -> None:
        if self._timer is None and self._streams:
            self._timer = self._clock.call_later(POLL_INTERVAL, self._start_poll)

    def _start_poll(self) -> None:
        self._task = asyncio.create_task(self._poll_once())
        self._task.add_done_callback(self._on_poll_end)

    def _on_poll_end(self, _task: asyncio.Task[None]) -> None:
        """Go on, also after a task that was cancelled before its first step."""
        self._timer = None
        self._start_timer()

    async def _poll_once(self) -> None:
        changed = True
        try:
            changed = await self._look()
        except JournalError as error:
            logger.warning("other processes' entries cannot be seen: %s", error)
        if changed:
            self._notice(None)


async def always_changed() -> bool:
    """Return True: there may be something new, and nothing can say whether there is."""
    return True


def poll_always(notice: OnChange, clock: Clock) -> Watch:
    """Return the `Watch` of a journal without a store.

    There are no other processes, but a stream may begin after a reader has begun to wait for it.
    """
    return Polling(always_changed, notice, clock)
