"""One run in this process: what it was asked, its state, its questions, its stop and its end.

Only the process that executes a run has a `Run`; everybody else reads the run's stream. What its
tool gives out goes through `Run.output`, from any thread; all else is for the event loop.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headway.engine.recovery.checkpoints import CHECKPOINTS, Checkpoints
from headway.engine.run.accepted_event import accepted_event
from headway.engine.run.cancellation import TAKEN_OVER, Cancellation
from headway.engine.run.current_run import current_run
from headway.engine.run.event_writer import EventWriter
from headway.engine.run.execution import Execution
from headway.engine.run.output_limits import OutputLimits
from headway.engine.run.progress_pacing import Pacer
from headway.engine.run.questions import Questions
from headway.engine.run.run_hooks import RunHooks
from headway.engine.run.run_output import RunOutput
from headway.errors import JournalError
from headway.events import Cancelled, Event, GivenBack, Interrupted, Log, Progress
from headway.log_lines import quiet_logger
from headway.run_state import RunView
from headway.stream_names import reference_of, run_id_of

if TYPE_CHECKING:
    from headway.engine.request import Request, RequestInfo
    from headway.engine.services import Services

logger = quiet_logger(__name__)

_LOCK = threading.RLock()


class Run:
    """One execution of one request's handler; satisfies `ToolRun`.

    Made by `Engine.make_run`. With `view` it goes on after what another process has written.
    """

    __slots__ = (
        "__weakref__",
        "_cancellation",
        "_is_over",
        "_output",
        "_pace",
        "_questions",
        "checkpoints",
        "events",
        "execution",
        "hooks",
        "id",
        "journal",
        "request",
        "services",
        "stop_event",
        "stream",
    )

    def __init__(
        self,
        stream: str,
        request: "Request",
        info: "RequestInfo",
        *,
        services: "Services",
        rate: float,
        heartbeat: float | None,
        view: RunView | None = None,
    ) -> None:
        self.stream = stream
        self.id = run_id_of(stream)
        """The last part of the stream's name; unguessable, since it names the run to its client."""
        self.request = info
        self.services, self.journal = services, services.journal
        self.execution = Execution(services.clock)
        # There are two ways into the stream: the engine's events go through `events`, and the
        # tool's through `output`, which paces and limits them and calls `_write_output`.
        self.events = EventWriter(services.journal, stream, recorded=info.kind.is_recorded)
        self._output: RunOutput | None = None
        self._pace = (rate, heartbeat)
        self._is_over = False
        self.hooks = RunHooks()
        self.checkpoints: Checkpoints | None = None
        self.stop_event: Event | None = None
        self._questions: Questions | None = None
        self._cancellation: Cancellation | None = None
        if view is None:
            stored = services.access.stored_scopes(request)
            self.events.append(accepted_event(request, services.options.server_name, stored))
        else:
            self.events.resume_from(view)
            if view.progress is not None:
                self.output.pacer.resume_from(view.progress)

    @property
    def output(self) -> RunOutput:
        """The output of its tool, for any thread; made when first asked for: most have none."""
        if self._output is None:
            with _LOCK:  # or two threads have one each
                self._output = self._output or self._make_output()
        return self._output

    def _make_output(self) -> RunOutput:
        settings, (rate, heartbeat) = self.services.settings, self._pace
        output = RunOutput(
            self._write_output,
            clock=self.services.clock,
            pacer=Pacer(rate, settings.max_text),
            limits=OutputLimits(settings),
            heartbeat=heartbeat,
            execution=self.execution,
        )
        output.is_closed = self._is_over
        return output

    @property
    def said(self) -> RunOutput | None:
        """The output of its tool; None where it has given out nothing."""
        return self._output

    def start_heartbeat(self) -> None:
        """Begin to give signs of life, where the run is to give any."""
        if self._pace[1] is not None:
            self.output.heartbeat.start()

    @property
    def reference(self) -> str:
        """A short name for logs and error messages; it gives no access."""
        return reference_of(self.stream)

    @property
    def attempt(self) -> int:
        """1, or more in a process that has begun the run anew."""
        return 1 if self.checkpoints is None else self.checkpoints.memory.attempt

    @property
    def ended(self) -> bool:
        """True when the run has its end, or when another process goes on with it."""
        return self._is_over if self._output is None else self._output.is_closed

    @property
    def is_released(self) -> bool:
        """True when the run was released: it goes on, but not in this process."""
        return self.ended and self.events.can_go_on

    async def wait_until_stored(self) -> None:
        """Return when everything that the tool has given out is in the storage.

        Raises:
            JournalUnavailable: The storage cannot be written now; it is tried again.
            Conflict, StreamEnded: Another process has the run, so it never will be stored.
        """
        # What other threads gave out is in the outbox until the loop takes it; without this the
        # wait would not cover it.
        if self._output is not None:
            self._output.flush_outbox()
        await self.journal.wait_until_stored(self.stream)
        if self.checkpoints is not None:
            await self.checkpoints.wait_until_stored()

    # Its end

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the run has its end, on the event loop."""
        self.hooks.on_end.append(callback)

    def write_end(self, event: Event, *, success: bool) -> None:
        """Write the last progress, give up open questions, and write the terminal event.

        Raises:
            JournalError: The stream is another process's, or the journal is gone. The run has
                ended here all the same.
        """
        # Closed first: a thread that reports from now on is dropped, so nothing can come after the
        # terminal event.
        last = self._close(success=success)
        try:
            open_questions = (
                self._questions.unanswered_events() if self._questions is not None else ()
            )
            for each in (*last, *open_questions, event):
                # If this process dies after the terminal event and before the checkpoints are
                # closed, a sweep of another process closes them (`sweep_ended`).
                self.events.append(each)
            if self.checkpoints is not None:
                self.checkpoints.end()
        finally:
            if self._questions is not None:
                self._questions.give_up_all()
            for callback in self.hooks.on_end:
                callback()
            # Break the cycles: what ended is to be freed now, not when the collector finds it.
            self.hooks.clear()
            self.execution.task = None

    def release(self) -> None:
        """Stop, and leave the run without an end for another process to begin anew."""
        self.output.flush_outbox()
        # The run's own task is cancelled below: this tells it why, and `_close` keeps it from
        # writing an end.
        self.stop_event = Interrupted("it is left to the next process")
        self.output.is_stopped = True  # for its threads
        self._close(success=None)
        with suppress(JournalError):  # it is another process's already
            self.events.append(GivenBack())
            if self.checkpoints is not None:
                self.checkpoints.write(GivenBack())
        self.execution.cancel()
        for callback in self.hooks.on_end:
            callback()

    def _close(self, *, success: bool | None) -> list[Event]:
        with _LOCK:  # or a thread that makes the output now does not know that it is closed
            self._is_over = True
        last = [] if self._output is None else self._output.close(success=success)
        if self._cancellation is not None:
            self._cancellation.cancel_timer()
        return last

    def _write_output(self, event: Event) -> None:
        """Write an event of the tool; a stream that is no longer ours stops the run."""
        if self.journal.is_behind and type(event) in (Progress, Log):
            return
        try:
            if type(event) not in CHECKPOINTS:
                self.events.append(event)
            elif self.checkpoints is not None:
                self.checkpoints.write(event, self.events.seq)
        except JournalError as error:
            logger.error("run %s is not this process's any more: %s", self.reference, error)
            self.stop(TAKEN_OVER)

    # Its questions

    async def ask_client(
        self, method: str, params: object, limit: float | None = None
    ) -> dict[str, Any]:
        """Put a question to the client and wait for the answer.

        Raises:
            MCPError: The client answered with an error, or not within `limit` seconds.
        """
        if self._questions is None:
            self._questions = Questions(self)
        self.output.flush_outbox()
        return await self._questions.ask_client(method, params, limit)

    def answer_question(self, key: str, result: object, error: Exception | None = None) -> bool:
        """Answer a question; return False when nothing waits for it."""
        return self._questions is not None and self._questions.answer_question(key, result, error)

    def mark_function_begun(self) -> None:
        """Note that the author's function begins, with complete arguments; from any thread."""
        if threading.get_ident() == self.execution.thread:
            self.hooks.on_function_begins()
        else:
            # Looked up there: the hook may be another one by then.
            self.execution.loop.call_soon_threadsafe(lambda: self.hooks.on_function_begins())

    # Its stop

    @property
    def cancellation(self) -> Cancellation:
        """The hooks and shields that a stop has to respect; made when first asked for."""
        if self._cancellation is None:
            with _LOCK:  # or two threads have one each
                self._cancellation = self._cancellation or Cancellation(self, self.execution.loop)
        return self._cancellation

    def cancel(self, by: str, reason: str | None = None) -> None:
        """Stop the run at the request of `by`: its client, a caller or the server."""
        records = self.services.options.records
        if records is not None and self.stop_event is None and not self.ended:
            records.cancel(self, by, reason)
        self.stop(Cancelled(by, reason))

    def stop(self, end: Event) -> None:
        """Ask the run to stop: async code at its await, threads at their next call here.

        `end` is written when it does, and `CANCEL_GRACE` seconds later even if it does not: code
        in a thread that never calls Headway cannot be reached, and its caller is not to wait.
        """
        if self.stop_event is not None or self.ended:
            return
        # From here on threads get `RunCancelled` at their next call, and async code at its await.
        # `stop_event` is set first: both look there for the reason.
        self.stop_event = end
        self.output.is_stopped = True
        self.execution.cancel()
        self.cancellation.tell_hooks()


def executing_run() -> Run | None:
    """Return the run whose handler the current task or thread executes.

    None where there is none, and where a `Recorder` stands in for it.
    """
    run = current_run.get()
    return run if isinstance(run, Run) else None
