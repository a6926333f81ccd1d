"""The run that the current task or thread works for, as the code of tools sees it."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from headway.events import Event

if TYPE_CHECKING:
    from headway.engine.recovery.checkpoints import Checkpoints
    from headway.engine.run.cancellation import Cancellation
    from headway.engine.run.stages import Root


class ToolOutput(Protocol):
    """The receiver of progress, parts, log messages and checkpoints of a tool.

    Its methods may be called from any thread, and never wait; `yield_if_due` is for the event
    loop only. In a thread whose run was stopped they raise `RunCancelled`.
    """

    @property
    def stages(self) -> "Root | None":
        """The root of the stages and tracks, once there are any."""
        ...

    def report(
        self, progress: float, total: float | None, message: str | Callable[[], str] | None
    ) -> None:
        """Take a progress report; a message that is a function is called only if it is written."""
        ...

    def open_stages(self) -> "Root":
        """Return the root of the stages and tracks; make it if there is none yet."""
        ...

    def write_sample(self) -> None:
        """Take what the stages and tracks add up to now, and write it when pacing allows."""
        ...

    def emit_event(self, event: Event) -> None:
        """Take a part, a log message, a notification or a checkpoint.

        Raises:
            ValueError: It is a part that is too large.
        """
        ...

    def check_not_stopped(self) -> bool:
        """Raise `RunCancelled` in a thread whose run was stopped; else tell if this is the loop."""
        ...

    async def yield_if_due(self) -> None:
        """Let the event loop serve others if the tool has held it for long."""
        ...


class ToolRun(Protocol):
    """The part of a run that the code of a tool may use.

    A `Run` has it where a server executes the tool; a `Recorder` where there is no server: in a
    test, or in a process of `in_process`.
    """

    @property
    def output(self) -> ToolOutput:
        """The receiver of what the tool reports and gives out."""
        ...

    @property
    def checkpoints(self) -> "Checkpoints | None":
        """The checkpoints of earlier attempts, to which it adds; None if it cannot restart."""
        ...

    @property
    def cancellation(self) -> "Cancellation | None":
        """The hooks and shields of the run; None where nothing can stop it."""
        ...

    @property
    def attempt(self) -> int:
        """1, or more in a process that has begun the run anew."""
        ...

    @property
    def ended(self) -> bool:
        """True when its output is no longer accepted."""
        ...

    @property
    def stop_event(self) -> Event | None:
        """The end that the run was asked to come to; None while nobody has stopped it."""
        ...

    def mark_function_begun(self) -> None:
        """Note that the author's function begins, with complete arguments; from any thread."""
        ...

    async def wait_until_stored(self) -> None:
        """Return when everything that the tool has given out is in the storage.

        Raises:
            JournalUnavailable: The storage cannot be written now; it is tried again.
            Conflict, StreamEnded: Another process has the run.
        """
        ...

    def stop(self, end: Event) -> None:
        """Ask the run to stop, and to end with `end`."""
        ...


current_run: ContextVar[ToolRun | None] = ContextVar("headway_run", default=None)
"""None where there is no run, and while the message of a track's item is made."""

is_muted: ContextVar[bool] = ContextVar("headway_muted", default=False)
"""Whether `current_run` is None on purpose, so that nothing is logged about it."""
