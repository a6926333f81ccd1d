"""One run in this process: its place in the journal, its progress, its questions, its end.

Only the process that executes a run has a `Run`; everybody else reads the run's stream.
`report`, `log` and `part` may be called from any thread; all else on the event loop.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any

import anyio

from headway.clock import Timer
from headway.engine.recovery.checkpoints import CHECKPOINTS, Checkpoints
from headway.engine.run.cancellation import TAKEN_OVER, Cancellation, is_shielded
from headway.engine.run.cooperative import CooperativeYield
from headway.engine.run.output_limits import OutputLimits
from headway.engine.run.pacing import Pacer
from headway.engine.run.questions import Questions
from headway.engine.run.stages import Root, innermost, sample_stages
from headway.errors import JournalError, RunCancelled
from headway.events import (
    Accepted,
    Cancelled,
    Event,
    GivenBack,
    Interrupted,
    Log,
    Part,
    Progress,
    encode_json,
)
from headway.run_state import TRANSITIONS, RunView, State, advance
from headway.streams import run_id_of

if TYPE_CHECKING:
    from headway.engine.engine import Engine
    from headway.engine.request import Request

logger = logging.getLogger(__name__)

_MAKING = threading.Lock()


class Run:
    """One execution of one request's handler.

    Made by `Engine.launch`. `id` is unguessable; `stream` is where its entries are; `follows` is
    the stream of the run it only repeats; `has_handle` says that it can go on without its session,
    `window` how long its client may be kept waiting.
    """

    __slots__ = (
        "__weakref__",
        "_beating",
        "_cancellation",
        "_cooperative",
        "_ends",
        "_flushing",
        "_lock",
        "_loop",
        "_outbox",
        "_questions",
        "_scheduled",
        "_steps",
        "_thread",
        "born",
        "checkpoints",
        "clock",
        "detached",
        "ended",
        "engine",
        "follows",
        "give_up",
        "has_handle",
        "heartbeat",
        "id",
        "journal",
        "method",
        "on_function_begins",
        "on_handed_over",
        "on_question",
        "output_limits",
        "owns",
        "pacer",
        "principal",
        "recorded",
        "scope",
        "seq",
        "stages",
        "state",
        "stop_event",
        "stream",
        "target",
        "task",
        "version",
        "window",
    )  # fmt: skip

    def __init__(
        self,
        stream: str,
        request: "Request",
        *,
        engine: "Engine",
        rate: float,
        heartbeat: float | None,
        recorded: bool,
        view: RunView | None = None,
    ) -> None:
        self.id = run_id_of(stream)
        self.stream = stream
        self.method, self.target, self.version = request.method, request.target, request.version
        self.engine, self.journal = engine, engine.journal
        self.clock = clock = engine.clock
        self.principal = request.principal
        self.follows, self.owns = request.follows, request.owns
        self.recorded, self.heartbeat = recorded, heartbeat
        self.pacer, self.output_limits = (
            Pacer(rate, engine.settings.max_text),
            OutputLimits(engine.settings),
        )
        self.stages: Root | None = None
        self.checkpoints: Checkpoints | None = None
        self.born = clock.now()
        self.state, self._steps, self.seq = State.NEW, TRANSITIONS[State.NEW], 0
        self.scope: anyio.CancelScope | None = None
        self.task: asyncio.Task[None] | None = None
        self.stop_event: Event | None = None
        self.give_up: Callable[[], None] = _nothing
        self.on_question = self.on_function_begins = self.on_handed_over = self.give_up
        self.ended = self.detached = self.has_handle = self._scheduled = False
        self.window = inf
        self._questions: Questions | None = None
        self._ends: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._lock = threading.Lock()
        self._outbox: list[Event] = []
        self._flushing: Timer | None = None
        self._beating: Timer | None = None
        self._cancellation: Cancellation | None = None
        self._cooperative = CooperativeYield()
        if view is None:
            self.append(Accepted(self.method, self.target, request.owner, self.follows or ""))
        else:
            # It goes on behind what a process wrote that died.
            self.seq, self.state, self._steps = view.last, view.state, TRANSITIONS[view.state]
            if view.progress is not None:
                self.pacer.resume_from(view.progress)

    @property
    def reference(self) -> str:
        """A short name for logs and error messages; it opens nothing."""
        return self.id[8:16]

    @property
    def attempt(self) -> int:
        """1, or more in a process that has begun the run anew."""
        return 1 if self.checkpoints is None else self.checkpoints.memory.attempt

    @property
    def is_released(self) -> bool:
        """Whether it was given back: it goes on, but not in this process."""
        return self.ended and bool(TRANSITIONS[self.state])

    async def wait_until_stored(self) -> None:
        """Return when all that the tool has said is in the storage; on the event loop.

        Raises:
            JournalUnavailable: It is not, and will be tried again.
            Conflict, StreamEnded: It never will be: the run is another process's.
        """
        self._drain()
        await self.journal.wait_until_stored(self.stream)
        if self.checkpoints is not None:
            await self.checkpoints.wait_until_stored()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the run has its end, on the event loop."""
        self._ends.append(callback)

    def append(self, event: Event) -> None:
        """Add an event to the run's stream; on the event loop only."""
        state = self._steps.get(type(event)) or advance(self.state, event)
        if state is not self.state:
            self.state = state
            self._steps = TRANSITIONS[state]
        self.seq = self.journal.append_nowait(
            self.stream, event, after=self.seq, recorded=self.recorded
        )

    def append_output(self, event: Event) -> None:
        """Add what a tool has to say; a stream that is no longer ours stops the run."""
        if self.journal.is_behind and type(event) in (Progress, Log):
            return
        try:
            if type(event) not in CHECKPOINTS:
                self.append(event)
            elif self.checkpoints is not None:
                self.checkpoints.write(event, self.seq)
        except JournalError as error:
            logger.error("run %s is not this process's any more: %s", self.reference, error)
            self.stop(TAKEN_OVER)

    def start_heartbeat(self) -> None:
        """From now on the run shows a sign of life when it is silent."""
        if self.heartbeat is not None and self._beating is None and not self.ended:
            silent_since = max(self.pacer.written, self.born)
            wait = silent_since + self.heartbeat - self.clock.now()
            self._beating = self.clock.call_later(max(wait, 0.0), self._beat)

    def write_end(self, event: Event, *, success: bool) -> None:
        """Write the last progress and the terminal event; nothing follows."""
        self._drain()
        with self._lock:
            sampled = self._sample()
            last = self.pacer.write_last(self.clock.now(), success=success)
            self.ended = True
        self._stop_timers()
        try:
            open_questions = self._questions.unanswered() if self._questions is not None else ()
            for said in (self.output_limits.count_dropped_logs(), sampled, last, *open_questions):
                if said is not None:
                    self.append(said)
            self.append(event)
            if self.checkpoints is not None:
                self.checkpoints.end()
        finally:
            if self._questions is not None:
                self._questions.give_up_all()
            for callback in self._ends:
                callback()
            # Nothing that ended may be kept alive by a cycle: the collector would have to find it.
            self._ends.clear()
            self.give_up = self.on_question = self.on_function_begins = self.on_handed_over = (
                _nothing
            )
            self.task = None

    def release(self) -> None:
        """Stop, and leave the run without an end for another process to begin anew."""
        self._drain()
        self.stop_event = Interrupted("it is left to the next process")  # for its threads
        with self._lock:
            self.ended = True
        self._stop_timers()
        with suppress(JournalError):  # it is another process's already
            self.append(GivenBack())
            if self.checkpoints is not None:
                self.checkpoints.write(GivenBack())
        if self.scope is not None:
            self.scope.cancel()
        for callback in self._ends:
            callback()

    def _stop_timers(self) -> None:
        for timer in (self._flushing, self._beating):
            if timer is not None:
                timer.cancel()
        if self._cancellation is not None:
            self._cancellation.end()

    # What tools call

    def report(
        self, progress: float, total: float | None, message: str | Callable[[], str] | None
    ) -> None:
        """Take a progress report, from any thread; never waits.

        Raises:
            RunCancelled: In a thread, when the run was cancelled.
        """
        on_loop = self.check_not_stopped()
        if message is not None and not isinstance(message, str) and not callable(message):
            message = str(message)  # type hints do not stop anyone
        if self.stages is not None:
            node = innermost(self.stages) or self.stages
            node.report(progress, total, message() if callable(message) else message)
            if not self.stages.pending:
                self.write_sample()
            return
        with self._lock:
            if not self.ended:
                paced = self.pacer.offer_report(progress, total, message, self.clock.now())
                self._hand_on(paced, on_loop=on_loop)

    def open_stages(self) -> Root:
        """The root of the run's stages and tracks."""
        with self._lock:  # or two threads begin a tree each
            if self.stages is None:
                self.stages = Root(*self.pacer.reported)
            return self.stages

    def write_sample(self) -> None:
        """Take what the tree of stages says, from any thread; now, or when it may be written.

        Raises:
            RunCancelled: In a thread, when the run was cancelled.
        """
        on_loop = self.check_not_stopped()
        if self.stages is None or self.stages.pending:
            return
        with self._lock:
            if not self.ended:
                paced = self._sample()
                # Until the timer comes for it nobody need call again.
                self.stages.pending = paced is None and self.pacer.interval > 0
                self._hand_on(paced, on_loop=on_loop)

    def check_not_stopped(self) -> bool:
        """Whether this is the event loop.

        Raises:
            RunCancelled: In a thread whose run was cancelled, outside of `shield`.
        """
        on_loop = get_ident() == self._thread
        if self.stop_event is not None and not on_loop and not is_shielded.get():
            raise RunCancelled("the run was stopped")
        return on_loop

    def announce(self, message: str) -> None:
        """Say something about a run that has not started."""
        paced = self.pacer.announce_message(message, self.clock.now())
        if paced is not None:
            self.append(paced)
        elif self.pacer.held and self._flushing is None:
            self._arm()

    def log(self, level: str, data: object, logger: str | None = None) -> None:
        """Add a log message, from any thread; never waits."""
        self.emit_event(Log(level, encode_json(data), logger))

    def part(self, value: object) -> None:
        """Add a partial result, from any thread; never waits."""
        self.emit_event(Part(encode_json(value)))

    def emit_event(self, event: Event) -> None:
        """Add an event, from any thread; dropped when the run has ended.

        Raises:
            ValueError: It is a part that is too large.
            RunCancelled: In a thread, when the run was cancelled.
        """
        on_loop = self.check_not_stopped()
        with self._lock:
            if self.ended:
                return
            events = self.output_limits.limit_event(event, self.clock)
            if on_loop and not self._outbox:
                for each in events:
                    self.append_output(each)
                return
            self._outbox += events
            self._schedule()

    async def yield_if_due(self) -> None:
        """Let the loop serve others, when a tool that reports in a loop has held it long enough."""
        await self._cooperative.yield_if_due(self.clock)

    def function_begins(self) -> None:
        """The author's function begins, its arguments complete; from any thread."""
        if get_ident() == self._thread:
            self.on_function_begins()
        else:
            self._loop.call_soon_threadsafe(lambda: self.on_function_begins())

    async def ask(self, method: str, params: object, limit: float | None = None) -> dict[str, Any]:
        """Put a question to the client and wait for the answer.

        Raises:
            MCPError: The client answered with an error, or not within `limit` seconds.
        """
        if self._questions is None:
            self._questions = Questions(self)
        self._drain()
        return await self._questions.ask_client(method, params, limit)

    def answer(self, key: str, result: object, error: Exception | None = None) -> bool:
        """Answer a question; False when nobody waits for it."""
        return self._questions is not None and self._questions.answer(key, result, error)

    @property
    def cancellation(self) -> Cancellation:
        """What is to happen when the run is asked to stop."""
        if self._cancellation is None:
            with _MAKING:  # or two threads have one each
                self._cancellation = self._cancellation or Cancellation(self, self._loop)
        return self._cancellation

    def cancel(self, by: str, reason: str | None = None) -> None:
        """Stop the run because somebody wants it stopped."""
        self.stop(Cancelled(by, reason))

    def stop(self, end: Event) -> None:
        """Ask the run to stop: async code at its await, threads at their next call here.

        `end` is written when it does, and a second later even if it does not: code in a thread
        that never calls Headway cannot be reached, and its caller is not to wait for it.
        """
        if self.stop_event is not None or self.ended:
            return
        self.stop_event = end
        if self.scope is not None:
            self.scope.cancel()
        self.cancellation.begin()

    # Inside

    @property
    def _has_news(self) -> bool:
        """Whether something waits for its time to be written."""
        return self.pacer.held or (self.stages is not None and self.stages.pending)

    def _sample(self) -> Progress | None:
        """What the tree says now, to be written or absorbed; the lock is held."""
        return sample_stages(self.stages, self.pacer, self.clock.now())

    def _hand_on(self, paced: Progress | None, *, on_loop: bool) -> None:
        """Write a progress, or see that what waits will be; the lock is held."""
        if paced is not None:
            if on_loop and not self._outbox:
                self.append_output(paced)
                return
            self._outbox.append(paced)
        elif not self._has_news or self._flushing is not None:
            return
        self._schedule()

    def _schedule(self) -> None:
        """Have the loop look at the outbox; the lock is held."""
        if not self._scheduled:
            self._scheduled = True
            if get_ident() == self._thread:
                self._loop.call_soon(self._drain)
            else:
                try:
                    self._loop.call_soon_threadsafe(self._drain)
                except RuntimeError:
                    self.ended = True  # the loop is closed: a thread outlived its server

    def _drain(self) -> None:
        with self._lock:
            self._scheduled = False
            events, self._outbox = self._outbox, []
            if not self.ended:
                for event in events:
                    self.append_output(event)
                if self._has_news and self._flushing is None:
                    self._arm()

    def _arm(self) -> None:
        wait = max(0.0, self.pacer.due - self.clock.now())
        if not self.pacer.held:
            wait = max(wait, self.pacer.interval)  # nothing new yet; look again then
        self._flushing = self.clock.call_later(wait, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        with self._lock:
            if self.ended:
                return
            if self.stages is not None:
                self.stages.pending = False
            paced = self._sample() or self.pacer.flush_held(self.clock.now())
            if paced is not None:
                self._outbox.append(paced)
            elif self.pacer.held:
                self._arm()
        self._drain()

    def _beat(self) -> None:
        self._beating = None
        assert self.heartbeat is not None
        with self._lock:
            if self.ended:
                return
            now = self.clock.now()
            if now - max(self.pacer.written, self.born) >= self.heartbeat:
                self._outbox.append(self._sample() or self.pacer.write_heartbeat(now))
        try:
            self._drain()
        except JournalError:
            return  # the run's task finds out and ends it
        self.start_heartbeat()


def _nothing() -> None:
    pass
