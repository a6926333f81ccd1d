"""Other processes' writes: who waits for which stream, and who is told to look.

A notice is a hint. It may come for nothing, and it is not told what changed; who gets it reads.
Where notices come from is the store's business (`Store.watch`).
"""

import asyncio

from headway.clock import Clock, Timer
from headway.journal.store import Begin

WATCH_LINGER = 5.0
"""Seconds that a stream nobody waits for is still watched: a reader that was just told of an entry
comes back in a moment."""


class Wakeups:
    """Wakes those who wait for entries that another process may write."""

    def __init__(self, begin: Begin, clock: Clock) -> None:
        self._clock = clock
        self._watch = begin(self.wake_waiting, clock)
        self._count = 0
        self._everywhere = 0  # the count at the last notice that was for all streams
        self._places: dict[str, WatchedStream] = {}
        self._timer: Timer | None = None
        self._closed = False

    def mark_seen(self, stream: str) -> int:
        """A mark to take before a stream is read, and to wait with behind it."""
        place = self._places.get(stream)
        return self._everywhere if place is None else max(self._everywhere, place.noticed)

    def wait(self, stream: str, waiter: "asyncio.Future[None]", seen: int) -> None:
        """Resolve `waiter` when another process may have written since the mark was taken.

        The mark is taken before the entries are read: a change may fall in between.
        """
        if self._closed or seen != self.mark_seen(stream):
            waiter.set_result(None)
            return
        place = self._places.get(stream)
        if place is None:
            place = self._places[stream] = WatchedStream()
            self._watch.add(stream)
            self._arm()
        place.is_idle = False
        place.waiters[waiter] = None

    def stop_waiting(self, stream: str, waiter: "asyncio.Future[None]") -> None:
        """Let go of a waiter that was woken by something else, or gave up."""
        place = self._places.get(stream)
        if place is not None:
            place.waiters.pop(waiter, None)

    def wake_waiting(self, stream: str | None) -> None:
        """There may be more of a stream; None: of any."""
        self._count += 1
        if stream is None:
            self._everywhere = self._count
            for place in self._places.values():
                place.wake()
        elif stream in self._places:
            self._places[stream].noticed = self._count
            self._places[stream].wake()

    def close(self) -> None:
        """Wake everybody and watch no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._watch.close()
        self.wake_waiting(None)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._clock.call_later(WATCH_LINGER, self._tidy)

    def _tidy(self) -> None:
        """Watch no longer what nobody has waited for since the last time."""
        self._timer = None
        for stream, place in list(self._places.items()):
            if place.is_idle:
                del self._places[stream]
                self._watch.discard(stream)
            else:
                place.is_idle = not place.waiters
        if self._places:
            self._arm()


class WatchedStream:
    """A stream that is watched."""

    __slots__ = ("is_idle", "noticed", "waiters")

    def __init__(self) -> None:
        self.noticed = 0
        self.waiters: dict[asyncio.Future[None], None] = {}
        self.is_idle = False

    def wake(self) -> None:
        """Let everybody go on who waits."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
