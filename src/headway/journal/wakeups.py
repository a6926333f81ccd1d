"""Other processes' writes: who waits for which stream, and who is told to look.

A notice is a hint. It may come for nothing, and it is not told what changed; who gets it reads.
Where notices come from is the store's business (`Store.watch`).
"""

import asyncio

from headway.clock import Clock, Timer
from headway.journal.store import StartWatch

WATCH_LINGER = 5.0
"""Seconds that a stream nobody waits for is still watched: a reader that was just told of an entry
comes back in a moment."""


class Wakeups:
    """Wakes those who wait for entries that another process may write."""

    def __init__(self, begin: StartWatch, clock: Clock) -> None:
        self._clock = clock
        self._watch = begin(self.wake_waiting, clock)
        self._count = 0
        self._all_noticed = 0  # the count at the last notice that was for all streams
        self._watched: dict[str, WatchedStream] = {}
        self._timer: Timer | None = None
        self._closed = False

    def mark_seen(self, stream: str) -> int:
        """A mark to take before a stream is read, and to wait with behind it."""
        place = self._watched.get(stream)
        return self._all_noticed if place is None else max(self._all_noticed, place.noticed)

    def add_waiter(self, stream: str, waiter: "asyncio.Future[None]", seen: int) -> None:
        """Resolve `waiter` when another process may have written since the mark was taken.

        The mark is taken before the entries are read: a change may fall in between.
        """
        if self._closed or seen != self.mark_seen(stream):
            waiter.set_result(None)
            return
        place = self._watched.get(stream)
        if place is None:
            place = self._watched[stream] = WatchedStream()
            self._watch.add(stream)
            self._start_timer()
        place.is_idle = False
        place.waiters[waiter] = None

    def remove_waiter(self, stream: str, waiter: "asyncio.Future[None]") -> None:
        """Let go of a waiter that was woken by something else, or gave up."""
        place = self._watched.get(stream)
        if place is not None:
            place.waiters.pop(waiter, None)

    def wake_waiting(self, stream: str | None) -> None:
        """There may be more of a stream; None: of any."""
        self._count += 1
        if stream is None:
            self._all_noticed = self._count
            for place in self._watched.values():
                place.wake_waiters()
        elif stream in self._watched:
            self._watched[stream].noticed = self._count
            self._watched[stream].wake_waiters()

    def close(self) -> None:
        """Wake everybody and watch no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._watch.close()
        self.wake_waiting(None)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self._clock.call_later(WATCH_LINGER, self._unwatch_idle)

    def _unwatch_idle(self) -> None:
        """Watch no longer what nobody has waited for since the last time."""
        self._timer = None
        for stream, place in list(self._watched.items()):
            if place.is_idle:
                del self._watched[stream]
                self._watch.discard(stream)
            else:
                place.is_idle = not place.waiters
        if self._watched:
            self._start_timer()


class WatchedStream:
    """A stream that is watched."""

    __slots__ = ("is_idle", "noticed", "waiters")

    def __init__(self) -> None:
        self.noticed = 0
        self.waiters: dict[asyncio.Future[None], None] = {}
        self.is_idle = False

    def wake_waiters(self) -> None:
        """Let everybody go on who waits."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
