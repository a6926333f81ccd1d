"""The output of a run: from the calls of its tool, in any thread, to the events in its stream.

```
 report ──▶ pacer ──┐                       ┌─▶ (on the loop, outbox empty) ──▶ write
 stages ──▶ sample ─┤                       │
                    ├─▶ lock, not closed? ──┤
 parts, logs ──▶ limits                     └─▶ outbox ──▶ flush_outbox, on the loop ──▶ write
                    ▲
 timers: held progress that is due · heartbeat
```

Threads only touch the outbox; everything is written on the event loop. An event on the loop takes
the short way, unless something from a thread waits in the outbox: the order is kept.
"""

import threading
from collections.abc import Callable
from threading import get_ident

from headway.clock import Clock, Timer
from headway.engine.run.cancellation import is_shielded
from headway.engine.run.cooperative_yield import CooperativeYield
from headway.engine.run.execution import Execution
from headway.engine.run.output_limits import OutputLimits
from headway.engine.run.progress_heartbeat import Heartbeat
from headway.engine.run.progress_pacing import Pacer
from headway.engine.run.stages import Root, has_news, innermost_node, sample_stages
from headway.errors import JournalError, RunCancelled
from headway.events import Event, Progress


class RunOutput:
    """The paced and limited output of one run; satisfies `ToolOutput`.

    `write` takes one event, on the event loop, in order. Nothing is written once it is closed.
    """

    __slots__ = (
        "_clock",
        "_cooperative",
        "_flush_timer",
        "_is_scheduled",
        "_lock",
        "_outbox",
        "_write",
        "heartbeat",
        "is_closed",
        "is_stopped",
        "limits",
        "loop",
        "pacer",
        "stages",
        "thread",
    )  # fmt: skip

    def __init__(
        self,
        write: Callable[[Event], None],
        *,
        clock: Clock,
        pacer: Pacer,
        limits: OutputLimits,
        heartbeat: float | None,
        execution: Execution,
    ) -> None:
        self._write = write
        self._clock = clock
        self.pacer = pacer
        self.limits = limits
        self.stages: Root | None = None
        self.heartbeat = Heartbeat(clock, heartbeat, pacer, self._write_heartbeat, execution.born)
        self.is_closed = False
        self.is_stopped = False
        """Whether threads that call this are to be stopped by an exception."""
        self.loop = execution.loop
        self.thread = execution.thread
        self._lock = threading.Lock()
        self._outbox: list[Event] = []
        self._is_scheduled = False
        self._flush_timer: Timer | None = None
        self._cooperative = CooperativeYield()

    # For the code of tools, from any thread

    def report(
        self, progress: float, total: float | None, message: str | Callable[[], str] | None
    ) -> None:
        """Take a progress report; never waits.

        Raises:
            RunCancelled: In a thread, when the run was cancelled.
        """
        on_loop = self.check_not_stopped()
        if message is not None and not isinstance(message, str) and not callable(message):
            message = str(message)  # type hints do not stop anyone
        if self.stages is not None:
            node = innermost_node(self.stages) or self.stages
            node.report(progress, total, message() if callable(message) else message)
            if not self.stages.pending:
                self.write_sample()
            return
        with self._lock:
            if not self.is_closed:
                paced = self.pacer.offer_report(progress, total, message, self._clock.now())
                self._write_or_hold(paced, on_loop=on_loop)

    def open_stages(self) -> Root:
        """Return the root of the run's stages and tracks; make it if there is none yet."""
        with self._lock:  # or two threads begin a tree each
            if self.stages is None:
                self.stages = Root(*self.pacer.reported)
            return self.stages

    def write_sample(self) -> None:
        """Take what the tree of stages adds up to: write it now, or when pacing allows.

        Raises:
            RunCancelled: In a thread, when the run was cancelled.
        """
        on_loop = self.check_not_stopped()
        if self.stages is None or self.stages.pending:
            return
        with self._lock:
            if not self.is_closed:
                paced = sample_stages(self.stages, self.pacer, self._clock.now())
                # The timer takes a new sample when it comes: until then nobody need call again.
                self.stages.pending = paced is None and self.pacer.interval > 0
                self._write_or_hold(paced, on_loop=on_loop)

    def emit_event(self, event: Event) -> None:
        """Add an event; dropped when the run has ended. Never waits.

        Raises:
            ValueError: It is a part that is too large.
            RunCancelled: In a thread, when the run was cancelled.
        """
        on_loop = self.check_not_stopped()
        with self._lock:
            if self.is_closed:
                return
            events = self.limits.limit_event(event, self._clock)
            if on_loop and not self._outbox:
                for each in events:
                    self._write(each)
                return
            self._outbox += events
            self._schedule_flush()

    def check_not_stopped(self) -> bool:
        """Return whether this is the thread of the event loop.

        Raises:
            RunCancelled: In another thread, when the run was stopped; not inside of `shield`.
        """
        on_loop = get_ident() == self.thread
        if self.is_stopped and not on_loop and not is_shielded.get():
            raise RunCancelled("the run was stopped")
        return on_loop

    async def yield_if_due(self) -> None:
        """Let the loop serve others, when a tool that reports in a loop has held it long enough."""
        await self._cooperative.yield_if_due(self._clock)

    # For the engine, on the event loop

    def announce_message(self, message: str) -> None:
        """Report a message about a run that has not started, such as its position in a queue."""
        paced = self.pacer.announce_message(message, self._clock.now())
        if paced is not None:
            self._write(paced)
        elif self.pacer.held and self._flush_timer is None:
            self._start_flush_timer()

    def flush_outbox(self) -> None:
        """Write what other threads have given out so far."""
        with self._lock:
            self._is_scheduled = False
            # Written under the lock: a thread that adds to the outbox meanwhile waits, so its event
            # cannot overtake these.
            events, self._outbox = self._outbox, []
            if not self.is_closed:
                for event in events:
                    self._write(event)
                if has_news(self.stages, self.pacer) and self._flush_timer is None:
                    self._start_flush_timer()

    def close(self, *, success: bool | None = None) -> list[Event]:
        """Accept nothing more, and return the events that are to be written before the end.

        With `success` None the run goes on in another process, so there are none. Else they are
        what is held, the full total of a run that succeeded, and how many log messages are missing.
        """
        # Events that threads gave out so far are written. One that comes between this and
        # `is_closed` is dropped with the outbox, as later ones are.
        self.flush_outbox()
        last: list[Event | None] = []
        with self._lock:
            if success is not None:
                now = self._clock.now()
                sampled = sample_stages(self.stages, self.pacer, now)
                paced = self.pacer.write_last(now, success=success)
                last = [self.limits.count_dropped_logs(), sampled, paced]
            self.is_closed = True
        self.heartbeat.stop()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._write = _discard_event  # it holds the run, which holds this
        return [event for event in last if event is not None]

    # Inside

    def _write_or_hold(self, paced: Progress | None, *, on_loop: bool) -> None:
        """Write a progress, or see to it that what is held will be; the lock is held."""
        if paced is not None:
            if on_loop and not self._outbox:
                self._write(paced)
                return
            self._outbox.append(paced)
        elif self._flush_timer is not None or not has_news(self.stages, self.pacer):
            return
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        """Have the loop empty the outbox; the lock is held."""
        if not self._is_scheduled:
            self._is_scheduled = True
            if get_ident() == self.thread:
                self.loop.call_soon(self.flush_outbox)
            else:
                try:
                    self.loop.call_soon_threadsafe(self.flush_outbox)
                except RuntimeError:
                    self.is_closed = True  # the loop is closed: a thread outlived its server

    def _start_flush_timer(self) -> None:
        wait = max(0.0, self.pacer.due - self._clock.now())
        if not self.pacer.held:
            wait = max(wait, self.pacer.interval)  # nothing new yet; look again then
        self._flush_timer = self._clock.call_later(wait, self._flush_held)

    def _flush_held(self) -> None:
        """Write the progress that has waited until it is due."""
        self._flush_timer = None
        with self._lock:
            if self.is_closed:
                return
            if self.stages is not None:
                self.stages.pending = False
            now = self._clock.now()
            paced = sample_stages(self.stages, self.pacer, now) or self.pacer.flush_held(now)
            if paced is not None:
                self._outbox.append(paced)
            elif self.pacer.held:
                self._start_flush_timer()
        self.flush_outbox()

    def _write_heartbeat(self, now: float) -> bool:
        """Write a sign of life; return whether another one may follow."""
        with self._lock:
            if self.is_closed:
                return False
            sampled = sample_stages(self.stages, self.pacer, now)
            # By the outbox, although this is the loop: a thread's event that waits there came
            # first.
            self._outbox.append(sampled or self.pacer.write_heartbeat(now))
        try:
            self.flush_outbox()
        except JournalError:
            return False  # the run's task finds out and ends it
        return True


def _discard_event(_event: Event) -> None:
    pass
