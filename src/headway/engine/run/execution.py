"""The execution of one run: when its handler begins, in which task, and for how long it may go on.

A run begins in the loop's next turn, or at once where somebody who is about to read it says so.
Most end in that first step: they have no task to wait for, and no timer was started for them.
"""

import asyncio
from collections.abc import Callable
from threading import get_ident

import anyio

from headway.clock import Clock, Timer


class Execution:
    """When and where one run executes; for the event loop only, but for `loop` and `thread`."""

    __slots__ = (
        "_begin", "_clock", "_limit", "_timer", "_turn", "born", "loop", "scope", "task", "thread",
    )  # fmt: skip

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.born = clock.now()
        """When its run was made."""
        self.loop = asyncio.get_running_loop()
        self.thread = get_ident()
        """The thread of the loop."""
        self.scope: anyio.CancelScope | None = None
        """The scope that cancels what it waits for."""
        self.task: asyncio.Task[None] | None = None
        """The task of all but the first step; None before, and after the end."""
        self._begin: Callable[[], asyncio.Task[None] | None] | None = None
        self._turn: asyncio.Handle | None = None
        self._limit: tuple[float, Callable[[], object]] | None = None
        self._timer: Timer | None = None

    @property
    def goes_on(self) -> bool:
        """True when the handler was begun or is about to be, and has not come to its end."""
        return self.task is not None or self._begin is not None

    def begin_soon(self, begin: Callable[[], asyncio.Task[None] | None]) -> None:
        """Begin in the loop's next turn, or earlier when `begin_now` is called.

        `begin` takes the first step and returns the task of the others, if there are any.
        """
        self._begin = begin
        self._turn = self.loop.call_soon(self.begin_now)

    def begin_now(self) -> None:
        """Begin at once, if it is about to: what ends without waiting has its end then.

        For whoever reads the run next, when all is ready for its events.
        """
        begin, self._begin = self._begin, None
        if begin is not None and self._turn is not None:
            self._turn.cancel()
            self.task = begin()
            if self.task is not None:
                self._start_timer()

    def limit_time(self, seconds: float, stop: Callable[[], object]) -> None:
        """Call `stop` when the handler, which begins now, has taken so long."""
        self._limit = (self._clock.now() + seconds, stop)
        if self.task is not None:
            self._start_timer()
        # Else this is the first step: a timer is started when it waits, and most end before.

    def _start_timer(self) -> None:
        if self._limit is not None:
            due, stop = self._limit
            self._timer = self._clock.call_later(max(due - self._clock.now(), 0.0), stop)

    def stop_timer(self) -> None:
        """Limit the time no more: the handler has come to its end."""
        self._limit = None
        if self._timer is not None:
            self._timer.cancel()

    def cancel(self) -> None:
        """Cancel what is waited for."""
        if self.scope is not None:
            self.scope.cancel()
