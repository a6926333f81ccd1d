"""Wake-ups: the readers that wait for streams of other processes, and what wakes them.

A wake-up is a hint. It may come for nothing, and it does not say what changed; the reader that gets
it reads. Where wake-ups come from is the store's business (`Store.watch`).

A change may fall between the moment when a reader has read and the moment when it begins to wait.
So every notice has a number. A reader notes the number before it reads (`mark_seen`) and waits with
it (`add_waiter`): when the number has grown by then, it does not wait at all.
"""

import asyncio

from headway.clock import Clock, Timer
from headway.journal.store import StartWatch

WATCH_LINGER = 5.0
"""Seconds that a stream nobody waits for is still watched: a reader that was just woken for an
entry comes back in a moment."""


class Wakeups:
    """Wakes readers that wait for entries which another process may write."""

    def __init__(self, start_watch: StartWatch, clock: Clock) -> None:
        self._clock = clock
        self._watch = start_watch(self.wake_waiting, clock)
        self._count = 0  # of notices, so far
        self._all_noticed = 0  # the count at the last notice that was for all streams
        self._watched: dict[str, WatchedStream] = {}
        self._timer: Timer | None = None
        self._closed = False

    def mark_seen(self, stream: str) -> int:
        """Return a mark, to be taken before a stream is read and given to `add_waiter`."""
        watched = self._watched.get(stream)
        return self._all_noticed if watched is None else max(self._all_noticed, watched.noticed)

    def add_waiter(self, stream: str, waiter: "asyncio.Future[None]", seen: int) -> None:
        """Resolve `waiter` when another process may have written since the mark `seen` was taken.

        At once, where that has already happened.
        """
        if self._closed or seen != self.mark_seen(stream):
            waiter.set_result(None)
            return
        watched = self._watched.get(stream)
        if watched is None:
            watched = self._watched[stream] = WatchedStream()
            self._watch.add(stream)
            self._start_timer()
        watched.is_idle = False
        watched.waiters[waiter] = None

    def remove_waiter(self, stream: str, waiter: "asyncio.Future[None]") -> None:
        """Forget a waiter that was woken by something else, or gave up."""
        watched = self._watched.get(stream)
        if watched is not None:
            watched.waiters.pop(waiter, None)

    def wake_waiting(self, stream: str | None) -> None:
        """Wake the readers of a stream that may have grown; None: of any stream."""
        # Counted also while nobody waits: a reader between its read and its wait compares its mark
        # with the number. For a stream that is not watched yet the watch itself gives a notice.
        self._count += 1
        if stream is None:
            self._all_noticed = self._count
            for watched in self._watched.values():
                watched.wake_waiters()
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
        """Stop watching the streams that nobody has waited for since the last time."""
        self._timer = None
        for stream, watched in list(self._watched.items()):
            if watched.is_idle:
                del self._watched[stream]
                self._watch.discard(stream)
            else:
                watched.is_idle = not watched.waiters
        if self._watched:
            self._start_timer()


class WatchedStream:
    """The waiters of one stream, and the number of its last notice."""

    __slots__ = ("is_idle", "noticed", "waiters")

    def __init__(self) -> None:
        self.noticed = 0
        self.waiters: dict[asyncio.Future[None], None] = {}  # in their order
        self.is_idle = False

    def wake_waiters(self) -> None:
        """Let all waiters go on."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
